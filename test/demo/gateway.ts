/** The gateway as a process of its own, on a database that is thrown away, and the API calls that the demo makes. */

import { type ChildProcess, spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { chmod, mkdtemp, realpath, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Client, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { ClientService } from "../../gen/posthorn/v1/client_service_pb.ts";
import { ContactService } from "../../gen/posthorn/v1/contact_service_pb.ts";
import { DeliveryService } from "../../gen/posthorn/v1/delivery_service_pb.ts";
import { EventService } from "../../gen/posthorn/v1/event_service_pb.ts";
import { MessageService } from "../../gen/posthorn/v1/message_service_pb.ts";
import { WebhookService } from "../../gen/posthorn/v1/webhook_service_pb.ts";

/** Waits before the second, third and fourth attempt, in seconds; the usual ones are 10, 60 and 300. */
export const retrySeconds = [0.5, 1, 2];
export const appSecret = "demo-app-secret";

const operatorKey = "phk_demo_operator_key_of_some_length";
const startBoundMs = 60_000;
const stopBoundMs = 16_000;

export interface Gateway {
  url: string;
  startMs: number;
  webhooks: Client<typeof WebhookService>;
  deliveries: Client<typeof DeliveryService>;
  events: Client<typeof EventService>;
  clients: Client<typeof ClientService>;
  contacts: Client<typeof ContactService>;
  messages: Client<typeof MessageService>;
  /** Posts a WhatsApp body as Meta does; `secret` signs it. Gives the HTTP status and how long it took. */
  post(body: Uint8Array, secret?: string): Promise<{ status: number; tookMs: number }>;
  /** All that it printed so far. */
  output(): string;
}

/**
 * Starts a gateway, runs `use` with it, then stops it and removes its data, whatever happened.
 *
 * @param graphUrl  where it finds WhatsApp's Graph API
 */
export async function withGateway(graphUrl: string, use: (gateway: Gateway) => Promise<void>): Promise<void> {
  const dataDir = await mkdtemp(join(tmpdir(), "posthorn-demo-"));
  await chmod(dataDir, 0o711); // As root the embedded PostgreSQL runs as another user, who must get in.
  const beganAtMs = performance.now();
  // In the data directory, so that no .env of the caller's has a say.
  const child = spawn(process.execPath, [fileURLToPath(new URL("../../server/main.ts", import.meta.url))], {
    cwd: dataDir,
    env: {
      PATH: process.env.PATH,
      PORT: "0",
      POSTHORN_DATA_DIR: dataDir,
      POSTHORN_OPERATOR_KEY: operatorKey,
      POSTHORN_RETRY_SECONDS: retrySeconds.join(","),
      WHATSAPP_APP_SECRET: appSecret,
      WHATSAPP_GRAPH_URL: graphUrl,
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
  }
  try {
    const url = await waitForUrl(child, () => output);
    const startMs = performance.now() - beganAtMs;
    await use({ url, startMs, ...connect(url), output: () => output });
  } finally {
    await stop(child);
    await removeDataDir(dataDir);
  }
}

function connect(url: string) {
  const transport = createConnectTransport({
    baseUrl: url,
    httpVersion: "1.1",
    defaultTimeoutMs: 10_000,
    interceptors: [
      (next) => (request) => {
        request.header.set("Authorization", `Bearer ${operatorKey}`);
        return next(request);
      },
    ],
  });
  return {
    webhooks: createClient(WebhookService, transport),
    deliveries: createClient(DeliveryService, transport),
    events: createClient(EventService, transport),
    clients: createClient(ClientService, transport),
    contacts: createClient(ContactService, transport),
    messages: createClient(MessageService, transport),
    async post(body: Uint8Array, secret = appSecret) {
      const signature = createHmac("sha256", secret).update(body).digest("hex");
      const beganAtMs = performance.now();
      const response = await fetch(`${url}/whatsapp/webhook`, {
        method: "POST",
        headers: { "content-type": "application/json", "x-hub-signature-256": `sha256=${signature}` },
        body: new Uint8Array(body),
        signal: AbortSignal.timeout(10_000),
      });
      await response.arrayBuffer();
      return { status: response.status, tookMs: performance.now() - beganAtMs };
    },
  };
}

function waitForUrl(child: ChildProcess, output: () => string): Promise<string> {
  return new Promise((resolve, reject) => {
    const look = () => {
      const url = /"url":"(http[^"]+)"/.exec(output())?.[1];
      if (url === undefined) return;
      finish();
      resolve(url);
    };
    const fail = (what: string) => {
      finish();
      reject(new Error(`the gateway ${what}:\n${output()}`));
    };
    const onExit = () => fail("ended before it listened");
    const onError = (error: Error) => fail(`could not be started (${error.message})`);
    const timer = setTimeout(() => fail(`did not listen within ${startBoundMs} ms`), startBoundMs);
    const finish = () => {
      clearTimeout(timer);
      child.stdout!.off("data", look);
      child.off("exit", onExit);
      child.off("error", onError);
    };
    child.stdout!.on("data", look);
    child.on("exit", onExit);
    child.on("error", onError);
  });
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const timer = setTimeout(() => child.kill("SIGKILL"), stopBoundMs);
  child.kill("SIGTERM");
  await ended;
  clearTimeout(timer);
}

/** The database lies elsewhere, behind a link, if the temporary directory is closed to PostgreSQL's user. */
async function removeDataDir(dataDir: string): Promise<void> {
  const databaseDir = await realpath(join(dataDir, "postgres")).catch(() => null);
  if (databaseDir !== null) await rm(databaseDir, { recursive: true, force: true });
  await rm(dataDir, { recursive: true, force: true });
}
