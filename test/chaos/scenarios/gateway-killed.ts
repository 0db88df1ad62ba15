/** `kill -9` of the gateway at random moments, again and again, while events come in and go out. */

import { waitFor } from "../../helpers/wait.ts";
import { waitForEnds } from "../judge.ts";
import { startLoad } from "../load.ts";
import { createRandom } from "../random.ts";
import { type Outcome, openScene } from "../scene.ts";

export interface KillOptions {
  databaseUrl: string;
  seed: number;
  killCount: number;
  ratePerSecond: number;
  /** A life ends so long after the process listens, at most. */
  lifeMsMax: number;
}

/** Leases of 20 s, looked at every 2 s, and time for the webhook that takes 16 at a time to send what has come together. */
const endBoundMs = 240_000;

export async function killGateway(options: KillOptions): Promise<Outcome> {
  const random = createRandom(options.seed);
  // Slow enough that some requests are under way at any moment; some are refused at first.
  const scene = await openScene({
    databaseUrl: options.databaseUrl,
    env: { POSTHORN_RETRY_SECONDS: "1,2,3" },
    answerOf: (_, repeatNumber) => ({
      delayMs: random.between(0, 600),
      status: repeatNumber === 1 && random.next() < 0.05 ? 500 : 200,
    }),
  });
  try {
    const { gateway, ledger } = scene;
    const webhooks = [await scene.addWebhook("one"), await scene.addWebhook("other", { max_in_flight: 16 })];
    const { ratePerSecond } = options;
    const load = startLoad({ urls: () => [gateway.url()], ledger, ratePerSecond, prefix: "wamid.killed" });
    for (let kill = 1; kill <= options.killCount; kill++) {
      const countBefore = ledger.acknowledged.size;
      await new Promise((resolve) => setTimeout(resolve, random.between(50, options.lifeMsMax)));
      // A life in which nothing was acknowledged would prove nothing.
      await waitFor(
        "acknowledged events",
        () => ledger.acknowledged.size,
        (count) => count > countBefore,
        60_000,
      );
      await gateway.kill("SIGKILL");
      await gateway.restart();
    }
    const restartedAtMs = performance.now();
    await load.finish();
    await waitForEnds(scene.databaseUrl, webhooks, endBoundMs);
    const outcome = await scene.judge("kill -9 of the gateway", webhooks);
    outcome.notes.push(
      `${options.killCount} kills, each within ${options.lifeMsMax} ms of its start`,
      `all ended ${Math.round((performance.now() - restartedAtMs) / 1_000)} s after the last start`,
      `statuses ${JSON.stringify(Object.fromEntries(ledger.statusCounts))}`,
    );
    return outcome;
  } finally {
    await scene.close();
  }
}
