/**
 * More comes in than the database takes: it stands still under a steady load whose senders do not wait for each other.
 * Intake slows down and refuses, memory stays bounded, and all recovers by itself.
 */

import { waitFor } from "../../helpers/wait.ts";
import type { DatabaseServer } from "../database-server.ts";
import { waitForEnds } from "../judge.ts";
import { startLoad } from "../load.ts";
import { type Outcome, openScene, residentMib, watchMemory } from "../scene.ts";

export interface BackPressureOptions {
  server: DatabaseServer;
  databaseUrl: string;
  ratePerSecond: number;
  /** How long the database stands still at least; until something is refused, if that takes longer. */
  pauseMs: number;
}

/** Long bodies that come while the database stands still: more than the 64 MiB that may wait for an answer. */
const burst = { countMax: 30, ratePerSecond: 30, paddingBytes: 3_500_000 };
/** Senders that wait for an answer at once. */
const openMax = 3_000;

/** 64 MiB of bodies may wait, each may be there as bytes and as text, and what was let go is collected late. */
const growthMibMax = 400;

export async function pressBack(options: BackPressureOptions): Promise<Outcome> {
  const { databaseUrl, server, ratePerSecond } = options;
  const scene = await openScene({ databaseUrl });
  try {
    const { gateway, ledger } = scene;
    const webhooks = [await scene.addWebhook("one", { max_in_flight: 256 })];
    const urls = () => [gateway.url()];
    const load = startLoad({ urls, ledger, ratePerSecond, prefix: "wamid.pressed", openMax });
    await waitFor(
      "events that go through",
      () => ledger.takenCountAt("one"),
      (count) => count > ratePerSecond,
      60_000,
    );
    const beforeMib = residentMib(gateway.pid());
    const peakMib = watchMemory(gateway.pid());
    const takenBefore = ledger.takenCountAt("one");
    await server.pause();
    const acknowledgedBefore = ledger.acknowledged.size;
    const burstLoad = startLoad({ urls, ledger, prefix: "wamid.burst", ...burst });
    await new Promise((resolve) => setTimeout(resolve, options.pauseMs));
    const refusedCount = await waitFor(
      "events that are refused",
      () => ledger.statusCounts.get(503) ?? 0,
      (count) => count > 0,
      40_000,
    );
    const acknowledgedWhilePaused = ledger.acknowledged.size - acknowledgedBefore;
    const pausedMib = residentMib(gateway.pid());
    const health = await fetch(`${gateway.url()}/healthz`);
    const overAtMs = performance.now();
    server.resume();
    await waitFor(
      "events that go through again",
      () => ledger.takenCountAt("one"),
      (count) => count > takenBefore + ratePerSecond,
      60_000,
    );
    const recoveryMs = Math.round(performance.now() - overAtMs);
    await Promise.all([load.finish(), burstLoad.finish()]);
    await waitForEnds(databaseUrl, webhooks, 90_000);
    const outcome = await scene.judge(`database still for ${options.pauseMs / 1_000} s under load`, webhooks);
    const growthMib = peakMib() - beforeMib;
    if (health.status !== 200) outcome.faults.push("the process was not alive to others");
    if (growthMib > growthMibMax) outcome.faults.push(`memory grew by ${growthMib} MiB`);
    if (ledger.unexplainedRefusals > 0) outcome.faults.push("503 without Retry-After");
    // Answers that were on their way when the database stopped may still come.
    if (acknowledgedWhilePaused > openMax) outcome.faults.push("events were acknowledged without a database");
    outcome.notes.push(
      `${acknowledgedWhilePaused} acknowledged meanwhile, ${refusedCount} refused with 503`,
      `statuses ${JSON.stringify(Object.fromEntries(ledger.statusCounts))}`,
      `recovered after ${recoveryMs} ms`,
      `memory ${beforeMib} MiB before, ${pausedMib} MiB at the end of the pause, ${peakMib()} MiB at most`,
    );
    return outcome;
  } finally {
    server.resume();
    await scene.close();
  }
}
