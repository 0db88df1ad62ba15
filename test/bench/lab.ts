/**
 * Everything that is measured or measures, each part in a process of its own on this one machine: load, relay, gateway
 * with its database, and endpoints. Relay and gateway get the same bodies from the same load and send to the same
 * endpoints.
 */

import type { ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chmod, mkdir, mkdtemp, realpath, rm } from "node:fs/promises";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { nextReply, startChild, stopChild } from "./children.ts";
import { type BenchDatabase, openBenchDatabase } from "./database.ts";
import { type CountingEndpoint, openEndpoint } from "./endpoint.ts";
import { addRoute, type Gateway, startGateway } from "./gateway.ts";
import type { ReceiverReply } from "./receiver.ts";
import type { RelayOrder, RelayReply, RelayRoute } from "./relay.ts";

/** What is asked to send: both get the same. */
export type Sender = "relay" | "gateway";
export const fanOutCount = 10;

export interface Lab {
  load: ChildProcess;
  relay: ChildProcess;
  gateway: Gateway;
  database: BenchDatabase;
  /** Counts what arrives. */
  endpoint: CountingEndpoint;
  /** Notes when each message arrives. */
  receiver: ChildProcess;
  routes: Record<RouteName, RelayRoute>;
  /** Ids of the webhooks of each route. */
  webhookIds: Record<RouteName, number[]>;
  portOf(sender: Sender): number;
  /** Numbers for so many messages that no other body of this run has. */
  takeNumbers(count: number): number;
  /** How many processes waited for a core in the minute before it was opened: not 0 = others work here too. */
  loadAverageBefore: number;
  /** All counts of events are multiplied by it; 1 = a full measurement. */
  scale: number;
  /** A directory for files, removed at the end. */
  directory: string;
  close(): Promise<void>;
}

export type RouteName = "peak" | "fanOut" | "latency" | "backlog";

export async function openLab(scale: number): Promise<Lab> {
  const loadAverageBefore = loadavg()[0]!;
  const directory = await mkdtemp(join(tmpdir(), "posthorn-bench-"));
  const closers: (() => Promise<unknown>)[] = [() => removeDirectory(directory)];
  const close = async () => {
    for (const closer of closers.splice(0).reverse()) await closer();
  };
  const started = (child: ChildProcess) => {
    closers.push(() => stopChild(child));
    return child;
  };
  const closing = <T extends { close(): Promise<unknown> }>(part: T): T => {
    closers.push(() => part.close());
    return part;
  };
  try {
    await chmod(directory, 0o711); // As root PostgreSQL and nginx run as other users, who must get in.
    const [nginxDir, dataDir] = [join(directory, "nginx"), join(directory, "data")];
    for (const path of [nginxDir, dataDir]) await mkdir(path, { mode: 0o711 });
    const load = started(startChild("load.ts"));
    const receiver = started(startChild("receiver.ts"));
    const receiverPort = (await nextReply<ReceiverReply, "listening">(receiver, "listening")).port;
    const endpoint = closing(await openEndpoint(nginxDir));
    const routes = makeRoutes(endpoint.url, `http://127.0.0.1:${receiverPort}`);
    const relay = started(startChild("relay.ts"));
    const listening = nextReply<RelayReply, "listening">(relay, "listening");
    relay.send({ kind: "start", routes: Object.values(routes) } satisfies RelayOrder);
    const relayPort = (await listening).port;
    // At the first start Node takes the types off our files, which needs memory that no later start does.
    await (await startGateway(dataDir)).close();
    const gateway = closing(await startGateway(dataDir));
    const database = closing(await openBenchDatabase(dataDir));
    const webhookIds = {
      peak: await addRoute(gateway, routes.peak),
      fanOut: await addRoute(gateway, routes.fanOut),
      latency: await addRoute(gateway, routes.latency),
      backlog: await addRoute(gateway, routes.backlog),
    };
    let messageCount = 0;
    return {
      load,
      relay,
      gateway,
      database,
      endpoint,
      receiver,
      routes,
      webhookIds,
      portOf: (sender) => (sender === "relay" ? relayPort : gateway.port),
      takeNumbers(count) {
        messageCount += count;
        return messageCount - count;
      },
      loadAverageBefore,
      scale,
      directory,
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** One business number for each thing to measure, so that its events go to its webhooks only. */
function makeRoutes(endpointUrl: string, receiverUrl: string): Record<RouteName, RelayRoute> {
  const route = (clientRef: string, phoneNumberId: string, urls: string[]) => ({
    clientRef,
    phoneNumberId,
    endpoints: urls.map((url) => ({ url, secret: `whsec_${randomBytes(32).toString("base64")}` })),
  });
  const fanOutUrls = Array.from({ length: fanOutCount }, (_, index) => `${endpointUrl}/fan-out/${index + 1}`);
  return {
    peak: route("bench-peak", "620000000000101", [`${endpointUrl}/peak`]),
    fanOut: route("bench-fan-out", "620000000000102", fanOutUrls),
    latency: route("bench-latency", "620000000000103", [`${receiverUrl}/latency`]),
    backlog: route("bench-backlog", "620000000000104", [`${endpointUrl}/backlog`]),
  };
}

async function removeDirectory(directory: string): Promise<void> {
  // A link to elsewhere if the temporary directory is closed to PostgreSQL's user.
  const databaseDir = await realpath(join(directory, "data", "postgres")).catch(() => null);
  if (databaseDir !== null) await rm(databaseDir, { recursive: true, force: true });
  await rm(directory, { recursive: true, force: true });
}
