/**
 * Takes reports of ended attempts, asks `domain/delivery.ts` what follows, and saves attempts and states together in
 * batches. While the database is away the reports wait here; the rescuer keeps their leases alive.
 */

import type { Logger } from "pino";
import type { Clock } from "../clock.ts";
import type { AttemptReport } from "../domain/attempt-report.ts";
import { type Settlement, settleAttempt } from "../domain/delivery.ts";
import type { ClaimedDelivery, SettledAttempt } from "../domain/delivery-claim.ts";
import type { DeliveryQueue } from "../domain/delivery-queue.ts";
import type { IdSource } from "../domain/ids.ts";

export interface Recorded {
  claimed: ClaimedDelivery;
  settlement: Settlement;
}

export interface Recorder {
  record(claimed: ClaimedDelivery, report: AttemptReport, transformer: string | null): void;
  /** Reports that are not saved yet. */
  backlogCount(): number;
  /** Settles when everything reported is saved, or cannot be within `boundMs`. */
  close(boundMs: number): Promise<void>;
}

export interface RecorderSettings {
  retryScheduleMs: readonly number[];
  /** Reports saved by one statement at most. */
  recordBatchMax: number;
  /** Reports that come within this time of the first share its statement. */
  recordGatherMs: number;
}

export interface RecorderParts {
  queue: Pick<DeliveryQueue, "settle" | "isDataFault">;
  ids: IdSource;
  /** Gets each delivery once its attempt is saved, or proves not to be savable. */
  onRecorded(recorded: Recorded[]): void;
  /** Answers have scheduled messages. */
  onScheduled(): void;
  /** Gets the attempts that counted, once they are saved. */
  onCounted(attempts: readonly SettledAttempt[]): void;
  /** True if the tenant asks to be told of deliveries that fail. */
  isFailureTold(tenantId: number): boolean;
  /** Somebody is to be told of deliveries that have failed. */
  onFailuresNoted(): void;
  clock: Clock;
  log: Logger;
}

const retryAfterFaultMs = 200;

export function createRecorder(parts: RecorderParts, settings: RecorderSettings): Recorder {
  const { queue, clock, log } = parts;
  const waiting: (SettledAttempt & { claimed: ClaimedDelivery })[] = [];
  let savingCount = 0;
  let running: Promise<void> | null = null;
  const giveUp = new AbortController();

  async function run(): Promise<void> {
    await clock.sleep(settings.recordGatherMs);
    while (waiting.length > 0 && !giveUp.signal.aborted) {
      const batch = waiting.splice(0, settings.recordBatchMax);
      savingCount = batch.length;
      await save(batch);
      savingCount = 0;
    }
    // In the same turn as the look at the queue: what is reported from here on starts a run of its own.
    running = null;
  }

  async function save(batch: (SettledAttempt & { claimed: ClaimedDelivery })[]): Promise<void> {
    while (!giveUp.signal.aborted) {
      try {
        const counted = await queue.settle(batch, clock.now());
        if (counted.size < batch.length) {
          log.warn({ count: batch.length - counted.size }, "attempts ended after their lease had run out");
        }
        if (batch.some(({ replyIds }) => replyIds !== undefined)) parts.onScheduled();
        if (batch.some(({ toldTenantId }) => toldTenantId !== undefined)) parts.onFailuresNoted();
        const isWhole = counted.size === batch.length;
        parts.onCounted(isWhole ? batch : batch.filter(({ report }) => counted.has(report.deliveryId)));
        return parts.onRecorded(batch);
      } catch (error) {
        if (queue.isDataFault(error) && batch.length > 1) {
          const half = Math.ceil(batch.length / 2);
          await save(batch.slice(0, half));
          return await save(batch.slice(half));
        }
        log.error({ err: error, count: batch.length }, "attempts could not be recorded");
        // One report that the queue refuses as data: its lease runs out and logs the attempt as lost.
        if (queue.isDataFault(error)) return parts.onRecorded(batch);
        await clock.sleep(retryAfterFaultMs, giveUp.signal);
      }
    }
  }

  function idsOfReplies(report: AttemptReport): Pick<SettledAttempt, "replyIds"> {
    if (report.kind !== "succeeded" || report.replies?.kind !== "parsed") return {};
    return { replyIds: report.replies.texts.map(() => parts.ids.next()) };
  }

  return {
    record(claimed, report, transformer) {
      const settlement = settleAttempt(claimed, report, settings.retryScheduleMs);
      const isTold = settlement.state === "failed" && parts.isFailureTold(claimed.tenantId);
      waiting.push({
        claimed,
        report,
        settlement,
        transformer,
        ...idsOfReplies(report),
        ...(isTold && { toldTenantId: claimed.tenantId }),
      });
      running ??= run();
    },
    backlogCount: () => waiting.length + savingCount,
    async close(boundMs) {
      const timer = setTimeout(() => giveUp.abort(), boundMs);
      while (running) await running;
      clearTimeout(timer);
    },
  };
}
