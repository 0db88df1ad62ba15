/** Leases of claimed deliveries: renewed, given back, and ended for those that did not end them. */

import type pg from "pg";
import type { BrokenLease, HeldDelivery, LostAttempt } from "../domain/delivery-claim.ts";
import { notingAttempts } from "./attempt-batches.ts";
import { instantArray, intArray, textArray, uuidArray } from "./binary-arrays.ts";
import { notingFailures } from "./gateway-notices.ts";

/**
 * Says that an attempt is in flight, in statements that are given ids. In these words the planner does not see that the
 * index of leases would do: good while there are few leases, its plan is kept and goes through all of them for each id.
 */
export const isLeased = "num_nonnulls(d.leased_until) = 1";

/** Leases that ran out before `now`, the oldest first. */
export async function listExpiredLeases(pool: pg.Pool, now: Date, limit: number): Promise<BrokenLease[]> {
  const found = await pool.query({
    name: "list-expired-leases",
    text: `SELECT ${brokenLeaseColumns} FROM delivery WHERE leased_until < $1 ORDER BY leased_until LIMIT $2`,
    values: [now, limit],
  });
  return found.rows.map(toBrokenLease);
}

/** The leases that these attempts still hold; for a thread that died with them. */
export async function listLeases(pool: pg.Pool, held: readonly HeldDelivery[]): Promise<BrokenLease[]> {
  const found = await pool.query({
    name: "list-leases",
    text: `SELECT ${brokenLeaseColumns} FROM unnest($1::int[], $2::uuid[], $3::int[]) AS u(webhook_id, id, number)
      JOIN delivery d USING (webhook_id, id) WHERE d.attempt_number = u.number AND ${isLeased}`,
    values: [
      intArray(held.map((one) => one.webhookId)),
      uuidArray(held.map((one) => one.id)),
      intArray(held.map((one) => one.attemptNumber)),
    ],
  });
  return found.rows.map(toBrokenLease);
}

const brokenLeaseColumns = "id, webhook_id, attempt_number, state, lost_in_a_row, leased_until";

// biome-ignore lint/suspicious/noExplicitAny: a row of the statements above
function toBrokenLease(row: any): BrokenLease {
  return {
    id: row.id,
    webhookId: row.webhook_id,
    attemptNumber: row.attempt_number,
    isResend: row.state === "delivered",
    lostInARow: row.lost_in_a_row,
    leasedUntil: row.leased_until,
  };
}

/**
 * Ends broken leases: logs each attempt as `lost`, which keeps its number and is not one of the round's attempts, and
 * sets the state that follows. Leases that were ended or renewed meanwhile are left alone.
 *
 * @param toldTenantIds  tenants that ask to be told of deliveries that fail
 * @returns how many were ended
 */
export async function loseAttempts(
  pool: pg.Pool,
  lost: readonly LostAttempt[],
  now: Date,
  toldTenantIds: readonly number[] = [],
): Promise<number> {
  const result = await pool.query({
    name: "lose-attempts",
    text: `WITH u AS (
        SELECT * FROM unnest($1::int[], $2::uuid[], $3::int[], $4::float8[], $5::text[], $6::float8[], $7::text[],
          $8::float8[])
          AS u(webhook_id, id, attempt_number, leased_ms, state, due_ms, reason, started_ms)),
      counted AS (
        UPDATE delivery d SET
          state = CASE WHEN d.state = 'canceled' THEN d.state ELSE u.state END,
          due_at = CASE WHEN d.state = 'canceled' THEN NULL ELSE to_timestamp(u.due_ms / 1000) END,
          leased_until = NULL,
          finished_at = CASE WHEN u.state = 'pending' AND d.state <> 'canceled' THEN NULL
            ELSE coalesce(d.finished_at, $9) END,
          reason = CASE WHEN d.state = 'canceled' THEN d.reason ELSE u.reason END,
          lost_in_a_row = d.lost_in_a_row + 1
        FROM u
        WHERE d.webhook_id = u.webhook_id AND d.id = u.id AND d.attempt_number = u.attempt_number
          AND d.leased_until = to_timestamp(u.leased_ms / 1000)
        RETURNING d.id, d.webhook_id, d.tenant_id, d.event_id, d.event_type, d.state, d.reason, d.reason_detail,
          d.attempt_number AS attempt_count),
      ${notingAttempts("FROM counted", "attempt_count")},
      ${notingFailures("counted", "$10", "$9")}
      INSERT INTO attempt (delivery_id, number, started_at, duration_ms, outcome)
      SELECT u.id, u.attempt_number, to_timestamp(u.started_ms / 1000), 0, 'lost' FROM u JOIN counted USING (id)`,
    values: [
      intArray(lost.map(({ lease }) => lease.webhookId)),
      uuidArray(lost.map(({ lease }) => lease.id)),
      intArray(lost.map(({ lease }) => lease.attemptNumber)),
      instantArray(lost.map(({ lease }) => lease.leasedUntil)),
      textArray(lost.map(({ settlement }) => settlement.state)),
      instantArray(lost.map(({ settlement }) => ("dueAt" in settlement ? settlement.dueAt : null))),
      textArray(lost.map(({ settlement }) => ("reason" in settlement ? settlement.reason : null))),
      instantArray(lost.map(({ startedAt }) => startedAt)),
      now,
      intArray(toldTenantIds),
    ],
  });
  return result.rowCount ?? 0;
}

/** Gives leases more time: their attempts are still under way here, or wait to be recorded. */
export async function renewLeases(
  pool: pg.Pool,
  held: readonly HeldDelivery[],
  leasedUntil: Date,
): Promise<void> {
  await pool.query({
    name: "renew-leases",
    text: `UPDATE delivery d SET leased_until = $4
      FROM unnest($1::int[], $2::uuid[], $3::int[]) AS u(webhook_id, id, attempt_number)
      WHERE d.webhook_id = u.webhook_id AND d.id = u.id AND d.attempt_number = u.attempt_number
        AND ${isLeased}`,
    values: [
      intArray(held.map((one) => one.webhookId)),
      uuidArray(held.map((one) => one.id)),
      intArray(held.map((one) => one.attemptNumber)),
      leasedUntil,
    ],
  });
}

/** Gives deliveries back whose attempt never started: they are due again, and the attempt's number is free. */
export async function releaseLeases(pool: pg.Pool, held: readonly HeldDelivery[], now: Date): Promise<void> {
  await pool.query({
    name: "release-leases",
    text: `UPDATE delivery d SET
        state = CASE WHEN d.state = 'delivering' THEN 'pending' ELSE d.state END,
        due_at = CASE WHEN d.state IN ('delivering', 'delivered') THEN $4::timestamptz END,
        leased_until = NULL, attempt_number = d.attempt_number - 1
      FROM unnest($1::int[], $2::uuid[], $3::int[]) AS u(webhook_id, id, attempt_number)
      WHERE d.webhook_id = u.webhook_id AND d.id = u.id AND d.attempt_number = u.attempt_number
        AND ${isLeased}`,
    values: [
      intArray(held.map((one) => one.webhookId)),
      uuidArray(held.map((one) => one.id)),
      intArray(held.map((one) => one.attemptNumber)),
      now,
    ],
  });
}
