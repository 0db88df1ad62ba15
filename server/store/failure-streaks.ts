/**
 * Webhooks that have had nothing but failed attempts for a while. Each process counts in memory and adds what it has in
 * batches, so an attempt writes nothing here; a webhook without a row has no streak.
 */

import type { EntityManager } from "@mikro-orm/postgresql";
import type pg from "pg";
import { instantArray, plainArray } from "./array-literals.ts";

export interface FailureStreak {
  webhookId: number;
  failedCount: number;
  firstFailedAt: Date;
  lastFailedAt: Date;
}

/** Streaks of webhooks that are on; `[]` if there are none. Those of others end with this. */
export async function readStreaks(pool: pg.Pool): Promise<FailureStreak[]> {
  const found = await pool.query({
    name: "read-failure-streaks",
    text: `WITH off AS (
        DELETE FROM failure_streak s USING webhook w WHERE w.id = s.webhook_id AND NOT w.is_enabled)
      SELECT s.* FROM failure_streak s JOIN webhook w ON w.id = s.webhook_id AND w.is_enabled`,
    values: [],
  });
  return found.rows.map(toStreak);
}

/**
 * Adds failed attempts to the streaks of their webhooks, of those that are on.
 *
 * @param added  one for each webhook
 */
export async function addFailures(pool: pg.Pool, added: readonly FailureStreak[]): Promise<void> {
  await pool.query({
    name: "add-failures",
    text: `INSERT INTO failure_streak AS s (webhook_id, failed_count, first_failed_at, last_failed_at)
      SELECT u.webhook_id, u.count, to_timestamp(u.first_ms / 1000), to_timestamp(u.last_ms / 1000)
      FROM unnest($1::int[], $2::int[], $3::float8[], $4::float8[]) AS u(webhook_id, count, first_ms, last_ms)
      JOIN webhook w ON w.id = u.webhook_id AND w.is_enabled
      ORDER BY u.webhook_id
      ON CONFLICT (webhook_id) DO UPDATE SET failed_count = s.failed_count + excluded.failed_count,
        first_failed_at = least(s.first_failed_at, excluded.first_failed_at),
        last_failed_at = greatest(s.last_failed_at, excluded.last_failed_at)`,
    values: [
      plainArray(added.map((one) => one.webhookId)),
      plainArray(added.map((one) => one.failedCount)),
      instantArray(added.map((one) => one.firstFailedAt)),
      instantArray(added.map((one) => one.lastFailedAt)),
    ],
  });
}

/**
 * Ends the streaks of webhooks that had a success. What another process has counted after it stays, as one failure: how
 * many there were is not known any more.
 */
export async function endStreaks(
  pool: pg.Pool,
  succeeded: readonly { webhookId: number; at: Date }[],
): Promise<void> {
  await pool.query({
    name: "end-failure-streaks",
    text: `WITH u AS (
        SELECT webhook_id, to_timestamp(ms / 1000) AS at
        FROM unnest($1::int[], $2::float8[]) AS u(webhook_id, ms)),
      ended AS (
        DELETE FROM failure_streak s USING u WHERE s.webhook_id = u.webhook_id AND s.last_failed_at <= u.at)
      UPDATE failure_streak s SET failed_count = 1, first_failed_at = s.last_failed_at
      FROM u WHERE s.webhook_id = u.webhook_id AND s.first_failed_at <= u.at AND s.last_failed_at > u.at`,
    values: [plainArray(succeeded.map((one) => one.webhookId)), instantArray(succeeded.map((one) => one.at))],
  });
}

/** Starts the count of a webhook anew, in the transaction that turns it on. */
export async function forgetFailures(em: EntityManager, webhookId: number): Promise<void> {
  await em.execute("DELETE FROM failure_streak WHERE webhook_id = ?", [webhookId]);
}

/** Starts every count anew. */
export async function forgetAllFailures(pool: pg.Pool): Promise<void> {
  await pool.query("DELETE FROM failure_streak");
}

/** Takes a streak out of the table, in the transaction that acts on it; null if it has ended meanwhile. */
export async function takeStreak(em: EntityManager, webhookId: number): Promise<FailureStreak | null> {
  const [row] = await em.execute<StreakColumns[]>(
    `DELETE FROM failure_streak WHERE webhook_id = ? RETURNING webhook_id, failed_count,
       extract(epoch FROM first_failed_at)::float8 * 1000 AS first_ms,
       extract(epoch FROM last_failed_at)::float8 * 1000 AS last_ms`,
    [webhookId],
  );
  return (
    (row && {
      webhookId: row.webhook_id,
      failedCount: row.failed_count,
      firstFailedAt: new Date(Math.round(row.first_ms)),
      lastFailedAt: new Date(Math.round(row.last_ms)),
    }) ??
    null
  );
}

interface StreakColumns {
  webhook_id: number;
  failed_count: number;
  first_ms: number;
  last_ms: number;
}

// biome-ignore lint/suspicious/noExplicitAny: a row of the statement above
function toStreak(row: any): FailureStreak {
  return {
    webhookId: row.webhook_id,
    failedCount: row.failed_count,
    firstFailedAt: row.first_failed_at,
    lastFailedAt: row.last_failed_at,
  };
}
