/** The clock of the gateway jumps by an hour, back and forth, while events come in, fail and are tried again. */

import { queryRows } from "../../helpers/query-rows.ts";
import { waitFor } from "../../helpers/wait.ts";
import { inspectorEnv, openInspector } from "../inspector.ts";
import { waitForEnds } from "../judge.ts";
import { startLoad } from "../load.ts";
import { createRandom } from "../random.ts";
import { type Outcome, openScene } from "../scene.ts";

export interface ClockJumpOptions {
  databaseUrl: string;
  seed: number;
  ratePerSecond: number;
  /** How often the clock goes an hour ahead, back, an hour behind and back. */
  roundCount: number;
}

const hourMs = 3_600_000;

export async function jumpClock(options: ClockJumpOptions): Promise<Outcome> {
  const random = createRandom(options.seed);
  const scene = await openScene({
    databaseUrl: options.databaseUrl,
    env: { ...inspectorEnv, POSTHORN_RETRY_SECONDS: "1,1,1" },
    answerOf: (_, repeatNumber) => ({
      delayMs: random.between(0, 100),
      status: repeatNumber === 1 && random.next() < 0.1 ? 500 : 200,
    }),
  });
  const inspector = await openInspector(scene.gateway.lines);
  try {
    const { gateway, ledger, databaseUrl } = scene;
    const { ratePerSecond } = options;
    const webhooks = [await scene.addWebhook("one"), await scene.addWebhook("other", { max_in_flight: 16 })];
    const load = startLoad({ urls: () => [gateway.url()], ledger, ratePerSecond, prefix: "wamid.clock" });
    const offsets = Array.from({ length: options.roundCount }, () => [hourMs, 0, -hourMs, 0]).flat();
    let longestHoldMs = 0;
    for (const offsetMs of offsets) {
      await inspector.setClock(offsetMs);
      const jumpedAtMs = performance.now();
      const wamid = `wamid.clock-${load.count() + ratePerSecond}`;
      // Whatever was planned before the jump, what is posted after it goes out.
      await waitFor(
        `arrival of what was posted after the clock went to ${offsetMs} ms`,
        () => [...ledger.arrivalsAt("one").values()].some((one) => one.wamid === wamid && one.takenCount > 0),
        (hasArrived) => hasArrived,
        40_000,
      );
      longestHoldMs = Math.max(longestHoldMs, Math.round(performance.now() - jumpedAtMs));
    }
    await load.finish();
    // What was planned by a clock an hour ahead waits for that hour, which now comes.
    await inspector.setClock(hourMs);
    await waitForEnds(databaseUrl, webhooks, 90_000);
    const [seen] = await queryRows(databaseUrl)(
      `SELECT min(received_at) < now() - interval '50 minutes' AND max(received_at) > now() + interval '50 minutes'
         AND (SELECT min(started_at) < now() - interval '50 minutes' FROM attempt) AS has_jumped FROM event`,
    );
    const outcome = await scene.judge("the clock jumps an hour", webhooks);
    if (!seen.has_jumped) outcome.faults.push("the clock did not jump in all threads");
    outcome.notes.push(
      `${offsets.length} jumps`,
      `an event posted a second after a jump went out ${longestHoldMs} ms after it at most`,
    );
    return outcome;
  } finally {
    inspector.close();
    await scene.close();
  }
}
