/**
 * Deliveries that retention ends unfinished: `failed`, reason `expired`. Each is counted by the day on which that
 * happened, in the statement that does it.
 */

import type pg from "pg";
import type { ClaimedDelivery } from "../domain/delivery-claim.ts";
import { plainArray } from "./array-literals.ts";
import { isLeased } from "./delivery-leases.ts";
import { notingFailures } from "./gateway-notices.ts";
import type { Database } from "./orm.ts";

/** What the log and the notices need of each, and its count. `$1` is the instant, `$2` the tenants that are told. */
const expiredColumns = `d.id, d.webhook_id, d.tenant_id, d.event_id, d.event_type, d.state, d.reason, d.reason_detail,
  d.attempt_number AS attempt_count`;
const countingText = `
  ${notingFailures("expired", "$2", "$1")},
  counted AS (
    INSERT INTO expired_delivery_count AS c (on_day, count)
    SELECT ($1::timestamptz AT TIME ZONE 'UTC')::date, count(*) FROM expired WHERE state = 'failed' HAVING count(*) > 0
    ON CONFLICT (on_day) DO UPDATE SET count = c.count + excluded.count)
  SELECT count(*)::int AS count FROM expired`;

/**
 * Ends what is unfinished in one partition of the log, a batch at a time; rows that somebody holds are left for the next.
 *
 * @param partition      name of a partition of `delivery`
 * @param toldTenantIds  tenants that ask to be told of deliveries that fail
 * @returns how many were ended; fewer than `limit` when none are left
 */
export async function expireUnfinished(
  client: pg.ClientBase,
  partition: string,
  limit: number,
  toldTenantIds: readonly number[],
  now: Date,
): Promise<number> {
  const expired = await client.query<{ count: number }>(
    `WITH waiting AS (
       SELECT webhook_id, id FROM ${partition}
       WHERE due_at IS NOT NULL AND state = 'pending' LIMIT $3 FOR UPDATE SKIP LOCKED),
     under_way AS (
       SELECT webhook_id, id FROM ${partition}
       WHERE leased_until IS NOT NULL AND state = 'delivering' LIMIT $3 FOR UPDATE SKIP LOCKED),
     expired AS (
       UPDATE ${partition} d SET state = 'failed', reason = 'expired', finished_at = $1::timestamptz, due_at = NULL,
         leased_until = NULL
       FROM (SELECT * FROM waiting UNION ALL SELECT * FROM under_way LIMIT $3) AS unfinished
       WHERE d.webhook_id = unfinished.webhook_id AND d.id = unfinished.id
       RETURNING ${expiredColumns}),
     ${countingText}`,
    [now, plainArray(toldTenantIds), limit],
  );
  return expired.rows[0]!.count;
}

/**
 * Ends deliveries that were claimed and can never be made: retention dropped their events. No attempt was started, so
 * the number goes back; one that is sent once more stays `delivered`.
 *
 * @returns how many were ended
 */
export async function expireClaimed(
  pool: pg.Pool,
  claimed: readonly ClaimedDelivery[],
  toldTenantIds: readonly number[],
  now: Date,
): Promise<number> {
  const expired = await pool.query<{ count: number }>({
    name: "expire-claimed",
    text: `WITH expired AS (
        UPDATE delivery d SET
          state = CASE WHEN d.state = 'delivering' THEN 'failed' ELSE d.state END,
          reason = CASE WHEN d.state = 'delivering' THEN 'expired' ELSE d.reason END,
          reason_detail = CASE WHEN d.state = 'delivering' THEN 'its event is gone from the log' ELSE d.reason_detail END,
          finished_at = coalesce(d.finished_at, $1::timestamptz), leased_until = NULL,
          attempt_number = d.attempt_number - 1
        FROM unnest($3::int[], $4::uuid[], $5::int[]) AS u(webhook_id, id, attempt_number)
        WHERE d.webhook_id = u.webhook_id AND d.id = u.id AND d.attempt_number = u.attempt_number AND ${isLeased}
        RETURNING ${expiredColumns}),
      ${countingText}`,
    values: [
      now,
      plainArray(toldTenantIds),
      plainArray(claimed.map((one) => one.webhookId)),
      plainArray(claimed.map((one) => one.id)),
      plainArray(claimed.map((one) => one.attemptNumber)),
    ],
  });
  return expired.rows[0]!.count;
}

/** How many deliveries have become `failed` with reason `expired` since the first start of the installation. */
export async function countExpired(database: Database): Promise<number> {
  const [row] = await database
    .em()
    .execute<[{ count: number }]>(
      "SELECT coalesce(sum(count), 0)::float8 AS count FROM expired_delivery_count",
    );
  return row.count;
}
