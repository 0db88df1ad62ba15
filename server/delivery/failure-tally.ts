/** How the attempts of webhooks ended since a process last told of them: whether one succeeded, and the failures after it. */

import type { FailureStreak } from "../store/failure-streaks.ts";

export interface Tally {
  succeededAtMs: number | null;
  /** Of those that ended after the success; the instants mean something if there are any. */
  failedCount: number;
  firstFailedAtMs: number;
  lastFailedAtMs: number;
}

/** Counts one attempt. They come in the order in which they are saved, which may not be that in which they ended. */
export function noteAttempt(
  tallies: Map<number, Tally>,
  webhookId: number,
  isSuccess: boolean,
  endedAtMs: number,
): void {
  const tally = tallies.get(webhookId);
  if (!tally) {
    tallies.set(webhookId, {
      succeededAtMs: isSuccess ? endedAtMs : null,
      failedCount: isSuccess ? 0 : 1,
      firstFailedAtMs: endedAtMs,
      lastFailedAtMs: endedAtMs,
    });
  } else if (isSuccess) {
    tally.succeededAtMs = Math.max(endedAtMs, tally.succeededAtMs ?? endedAtMs);
    tally.failedCount = 0;
  } else if (tally.succeededAtMs === null || endedAtMs > tally.succeededAtMs) {
    if (tally.failedCount === 0) tally.firstFailedAtMs = tally.lastFailedAtMs = endedAtMs;
    tally.failedCount += 1;
    tally.firstFailedAtMs = Math.min(tally.firstFailedAtMs, endedAtMs);
    tally.lastFailedAtMs = Math.max(tally.lastFailedAtMs, endedAtMs);
  }
}

/** Adds a later tally to one that could not be told. */
export function addTally(earlier: Map<number, Tally>, webhookId: number, later: Tally): void {
  const tally = earlier.get(webhookId);
  if (!tally || later.succeededAtMs !== null) {
    earlier.set(webhookId, later);
    return;
  }
  if (later.failedCount === 0) return;
  if (tally.failedCount === 0) tally.firstFailedAtMs = later.firstFailedAtMs;
  tally.failedCount += later.failedCount;
  tally.lastFailedAtMs = Math.max(tally.lastFailedAtMs, later.lastFailedAtMs);
}

/** The last success of each of these webhooks that had one. */
export function successesIn(
  tallies: ReadonlyMap<number, Tally>,
  webhookIds: ReadonlySet<number>,
): { webhookId: number; at: Date }[] {
  return [...tallies].flatMap(([webhookId, { succeededAtMs }]) =>
    succeededAtMs !== null && webhookIds.has(webhookId) ? [{ webhookId, at: new Date(succeededAtMs) }] : [],
  );
}

export function failuresIn(tallies: ReadonlyMap<number, Tally>): FailureStreak[] {
  return [...tallies]
    .filter(([, { failedCount }]) => failedCount > 0)
    .map(([webhookId, { failedCount, firstFailedAtMs, lastFailedAtMs }]) => ({
      webhookId,
      failedCount,
      firstFailedAt: new Date(firstFailedAtMs),
      lastFailedAt: new Date(lastFailedAtMs),
    }));
}
