/**
 * Process that stands for the partner's endpoint: takes deliveries as cheaply as a Node process can, answers 200, and
 * notes when each message came. Driven by messages of `lab.ts`.
 */

import net, { type AddressInfo } from "node:net";
import { messageNumberIn, nowMs } from "./bodies.ts";

export type ReceiverOrder = { kind: "expect"; first: number; count: number } | { kind: "count" };
export type ReceiverReply =
  | { kind: "listening"; port: number }
  | { kind: "ready" }
  /** Every expected message has come; per message the time of its first arrival (`nowMs`). */
  | { kind: "complete"; receivedAtMs: Float64Array; repeatCount: number }
  /** Requests of any kind since it was started. */
  | { kind: "counted"; count: number };

const answer = Buffer.from("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
let first = 0;
let receivedAtMs = new Float64Array(0);
let missingCount = 0;
let repeatCount = 0;
let requestCount = 0;

// Its parent is gone, and with it whoever would end it.
process.once("disconnect", () => process.exit());

process.on("message", (order: ReceiverOrder) => {
  if (order.kind === "count") {
    send({ kind: "counted", count: requestCount });
    return;
  }
  first = order.first;
  receivedAtMs = new Float64Array(order.count);
  missingCount = order.count;
  repeatCount = 0;
  send({ kind: "ready" });
});

const server = net.createServer({ noDelay: true }, (socket) => {
  let read = "";
  socket.setEncoding("latin1");
  socket.on("error", () => socket.destroy());
  socket.on("data", (chunk: string) => {
    read += chunk;
    for (;;) {
      const headEnd = read.indexOf("\r\n\r\n");
      if (headEnd === -1) return;
      const length = Number(/content-length: *(\d+)/i.exec(read)?.[1] ?? 0);
      const end = headEnd + 4 + length;
      if (read.length < end) return;
      note(messageNumberIn(read.slice(headEnd, end)));
      read = read.slice(end);
      socket.write(answer);
    }
  });
});
server.listen(0, "127.0.0.1", () =>
  send({ kind: "listening", port: (server.address() as AddressInfo).port }),
);

function note(number: number): void {
  requestCount++;
  const index = number - first;
  if (!(index >= 0 && index < receivedAtMs.length)) return;
  if (receivedAtMs[index] !== 0) {
    repeatCount++;
    return;
  }
  receivedAtMs[index] = nowMs();
  if (--missingCount === 0) send({ kind: "complete", receivedAtMs, repeatCount });
}

function send(reply: ReceiverReply): void {
  process.send!(reply);
}
