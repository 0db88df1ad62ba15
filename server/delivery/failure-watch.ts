/**
 * Turns a webhook off whose endpoint has done nothing but fail for days. Attempts are counted in memory and added to the
 * table in batches, so that none of them costs a statement; a success is told at once if there is a streak to end.
 *
 * A streak that is long enough is looked at twice, some seconds apart, before anything is done: by then every process has
 * told of its successes. What a process has counted and not told when it is killed is missing from the count.
 */

import type { Logger } from "pino";
import type { Clock } from "../clock.ts";
import type { SettledAttempt } from "../domain/delivery-claim.ts";
import { cancelUnfinished } from "../store/delivery-changes.ts";
import {
  addFailures,
  endStreaks,
  type FailureStreak,
  forgetAllFailures,
  readStreaks,
} from "../store/failure-streaks.ts";
import type { Database } from "../store/orm.ts";
import { disableWebhook } from "../store/webhook-disabling.ts";
import { addTally, failuresIn, noteAttempt, successesIn, type Tally } from "./failure-tally.ts";

export interface FailureWatch {
  /** To be called with attempts that are saved. */
  note(attempts: readonly Pick<SettledAttempt, "report">[]): void;
  /** Tells what was counted and acts on it; settles when that is done. */
  flush(): Promise<void>;
  /** Tells the last counts. */
  close(): Promise<void>;
}

export interface FailureWatchParts {
  database: Database;
  /** Tells every process of the change, and waits for them. */
  announce(): Promise<void>;
  /** A notice was written. */
  onDisabled(): void;
  clock: Clock;
  log: Logger;
}

export interface FailureWatchSettings {
  /** First and last failure have to lie so far apart; 0 = webhooks are never turned off. */
  afterMs: number;
  /** So many attempts have to have failed. */
  failedCountMin: number;
  /** How often counts are told. */
  flushMs: number;
  /** Between the two looks at a streak that is long enough: longer than two flushes. */
  confirmMs: number;
}

export function createFailureWatch(parts: FailureWatchParts, settings: FailureWatchSettings): FailureWatch {
  const { database, clock, log } = parts;
  const stop = new AbortController();
  let tallies = new Map<number, Tally>();
  /** Webhooks that had a streak at the last flush. */
  let failing: ReadonlySet<number> = new Set();
  /** When a streak was first seen to be long enough, in milliseconds. */
  const enoughSinceMs = new Map<number, number>();
  let flushing: Promise<void> | null = null;
  let isEndingSoon = false;
  const isOff = settings.afterMs === 0;
  const running = watch();

  async function watch(): Promise<void> {
    // With nobody to end them they would still be there when the setting is on again.
    if (isOff) return await forgetAll();
    while (!stop.signal.aborted) {
      await clock.sleep(settings.flushMs, stop.signal);
      await flush();
    }
  }

  async function forgetAll(): Promise<void> {
    try {
      await forgetAllFailures(database.pool);
    } catch (error) {
      log.warn({ err: error }, "counts of failed attempts could not be forgotten");
    }
  }

  async function flush(): Promise<void> {
    if (isOff) return await running;
    flushing ??= flushOnce()
      .catch((error: unknown) => log.warn({ err: error }, "failed attempts could not be counted"))
      .finally(() => {
        flushing = null;
      });
    await flushing;
  }

  async function flushOnce(): Promise<void> {
    const told = tallies;
    tallies = new Map();
    let streaks: FailureStreak[];
    let hasTold: boolean;
    try {
      streaks = await readStreaks(database.pool);
      const ended = successesIn(told, new Set(streaks.map(({ webhookId }) => webhookId)));
      if (ended.length > 0) await endStreaks(database.pool, ended);
      const added = failuresIn(told);
      if (added.length > 0) await addFailures(database.pool, added);
      hasTold = ended.length + added.length > 0;
    } catch (error) {
      for (const [webhookId, tally] of tallies) addTally(told, webhookId, tally);
      tallies = told;
      throw error;
    }
    // What is told is told, whatever comes of this look.
    if (hasTold) streaks = await readStreaks(database.pool);
    failing = new Set(streaks.map(({ webhookId }) => webhookId));
    if (!stop.signal.aborted) await disableFailing(streaks);
  }

  async function disableFailing(streaks: readonly FailureStreak[]): Promise<void> {
    const nowMs = clock.now().getTime();
    const enough = streaks.filter(isEnough);
    const enoughIds = new Set(enough.map(({ webhookId }) => webhookId));
    for (const webhookId of enoughSinceMs.keys()) {
      if (!enoughIds.has(webhookId)) enoughSinceMs.delete(webhookId);
    }
    for (const { webhookId } of enough) {
      const sinceMs = enoughSinceMs.get(webhookId);
      if (sinceMs === undefined) enoughSinceMs.set(webhookId, nowMs);
      else if (nowMs - sinceMs >= settings.confirmMs) await disable(webhookId);
    }
  }

  function isEnough({ failedCount, firstFailedAt, lastFailedAt }: FailureStreak): boolean {
    const apartMs = lastFailedAt.getTime() - firstFailedAt.getTime();
    return failedCount >= settings.failedCountMin && apartMs >= settings.afterMs;
  }

  async function disable(webhookId: number): Promise<void> {
    enoughSinceMs.delete(webhookId);
    // A success that came since this process's last word.
    if (tallies.get(webhookId)?.succeededAtMs != null) return;
    const now = clock.now();
    const disabled = await disableWebhook(database, webhookId, isEnough, now);
    if (disabled === null) return;
    const { reason, failedCount } = disabled;
    log.warn({ webhookId, failedCount, reason }, "a webhook was turned off: all its attempts failed");
    try {
      await parts.announce();
    } catch (error) {
      log.warn({ err: error }, "a change of configuration could not be announced");
    }
    parts.onDisabled();
    await cancelUnfinished(database, webhookId, "webhook_disabled", now);
  }

  /** The success ends a streak: the sooner the others know, the better. */
  function flushSoon(): void {
    if (isEndingSoon) return;
    isEndingSoon = true;
    void Promise.resolve(flushing).then(() => {
      isEndingSoon = false;
      return flush();
    });
  }

  return {
    note(attempts) {
      if (isOff) return;
      let endsStreak = false;
      for (const { report } of attempts) {
        if (report.kind !== "succeeded" && report.kind !== "failed") continue;
        const endedAtMs = report.startedAtMs + report.durationMs;
        const isSuccess = report.kind === "succeeded";
        noteAttempt(tallies, report.webhookId, isSuccess, endedAtMs);
        endsStreak ||= isSuccess && failing.has(report.webhookId);
      }
      if (endsStreak) flushSoon();
    },
    flush,
    async close() {
      stop.abort();
      await running;
      // The one under way may have begun before the last attempts were noted.
      await flushing;
      await flush();
    },
  };
}
