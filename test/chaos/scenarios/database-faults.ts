/** A database that crashes under the gateway and comes back, and one that stands still for a while. */

import { waitFor } from "../../helpers/wait.ts";
import type { DatabaseServer } from "../database-server.ts";
import { waitForEnds } from "../judge.ts";
import { startLoad } from "../load.ts";
import { createRandom } from "../random.ts";
import { type Outcome, openScene, watchMemory } from "../scene.ts";

export interface DatabaseFaultOptions {
  server: DatabaseServer;
  databaseUrl: string;
  seed: number;
  ratePerSecond: number;
  faultCount: number;
}

const endBoundMs = 90_000;

/** `pg_ctl -m immediate stop` at random moments, and a start after a while. */
export async function crashDatabase(options: DatabaseFaultOptions): Promise<Outcome> {
  const random = createRandom(options.seed);
  return await underLoad("database crash and restart", options, random.next, async () => {
    await options.server.crash();
    await new Promise((resolve) => setTimeout(resolve, random.between(0, 1_500)));
    await options.server.start();
  });
}

/** SIGSTOP of all processes of the database for 5 s, longer than a new connection is waited for. */
export async function pauseDatabase(options: DatabaseFaultOptions): Promise<Outcome> {
  const random = createRandom(options.seed);
  return await underLoad("database paused for 5 s", options, random.next, async () => {
    await options.server.pause();
    await new Promise((resolve) => setTimeout(resolve, 5_000));
    options.server.resume();
  });
}

async function underLoad(
  name: string,
  { databaseUrl, ratePerSecond, faultCount }: DatabaseFaultOptions,
  random: () => number,
  fault: () => Promise<void>,
): Promise<Outcome> {
  const scene = await openScene({
    databaseUrl,
    env: { POSTHORN_RETRY_SECONDS: "1,2,3" },
    answerOf: (_, repeatNumber) => ({
      delayMs: Math.floor(random() * 60),
      status: repeatNumber === 1 && random() < 0.05 ? 500 : 200,
    }),
  });
  try {
    const { gateway, ledger } = scene;
    const webhooks = [await scene.addWebhook("one"), await scene.addWebhook("other", { max_in_flight: 16 })];
    const peakMib = watchMemory(gateway.pid());
    const load = startLoad({ urls: () => [gateway.url()], ledger, ratePerSecond, prefix: "wamid.database" });
    const moreTaken = async () => {
      const countBefore = ledger.takenCountAt("one");
      await waitFor(
        "events that go through",
        () => ledger.takenCountAt("one"),
        (count) => count > countBefore + ratePerSecond / 2,
        60_000,
      );
    };
    let longestRecoveryMs = 0;
    for (let count = 1; count <= faultCount; count++) {
      await moreTaken();
      await fault();
      const overAtMs = performance.now();
      await moreTaken();
      longestRecoveryMs = Math.max(longestRecoveryMs, Math.round(performance.now() - overAtMs));
    }
    await load.finish();
    await waitForEnds(databaseUrl, webhooks, endBoundMs);
    const outcome = await scene.judge(name, webhooks);
    const strange = [...ledger.statusCounts.keys()].filter((status) => status !== 200 && status !== 503);
    if (strange.length > 0) outcome.faults.push(`intake answered ${strange.join(", ")}`);
    if (ledger.unexplainedRefusals > 0)
      outcome.faults.push(`${ledger.unexplainedRefusals} times 503 without Retry-After`);
    outcome.notes.push(
      `${faultCount} times`,
      `events went through again after at most ${longestRecoveryMs} ms`,
      `${ledger.statusCounts.get(503) ?? 0} refused with 503`,
      `gateway at most ${peakMib()} MiB`,
    );
    return outcome;
  } finally {
    await scene.close();
  }
}
