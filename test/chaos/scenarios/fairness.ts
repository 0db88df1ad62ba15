/**
 * One webhook hangs, one refuses, one answers after 2 s, seven are healthy, and all get the same events: the healthy ones
 * must not notice the others.
 */

import { queryRows } from "../../helpers/query-rows.ts";
import { waitFor } from "../../helpers/wait.ts";
import { measureClaim, type StatementCost } from "../claim-cost.ts";
import { type Delays, measureDelays } from "../delays.ts";
import { waitForEnds } from "../judge.ts";
import { startLoad } from "../load.ts";
import { type Outcome, openScene, watchMemory } from "../scene.ts";

export interface FairnessOptions {
  databaseUrl: string;
  /** Events a second; each goes to every webhook. */
  ratePerSecond: number;
  /** How long the healthy ones are measured alone, and then beside the others. */
  aloneMs: number;
  besideMs: number;
}

export interface Fairness {
  outcome: Outcome;
  alone: Delays;
  beside: Delays;
  /** Of the one that hangs, the one that refuses and the slow one, when it ended. */
  backlogCount: number;
  peakMib: number;
  /** Of a claim for the healthy ones, and of a look over all webhooks. */
  claim: StatementCost;
  look: StatementCost;
}

const healthyNames = Array.from({ length: 7 }, (_, index) => `healthy-${index + 1}`);
/** At the start of a phase connections are opened; that is no part of what is measured. */
const warmUpMs = 1_000;

export async function compareHealthy(options: FairnessOptions): Promise<Fairness> {
  const scene = await openScene({
    databaseUrl: options.databaseUrl,
    answerOf: (name) => (name === "hangs" ? { delayMs: null } : { delayMs: name === "slow" ? 2_000 : 0 }),
  });
  try {
    const { gateway, ledger, databaseUrl } = scene;
    const healthy = [];
    for (const name of healthyNames) healthy.push(await scene.addWebhook(name));
    const load = startLoad({
      urls: () => [gateway.url()],
      ledger,
      ratePerSecond: options.ratePerSecond,
      prefix: "wamid.fair",
      openMax: 1_000,
    });
    const peakMib = watchMemory(gateway.pid());
    const alone = await measurePhase(options.aloneMs);
    const bad = [
      await scene.addWebhook("hangs"),
      await scene.addWebhook("slow"),
      await scene.addWebhook("refuses", { webhooks: "http://127.0.0.1:9/refuses" }),
    ];
    const beside = await measurePhase(options.besideMs);
    const backlogCount = await countWaiting(bad.map(({ id }) => id));
    const cost = await measureClaim(
      databaseUrl,
      healthy.map(({ id }) => id),
      64,
    );
    await load.finish();
    await waitForEnds(databaseUrl, healthy, 60_000);
    const outcome = await scene.judge("fair between webhooks", healthy);
    const highestMib = peakMib();
    // A stop in order would wait for the requests that hang.
    await gateway.kill("SIGKILL");
    outcome.notes.push(
      `healthy p99 ${alone.p99Ms} ms alone, ${beside.p99Ms} ms beside the others (p50 ${alone.p50Ms}, ${beside.p50Ms}; longest ${alone.longestMs}, ${beside.longestMs})`,
      `${backlogCount} deliveries of the others waited, a claim of ${cost.claim.rowCount} for the healthy ones looked at ${cost.claim.pageCount} pages in ${cost.claim.durationMs} ms`,
      `gateway at most ${highestMib} MiB`,
    );
    return {
      outcome,
      alone,
      beside,
      backlogCount,
      peakMib: highestMib,
      ...cost,
    };

    async function measurePhase(durationMs: number): Promise<Delays> {
      const fromAtMs = performance.now() + warmUpMs;
      await new Promise((resolve) => setTimeout(resolve, warmUpMs + durationMs));
      const toAtMs = performance.now();
      const postedCount = load.count();
      // Those on the way count too: leaving the late ones out would flatter.
      await waitFor(
        "arrival of what was posted",
        () => Math.min(...healthyNames.map((name) => ledger.takenCountAt(name))),
        (count) => count >= postedCount,
        90_000,
      );
      return measureDelays(ledger, healthyNames, fromAtMs, toAtMs);
    }

    async function countWaiting(ids: number[]): Promise<number> {
      const [row] = await queryRows(databaseUrl)(
        "SELECT count(*)::int AS count FROM delivery WHERE webhook_id = ANY($1) AND due_at IS NOT NULL",
        [ids],
      );
      return row.count;
    }
  } finally {
    await scene.close();
  }
}
