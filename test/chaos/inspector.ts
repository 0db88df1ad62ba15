/**
 * Reaches into a gateway process from outside, by the inspector of Node: ends or blocks one of its worker threads, and
 * moves its clock. The gateway runs as users run it; only `NODE_OPTIONS` opens the inspector.
 */

import { waitFor } from "../helpers/wait.ts";

/** To be given to the process in its environment. */
export const inspectorEnv = { NODE_OPTIONS: "--inspect=127.0.0.1:0" };

export interface Inspector {
  /** How many worker threads run now. */
  threadCount(): number;
  /** Runs an expression in a worker thread, the oldest that runs; does not wait for an answer. */
  runInThread(expression: string): void;
  /**
   * From now on `Date` tells another time everywhere in the process, as after somebody has set the clock of the
   * machine: timers, which count on, stay right.
   */
  setClock(offsetMs: number): Promise<void>;
  close(): void;
}

/** @param lines  the output of the process, in which it says where its inspector listens */
export async function openInspector(lines: readonly string[]): Promise<Inspector> {
  const addresses = await waitFor(
    "address of the inspector",
    () => lines.flatMap((line) => /(ws:\/\/127\.0\.0\.1:\S+)/.exec(line)?.[1] ?? []),
    (found) => found.length > 0,
  );
  const socket = new WebSocket(addresses.at(-1)!);
  await new Promise((resolve, reject) => {
    socket.addEventListener("open", resolve);
    socket.addEventListener("error", reject);
  });
  const sessions = new Set<string>();
  const answers = new Map<number, () => void>();
  let lastId = 0;

  function send(method: string, params: object): Promise<void> {
    const id = ++lastId;
    const answered = new Promise<void>((resolve) => answers.set(id, resolve));
    socket.send(JSON.stringify({ id, method, params }));
    return answered;
  }

  function sendToThread(sessionId: string, expression: string): Promise<void> {
    const id = ++lastId;
    const answered = new Promise<void>((resolve) => answers.set(id, resolve));
    const message = JSON.stringify({ id, method: "Runtime.evaluate", params: { expression } });
    void send("NodeWorker.sendMessageToWorker", { sessionId, message });
    return answered;
  }

  socket.addEventListener("message", ({ data }) => {
    const message = JSON.parse(String(data));
    if (message.method === "NodeWorker.attachedToWorker") sessions.add(message.params.sessionId);
    if (message.method === "NodeWorker.detachedFromWorker") sessions.delete(message.params.sessionId);
    const inner = message.method === "NodeWorker.receivedMessageFromWorker" && message.params.message;
    const { id } = inner ? JSON.parse(inner) : message;
    answers.get(id)?.();
    answers.delete(id);
  });
  await send("NodeWorker.enable", { waitForDebuggerOnStart: false });

  return {
    threadCount: () => sessions.size,
    runInThread(expression) {
      const [sessionId] = sessions;
      if (sessionId === undefined) throw new Error("the process has no worker thread");
      void sendToThread(sessionId, expression);
    },
    async setClock(offsetMs) {
      const expression = `(${moveDate})(${offsetMs})`;
      await Promise.all([
        send("Runtime.evaluate", { expression }),
        ...[...sessions].map((sessionId) => sendToThread(sessionId, expression)),
      ]);
    },
    close: () => socket.close(),
  };
}

/** Runs inside the gateway, so it may use nothing of this file. */
function moveDate(offsetMs: number): void {
  const scope = globalThis as typeof globalThis & { RealDate?: DateConstructor };
  scope.RealDate ??= Date;
  const RealDate = scope.RealDate;
  class MovedDate extends RealDate {
    constructor(...parts: unknown[]) {
      if (parts.length === 0) super(RealDate.now() + offsetMs);
      else super(...(parts as [number]));
    }
    static override now(): number {
      return RealDate.now() + offsetMs;
    }
    // Dates made before a move, or by Node itself, are dates still.
    static override [Symbol.hasInstance](value: unknown): boolean {
      return Object.prototype.toString.call(value) === "[object Date]";
    }
  }
  scope.Date = MovedDate as unknown as DateConstructor;
}
