/**
 * Which attempts were logged, in the order of transactions, for those who follow them as they end. Each statement that
 * logs attempts adds one row with their names, in its own transaction: nothing is logged without it, however the process
 * ends, and it costs the statement one row, not one an attempt. `watched-attempts.ts` reads them.
 */

/** How long it is remembered which attempts came after which. */
export const attemptBatchesKeptMs = 24 * 3_600_000;

/**
 * Part of a statement that logs attempts.
 *
 * @param attempts  the rows: a select without its columns, of rows with `webhook_id`, `id` (of the delivery) and `number`
 */
export function notingAttempts(attempts: string, number: string): string {
  return `batched AS (
    INSERT INTO attempt_batch (webhook_ids, delivery_ids, numbers)
    SELECT array_agg(webhook_id), array_agg(id), array_agg(${number}) ${attempts} HAVING count(*) > 0)`;
}

/** Deletes old rows, in batches: those that come first, while they are old enough. */
export const oldAttemptBatchesText = `DELETE FROM attempt_batch WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM (SELECT ctid, recorded_at FROM attempt_batch ORDER BY xid LIMIT $2) AS first
  WHERE recorded_at <= $1))`;

/**
 * Deletes rows whose transactions are yet to come: a database that was restored on another server brings them along, and
 * they would be news again once that server has come so far.
 */
export const foreignAttemptBatchesText = `DELETE FROM attempt_batch WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM attempt_batch WHERE xid >= pg_snapshot_xmax(pg_current_snapshot()) LIMIT $1))`;
