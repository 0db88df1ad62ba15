/**
 * Process that posts prepared requests to the gateway or the relay: as fast as they are answered, over a number of
 * connections; or by a timetable that does not wait for answers, so that a slow answer cannot make the requests after
 * it look fast. Driven by messages of `lab.ts`.
 */

import net from "node:net";
import { type BodyOrder, makeRequests, nowMs } from "./bodies.ts";

export type LoadOrder =
  | ({ kind: "prepare"; port: number } & BodyOrder)
  /** `ratePerSecond`: null = as fast as they are answered. */
  | { kind: "run"; connections: number; ratePerSecond: number | null };

export type LoadReply =
  | { kind: "prepared" }
  /**
   * Per message (`nowMs`): when the timetable wanted it sent, which is when it was sent if there is no timetable; when
   * its first byte was written; when its 200 was read.
   */
  | {
      kind: "done";
      scheduledAtMs: Float64Array;
      sentAtMs: Float64Array;
      acceptedAtMs: Float64Array;
      refusedCount: number;
    };

let port = 0;
let requests: Buffer[] = [];

// Its parent is gone, and with it whoever would end it.
process.once("disconnect", () => process.exit());

process.on("message", (order: LoadOrder) => {
  if (order.kind === "prepare") {
    port = order.port;
    requests = makeRequests(`127.0.0.1:${port}`, order);
    send({ kind: "prepared" });
  } else {
    run(order).then(send, (error: unknown) => {
      process.stderr.write(`load: ${error}\n`);
      process.exit(1);
    });
  }
});

function send(reply: LoadReply): void {
  process.send!(reply);
}

async function run({ connections: count, ratePerSecond }: Extract<LoadOrder, { kind: "run" }>) {
  const sentAtMs = new Float64Array(requests.length);
  const acceptedAtMs = new Float64Array(requests.length);
  let next = 0;
  let doneCount = 0;
  let refusedCount = 0;
  const idle: Connection[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();

  const connections = await Promise.all(Array.from({ length: count }, () => connect(port)));
  const startMs = nowMs();
  const scheduledMs = (index: number) =>
    ratePerSecond === null ? startMs : startMs + (index / ratePerSecond) * 1_000;

  const takeNext = (connection: Connection) => {
    if (next < requests.length && scheduledMs(next) <= nowMs()) post(connection);
    else idle.push(connection);
  };
  const post = (connection: Connection) => {
    const index = next++;
    sentAtMs[index] = nowMs();
    connection.post(requests[index]!, (status) => {
      acceptedAtMs[index] = nowMs();
      if (status !== 200) refusedCount++;
      doneCount++;
      if (doneCount === requests.length) resolve();
      takeNext(connection);
    });
  };

  for (const connection of connections) takeNext(connection);
  const timer = setInterval(() => {
    while (next < requests.length && idle.length > 0 && scheduledMs(next) <= nowMs()) post(idle.pop()!);
    if (next >= requests.length) clearInterval(timer);
  }, 1);
  await promise;
  for (const connection of connections) connection.close();
  const scheduledAtMs = ratePerSecond === null ? sentAtMs : sentAtMs.map((_, index) => scheduledMs(index));
  return { kind: "done" as const, scheduledAtMs, sentAtMs, acceptedAtMs, refusedCount };
}

interface Connection {
  post(request: Buffer, onAnswer: (status: number) => void): void;
  close(): void;
}

/** One request at a time; answers are short and are read whole. */
async function connect(toPort: number): Promise<Connection> {
  const socket = net.connect({ host: "127.0.0.1", port: toPort, noDelay: true });
  await new Promise<void>((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once("error", reject);
  });
  let waiting: ((status: number) => void) | null = null;
  let read = "";
  socket.setEncoding("latin1");
  socket.on("data", (chunk: string) => {
    read += chunk;
    const headEnd = read.indexOf("\r\n\r\n");
    if (headEnd === -1) return;
    const length = Number(/content-length: *(\d+)/i.exec(read)?.[1] ?? 0);
    if (read.length < headEnd + 4 + length) return;
    const status = Number(read.slice(9, 12));
    read = "";
    const answered = waiting;
    waiting = null;
    answered?.(status);
  });
  return {
    post(request, onAnswer) {
      waiting = onAnswer;
      socket.write(request);
    },
    close: () => socket.destroy(),
  };
}
