/** Processes of the benchmark's own, and the messages that they answer with. */

import { type ChildProcess, fork } from "node:child_process";

const replyBoundMs = 60_000;
const stopBoundMs = 20_000;

/** @param file  beside this one */
export function startChild(file: string): ChildProcess {
  return fork(new URL(file, import.meta.url), { serialization: "advanced" });
}

/** The next message of this kind; rejects if the process ends or nothing comes in time. */
export function nextReply<T extends { kind: string }, K extends T["kind"]>(
  child: ChildProcess,
  kind: K,
  boundMs = replyBoundMs,
): Promise<Extract<T, { kind: K }>> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => finish(new Error(`no "${kind}" within ${boundMs} ms`)), boundMs);
    const finish = (error: Error | null, message?: Extract<T, { kind: K }>) => {
      clearTimeout(timer);
      child.off("message", onMessage);
      child.off("exit", onExit);
      if (error) reject(error);
      else resolve(message!);
    };
    const onMessage = (message: unknown) => {
      if ((message as T).kind === kind) finish(null, message as Extract<T, { kind: K }>);
    };
    const onExit = () => finish(new Error(`a process ended before it said "${kind}"`));
    child.on("message", onMessage);
    child.on("exit", onExit);
  });
}

/** Ends it, by force if it does not end itself; settles when it is gone. */
export async function stopChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), stopBoundMs);
  await gone;
  clearTimeout(timer);
}
