/** Worker threads that die, in every way a thread can, and one that hangs until the watchdog ends it. */

import { waitFor } from "../../helpers/wait.ts";
import { inspectorEnv, openInspector } from "../inspector.ts";
import { waitForEnds } from "../judge.ts";
import { startLoad } from "../load.ts";
import { type Outcome, openScene } from "../scene.ts";

export interface ThreadFaultOptions {
  databaseUrl: string;
  ratePerSecond: number;
  faults: readonly ThreadFault[];
}

/** What a thread is made to do; each is left to the thread's event loop, so that the inspector gets its answer. */
const expressions = {
  exits: "setImmediate(() => process.exit(1))",
  throws: "setImmediate(() => { throw new Error('chaos'); })",
  "fills its heap":
    "setImmediate(() => { const kept = []; for (;;) kept.push(Array.from({ length: 1e5 }, () => ({}))); })",
  hangs: "setImmediate(() => { for (;;); })",
};
export type ThreadFault = keyof typeof expressions;

const threadCount = 2;
/** The watchdog's 10 s, and the start of a thread on a busy machine. */
const replacedMsMax = 40_000;

export async function breakThreads(options: ThreadFaultOptions): Promise<Outcome> {
  const { databaseUrl, ratePerSecond, faults } = options;
  const scene = await openScene({
    databaseUrl,
    env: { ...inspectorEnv, POSTHORN_WORKERS: String(threadCount) },
    // Slow enough that every thread has requests under way whenever it is broken.
    answerOf: () => ({ delayMs: 500 }),
  });
  const inspector = await openInspector(scene.gateway.lines);
  try {
    const { gateway, ledger } = scene;
    const webhooks = [await scene.addWebhook("one", { max_in_flight: 256 })];
    const load = startLoad({ urls: () => [gateway.url()], ledger, ratePerSecond, prefix: "wamid.thread" });
    const notes: string[] = [];
    for (const fault of faults) {
      const countBefore = ledger.takenCountAt("one");
      await waitFor(
        "deliveries",
        () => ledger.takenCountAt("one"),
        (count) => count > countBefore + ratePerSecond / 4,
        60_000,
      );
      const lostBefore = countLines(gateway.lines, "attempts were lost with their worker thread");
      const brokenAtMs = performance.now();
      inspector.runInThread(expressions[fault]);
      await waitFor(
        "attempts that were lost",
        () => countLines(gateway.lines, "attempts were lost with their worker thread"),
        (count) => count > lostBefore,
        replacedMsMax,
      );
      await waitFor(
        "thread in its place",
        inspector.threadCount,
        (count) => count === threadCount,
        replacedMsMax,
      );
      notes.push(`${fault}: replaced after ${Math.round(performance.now() - brokenAtMs)} ms`);
    }
    await load.finish();
    await waitForEnds(databaseUrl, webhooks, 90_000);
    const outcome = await scene.judge("a worker thread dies or hangs", webhooks);
    outcome.notes.push(...notes);
    return outcome;
  } finally {
    inspector.close();
    await scene.close();
  }
}

function countLines(lines: readonly string[], text: string): number {
  return lines.filter((line) => line.includes(text)).length;
}
