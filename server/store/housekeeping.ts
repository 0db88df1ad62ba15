/**
 * Deletes what has run out, in small batches that nobody waits for: old answers, ended windows, former secrets, links,
 * and what is kept for some days and is small or has an index by age. (The log and conversations: `retention.ts`.)
 */

import type { Logger } from "pino";
import type { Clock } from "../clock.ts";
import { firstIdAt } from "../domain/ids.ts";
import { attemptBatchesKeptMs, foreignAttemptBatchesText, oldAttemptBatchesText } from "./attempt-batches.ts";
import { keptMs } from "./idempotency.ts";
import { mediaLinkKeptMs } from "./media-links.ts";
import type { Database } from "./orm.ts";

export interface Housekeeper {
  /** Deletes now what has run out; settles when it is gone. */
  sweep(): Promise<void>;
  close(): Promise<void>;
}

const dayMs = 86_400_000;
const sweepEveryMs = 60_000;
const batchRowsMax = 1_000;
/** What is left after so many batches waits for the next sweep. */
const batchesMax = 1_000;

export interface HousekeepingSettings {
  /** How long bodies that made no sense are kept, in days, as the log is. */
  logDays: number;
  /** How long messages that we sent are kept after their end; 0 = for ever. */
  conversationDays: number;
  /** How long the audit is kept. */
  auditDays: number;
}

export function createHousekeeper(
  parts: { database: Database; clock: Clock; log: Logger },
  settings: HousekeepingSettings,
): Housekeeper {
  const { database, clock, log } = parts;
  let isClosed = false;
  let sweeping: Promise<void> | null = null;

  async function sweepAll(): Promise<void> {
    const now = clock.now();
    await deleteInBatches(idempotencyText, new Date(now.getTime() - keptMs));
    await deleteInBatches(rateLimitText, now.getTime());
    await deleteInBatches(secretText, now);
    await deleteInBatches(sendingPairText, new Date(now.getTime() - idlePairMs));
    await deleteInBatches(mediaLinkText, new Date(now.getTime() - mediaLinkKeptMs));
    const daysAgo = (days: number) => new Date(now.getTime() - days * dayMs);
    await deleteInBatches(malformedText, daysAgo(settings.logDays));
    await deleteInBatches(auditText, daysAgo(settings.auditDays));
    await deleteInBatches(foreignAttemptBatchesText);
    await deleteInBatches(oldAttemptBatchesText, new Date(now.getTime() - attemptBatchesKeptMs));
    await deleteInBatches(recoveryText, daysAgo(recoveryDays));
    await deleteInBatches(
      lateDeliveryText,
      firstIdAt(daysAgo(settings.logDays + lateDeliveryDays).getTime()),
    );
    if (settings.conversationDays === 0) return;
    const before = daysAgo(settings.conversationDays);
    await deleteInBatches(outgoingText, before, firstIdAt(before.getTime()));
  }

  async function deleteInBatches(
    text: string,
    before?: Date | number | string,
    beforeId?: string,
  ): Promise<void> {
    const values = [before, batchRowsMax, beforeId].filter((value) => value !== undefined);
    for (let batch = 0; batch < batchesMax && !isClosed; batch++) {
      const deleted = await database.pool.query(text, values);
      if ((deleted.rowCount ?? 0) < batchRowsMax) return;
    }
  }

  function sweep(): Promise<void> {
    sweeping ??= sweepAll().finally(() => {
      sweeping = null;
    });
    return sweeping;
  }

  const timer = setInterval(() => {
    sweep().catch((error: unknown) => log.warn({ err: error }, "what has run out could not be deleted"));
  }, sweepEveryMs);

  return {
    sweep,
    async close() {
      isClosed = true;
      clearInterval(timer);
      await sweeping?.catch(() => undefined);
    },
  };
}

const idempotencyText = `DELETE FROM idempotency_key WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM idempotency_key WHERE created_at <= $1 ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED))`;

const rateLimitText = `DELETE FROM rate_limit WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM rate_limit WHERE expire <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED))`;

/** Signatures have not been made with them since they ran out. */
const secretText = `DELETE FROM webhook_secret WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM webhook_secret WHERE expires_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED))`;

/** A recipient who was sent nothing for so long has its whole burst again, and is held back no more. */
const idlePairMs = 24 * 3_600_000;
const sendingPairText = `DELETE FROM sending_pair WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM sending_pair WHERE next_at <= $1 AND held_until <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED))`;

const mediaLinkText = `DELETE FROM media_link WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM media_link WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))`;

const malformedText = `DELETE FROM malformed_body WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM malformed_body WHERE received_at < $1 ORDER BY received_at LIMIT $2 FOR UPDATE SKIP LOCKED))`;

/** Ids grow with time: only the first ones can be old. */
const auditText = `DELETE FROM audit_entry WHERE id = ANY(ARRAY(
  SELECT id FROM (SELECT id, occurred_at FROM audit_entry ORDER BY id LIMIT $2) AS first WHERE occurred_at < $1))`;

/** What is not over, or not told of yet, stays. Ids tell when a message was made, by the index that is there. */
const outgoingText = `DELETE FROM outgoing_message WHERE id = ANY(ARRAY(
  SELECT id FROM outgoing_message
  WHERE id < $3 AND settled_at < $1 AND (wamid IS NULL OR is_published)
  ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED))`;

const recoveryDays = 90;
const recoveryText = `DELETE FROM recovery WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM recovery WHERE is_settled AND finished_at <= $1 ORDER BY finished_at LIMIT $2 FOR UPDATE SKIP LOCKED))`;

/** Days beyond the log's: their events are gone for certain by then. */
const lateDeliveryDays = 7;
const lateDeliveryText = `DELETE FROM late_delivery WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM late_delivery WHERE event_id < $1::uuid ORDER BY event_id LIMIT $2 FOR UPDATE SKIP LOCKED))`;
