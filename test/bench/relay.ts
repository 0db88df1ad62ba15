/**
 * Process that does the least a relay can do, for comparison: HTTP in, check the signature, parse, build the payload,
 * sign it, and send it with undici from one worker thread. Nothing is stored, nothing is tried again.
 *
 * What goes out is what the gateway sends for format `intelli`: the same bytes under the same headers, signed for each
 * endpoint. Each connection waits for its answer before it carries the next request.
 */

import { createHmac, randomUUID, timingSafeEqual } from "node:crypto";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { Agent, request } from "undici";
import { appSecret } from "./bodies.ts";
import { type RelayedEvent, writePayload } from "./relay-payload.ts";

/** Where the events of a business number go. */
export interface RelayRoute {
  phoneNumberId: string;
  clientRef: string;
  endpoints: { url: string; secret: string }[];
}

export type RelayOrder = { kind: "start"; routes: RelayRoute[] };
export type RelayReply = { kind: "listening"; port: number };

const connectionCount = 64;

interface Outgoing {
  phoneNumberId: string;
  payload: string;
}

if (isMainThread) {
  process.on("message", (order: RelayOrder) => serve(order.routes));
  // Its parent is gone, and with it whoever would end it.
  process.once("disconnect", () => process.exit());
} else {
  sendAll(workerData as RelayRoute[]);
}

function serve(routes: RelayRoute[]): void {
  const worker = new Worker(new URL(import.meta.url), { workerData: routes });
  const clientRefs = new Map(routes.map((route) => [route.phoneNumberId, route.clientRef]));
  let waiting: Outgoing[] = [];
  const server = http.createServer((incoming, response) => {
    const chunks: Buffer[] = [];
    incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
    incoming.on("end", () => {
      const body = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
      if (!isSigned(body, String(incoming.headers["x-hub-signature-256"]))) {
        response.writeHead(401).end();
        return;
      }
      const event: RelayedEvent = JSON.parse(body.toString("utf8")).entry[0].changes[0].value;
      const phoneNumberId = event.metadata.phone_number_id;
      waiting.push({ phoneNumberId, payload: writePayload(event, clientRefs.get(phoneNumberId)!) });
      if (waiting.length === 1) {
        setImmediate(() => {
          worker.postMessage(waiting);
          waiting = [];
        });
      }
      response.writeHead(200, { "content-length": 0 }).end();
    });
  });
  server.listen(0, "127.0.0.1", () => {
    process.send!({ kind: "listening", port: (server.address() as AddressInfo).port } satisfies RelayReply);
  });
}

function isSigned(body: Buffer, signature: string): boolean {
  const expected = createHmac("sha256", appSecret).update(body).digest();
  const given = Buffer.from(signature.slice("sha256=".length), "hex");
  return given.length === expected.length && timingSafeEqual(given, expected);
}

function sendAll(routes: RelayRoute[]): void {
  const agent = new Agent({ connections: connectionCount, pipelining: 1, allowH2: false });
  const endpointsOf = new Map(routes.map((route) => [route.phoneNumberId, route.endpoints]));
  parentPort!.on("message", (outgoing: Outgoing[]) => {
    for (const { phoneNumberId, payload } of outgoing) {
      for (const { url, secret } of endpointsOf.get(phoneNumberId)!) void post(url, secret, payload, agent);
    }
  });
}

async function post(url: string, secret: string, payload: string, agent: Agent): Promise<void> {
  const { body } = await request(url, {
    method: "POST",
    dispatcher: agent,
    headers: makeHeaders(payload, secret),
    body: payload,
  });
  await body.dump();
}

function makeHeaders(payload: string, secret: string): Record<string, string> {
  const id = randomUUID();
  const timestamp = String(Math.floor(Date.now() / 1_000));
  const key = Buffer.from(secret.slice("whsec_".length), "base64");
  const standard = createHmac("sha256", key).update(`${id}.${timestamp}.${payload}`).digest("base64");
  return {
    "Content-Type": "application/json",
    "User-Agent": "Bare-relay/0.1.0",
    "webhook-id": id,
    "webhook-timestamp": timestamp,
    "webhook-signature": `v1,${standard}`,
    "X-Intelli-Signature": `sha256=${createHmac("sha256", secret).update(payload).digest("hex")}`,
  };
}
