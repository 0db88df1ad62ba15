/**
 * Process that does the least a relay can do, for comparison: HTTP in, check the signature, parse, build the payload,
 * sign it, and send it with undici from one worker thread. Nothing is stored, nothing is tried again.
 */

import { createHmac, timingSafeEqual } from "node:crypto";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { Agent, request } from "undici";
import { appSecret } from "./bodies.ts";

export type RelayOrder = { kind: "start"; target: string };
export type RelayReply = { kind: "listening"; port: number };

const partnerSecret = "whsec_bench";

if (isMainThread) process.on("message", (order: RelayOrder) => serve(order.target));
else sendAll(workerData as string);

function serve(target: string): void {
  const worker = new Worker(new URL(import.meta.url), { workerData: target });
  let waiting: string[] = [];
  const server = http.createServer((incoming, response) => {
    const chunks: Buffer[] = [];
    incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
    incoming.on("end", () => {
      const body = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
      const expected = createHmac("sha256", appSecret).update(body).digest();
      const given = Buffer.from(String(incoming.headers["x-hub-signature-256"]).slice(7), "hex");
      if (given.length !== expected.length || !timingSafeEqual(given, expected)) {
        response.writeHead(401).end();
        return;
      }
      const { contacts, messages } = JSON.parse(body.toString("utf8")).entry[0].changes[0].value;
      const { from, ...message } = messages[0];
      const contact = { name: contacts[0].profile.name, wa_id: contacts[0].wa_id };
      waiting.push(JSON.stringify({ event: "message.received", from: `+${from}`, message, contact }));
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

function sendAll(target: string): void {
  const agent = new Agent({ connections: 64, pipelining: 1, allowH2: false });
  parentPort!.on("message", (payloads: string[]) => {
    for (const payload of payloads) void post(target, payload, agent);
  });
}

async function post(target: string, payload: string, agent: Agent): Promise<void> {
  const signature = createHmac("sha256", partnerSecret).update(payload).digest("hex");
  const { body } = await request(target, {
    method: "POST",
    dispatcher: agent,
    headers: { "content-type": "application/json", "x-intelli-signature": `sha256=${signature}` },
    body: payload,
  });
  await body.dump();
}
