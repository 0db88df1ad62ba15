/** Deletes what has run out, in small batches that nobody waits for: old answers, ended windows, former secrets, links. */

import type { Logger } from "pino";
import type { Clock } from "../clock.ts";
import { keptMs } from "./idempotency.ts";
import { mediaLinkKeptMs } from "./media-links.ts";
import type { Database } from "./orm.ts";

export interface Housekeeper {
  /** Deletes now what has run out; settles when it is gone. */
  sweep(): Promise<void>;
  close(): Promise<void>;
}

const sweepEveryMs = 60_000;
const batchRowsMax = 1_000;
/** What is left after so many batches waits for the next sweep. */
const batchesMax = 1_000;

export function createHousekeeper(parts: { database: Database; clock: Clock; log: Logger }): Housekeeper {
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
  }

  async function deleteInBatches(text: string, before: Date | number): Promise<void> {
    for (let batch = 0; batch < batchesMax && !isClosed; batch++) {
      const deleted = await database.pool.query(text, [before, batchRowsMax]);
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
