/**
 * Recoveries as work. A recovery's row is its lease, its cursor and its counts: each turn locks it, looks at the next
 * stretch of the log, takes deliveries up, and moves the cursor in the same transaction. So a process may die between
 * two turns, another one goes on from the cursor, and what it counts stays true. Whoever has lost the lease finds another
 * holder in the row and does nothing.
 */

import type pg from "pg";
import type { DeliveryState } from "../domain/delivery.ts";
import type { RecoveryState } from "../domain/recovery.ts";
import { plainArray } from "./array-literals.ts";
import { isMakeable } from "./delivery-changes.ts";

/** A recovery that this process works on until its lease ends. */
export interface OpenRecovery {
  id: string;
  tenantId: number;
  clientId: number | null;
  webhookId: number | null;
  /** Empty = events that have no delivery. */
  states: DeliveryState[];
  eventTypes: string[];
  sinceAt: Date | null;
  untilAt: Date;
  ratePerSecond: number;
  state: RecoveryState;
  totalCount: number | null;
  position: Position;
  isWalked: boolean;
  /** When its next turn may come. */
  nextAt: Date;
  startedAt: Date;
}

/** The last row that was looked at. */
export interface Position {
  /** The webhook, or the next one after it that there is. */
  webhookId: number;
  /** Null = nothing of this webhook yet. */
  afterId: string | null;
}

const columns = `id, tenant_id, client_id, webhook_id, states, event_types, since_at, until_at, rate_per_second, state,
  total_count, cursor_webhook_id, cursor_id, is_walked, next_at, started_at`;

/**
 * Takes recoveries that are not settled, or renews the lease of those that this process has. Safe to call from several
 * processes: one that another has is left to it until its lease ends. Where there are more than `limit`, those that
 * have something to take up and those that only wait for endings (a paused webhook's may wait for weeks) have half of the
 * places each, and in each half those come first that were held longest ago.
 *
 * @returns `[]` when there is nothing to do
 */
export async function claimRecoveries(
  pool: pg.Pool,
  holderId: string,
  now: Date,
  leasedUntil: Date,
  limit: number,
): Promise<OpenRecovery[]> {
  const claimed = await pool.query({
    name: "claim-recoveries",
    text: `UPDATE recovery SET holder_id = $1, leased_until = $3
      WHERE id = ANY(ARRAY(
        SELECT r.id FROM recovery r JOIN (
          SELECT id, row_number() OVER (
            PARTITION BY state = 'running' AND NOT is_walked ORDER BY leased_until NULLS FIRST, id) AS place
          FROM recovery WHERE NOT is_settled) AS placed USING (id)
        WHERE NOT r.is_settled AND (r.holder_id IS NULL OR r.holder_id = $1 OR r.leased_until < $2)
        ORDER BY placed.place LIMIT $4 FOR UPDATE OF r SKIP LOCKED))
      RETURNING ${columns}`,
    values: [holderId, now, leasedUntil, limit],
  });
  return claimed.rows.map(toOpen);
}

/** Lets go of what this process has: others need not wait for the leases to end. */
export async function releaseRecoveries(pool: pg.Pool, holderId: string): Promise<void> {
  await pool.query("UPDATE recovery SET holder_id = NULL, leased_until = NULL WHERE holder_id = $1", [
    holderId,
  ]);
}

/** Locks the recovery for a turn; null if it is another process's by now. */
export async function lockRecovery(
  client: pg.ClientBase,
  id: string,
  holderId: string,
): Promise<OpenRecovery | null> {
  const found = await client.query(
    `SELECT ${columns} FROM recovery WHERE id = $1 AND holder_id = $2 FOR UPDATE`,
    [id, holderId],
  );
  return found.rows[0] ? toOpen(found.rows[0]) : null;
}

/** Notes how many there are, unless it is known. */
export async function saveTotal(pool: pg.Pool, id: string, totalCount: number): Promise<void> {
  await pool.query("UPDATE recovery SET total_count = $2 WHERE id = $1 AND total_count IS NULL", [
    id,
    totalCount,
  ]);
}

/** A delivery that a turn has taken up. */
export interface Taken {
  deliveryId: string;
  /** Number of the last attempt before. */
  attemptNumber: number;
}

export interface Turn {
  webhookId: number;
  taken: readonly Taken[];
  /** How many had their turn and were left alone. */
  leftAloneCount: number;
  /** Null = there is nothing more to look at. */
  position: Position | null;
  nextAt: Date;
}

/** Writes what a turn did, in its transaction. */
export async function saveTurn(client: pg.ClientBase, id: string, turn: Turn): Promise<void> {
  if (turn.taken.length > 0) {
    await client.query(
      `INSERT INTO recovery_delivery (recovery_id, webhook_id, delivery_id, attempt_number)
       SELECT $1, $2, u.id, u.attempt_number FROM unnest($3::uuid[], $4::int[]) AS u(id, attempt_number)
       ON CONFLICT DO NOTHING`,
      [
        id,
        turn.webhookId,
        plainArray(turn.taken.map((one) => one.deliveryId)),
        plainArray(turn.taken.map((one) => one.attemptNumber)),
      ],
    );
  }
  await client.query(
    `UPDATE recovery SET done_count = done_count + $2 + $3, other_count = other_count + $3, next_at = $4,
       is_walked = $5, cursor_webhook_id = coalesce($6, cursor_webhook_id), cursor_id = $7
     WHERE id = $1`,
    [
      id,
      turn.taken.length,
      turn.leftAloneCount,
      turn.nextAt,
      turn.position === null,
      turn.position?.webhookId ?? null,
      turn.position?.afterId ?? null,
    ],
  );
}

/** The webhook to look at from this position on; null if there is none any more that is on. */
export async function findWebhook(
  client: pg.ClientBase | pg.Pool,
  recovery: Pick<OpenRecovery, "tenantId" | "clientId" | "webhookId">,
  position: Position,
): Promise<number | null> {
  const found = await client.query<{ id: number }>({
    name: "recovery-webhook",
    text: `SELECT id FROM webhook
      WHERE tenant_id = $1 AND ($2::int IS NULL OR client_id = $2) AND ($3::int IS NULL OR id = $3) AND id >= $4
        AND is_enabled
      ORDER BY id LIMIT 1`,
    values: [recovery.tenantId, recovery.clientId, recovery.webhookId, position.webhookId],
  });
  return found.rows[0]?.id ?? null;
}

export interface LoggedRow {
  id: string;
  eventType: string;
  /** True if it could be asked for again when the recovery started, and still can be. */
  isFit: boolean;
}

/**
 * The next deliveries of a webhook, oldest first, fit or not, so that a look is as short as its limit. Those in `failed`
 * and `canceled` have an index of their own; with `delivered` among the states all are looked at.
 */
export async function readDeliveries(
  client: pg.ClientBase | pg.Pool,
  asked: {
    webhookId: number;
    afterId: string;
    beforeId: string;
    states: readonly DeliveryState[];
    startedAt: Date;
  },
  limit: number,
): Promise<LoggedRow[]> {
  const isRare = !asked.states.includes("delivered");
  const found = await client.query({
    name: isRare ? "recovery-given-up" : "recovery-deliveries",
    text: `SELECT id, event_type, ${isFit("$4::text[]", "$5::timestamptz")} AS is_fit FROM delivery d
      WHERE d.webhook_id = $1 AND d.id > $2 AND d.id < $3 ${isRare ? "AND d.state IN ('failed', 'canceled')" : ""}
      ORDER BY d.id LIMIT $6`,
    values: [
      asked.webhookId,
      asked.afterId,
      asked.beforeId,
      plainArray(asked.states),
      asked.startedAt,
      limit,
    ],
  });
  return found.rows.map((row) => ({ id: row.id, eventType: row.event_type, isFit: row.is_fit }));
}

/** What has ended after the recovery started may have been taken up by it, and is not taken up again. */
function isFit(states: string, startedAt: string): string {
  return `d.state = ANY(${states}) AND d.due_at IS NULL AND d.leased_until IS NULL AND d.erased_at IS NULL
    AND d.finished_at <= ${startedAt} AND ${isMakeable}`;
}

/**
 * Makes deliveries due again, as `retryDelivery` does: from `failed` or `canceled` for a new round, from `delivered` for
 * one attempt.
 *
 * @returns those that could be; none if the webhook has been turned off
 */
export async function askAgain(
  client: pg.ClientBase,
  asked: {
    webhookId: number;
    deliveryIds: readonly string[];
    states: readonly DeliveryState[];
    startedAt: Date;
  },
  now: Date,
): Promise<Taken[]> {
  if (asked.deliveryIds.length === 0) return [];
  const taken = await client.query({
    name: "recovery-ask-again",
    text: `UPDATE delivery d SET
        state = CASE WHEN d.state = 'delivered' THEN d.state ELSE 'pending' END,
        due_at = $5, round_attempt_count = 0, lost_in_a_row = 0,
        finished_at = CASE WHEN d.state = 'delivered' THEN d.finished_at END, reason = NULL, reason_detail = NULL
      WHERE d.webhook_id = (SELECT id FROM webhook WHERE id = $1 AND is_enabled) AND d.id = ANY($2::uuid[])
        AND ${isFit("$3::text[]", "$4::timestamptz")}
      RETURNING d.id, d.attempt_number`,
    values: [asked.webhookId, plainArray(asked.deliveryIds), plainArray(asked.states), asked.startedAt, now],
  });
  return taken.rows.map((row) => ({ deliveryId: row.id, attemptNumber: row.attempt_number }));
}

/** The last one that was asked about; null = none. */
export type SettledUpTo = { webhookId: number; deliveryId: string } | null;

export interface Settled {
  /** Where the look ended; null = at the end of the list. */
  upTo: SettledUpTo;
  /** How many had ended. */
  endedCount: number;
}

/**
 * Counts those of the next `limit` taken deliveries that have ended, once each: what is counted is taken off the list in
 * the same transaction. Ends the recovery when nothing is left to look at and nothing under way.
 *
 * @param after  where the last look ended
 */
export async function settleTaken(
  client: pg.ClientBase,
  recovery: OpenRecovery,
  after: SettledUpTo,
  limit: number,
  now: Date,
): Promise<Settled> {
  const found = await client.query<{ webhook_id: number; delivery_id: string; ending: string | null }>({
    name: "recovery-endings",
    text: endingsText,
    values: [
      recovery.id,
      after?.webhookId ?? 0,
      after?.deliveryId ?? "00000000-0000-0000-0000-000000000000",
      limit,
    ],
  });
  const ended = found.rows.filter(({ ending }) => ending !== null);
  if (ended.length > 0) {
    await client.query({
      name: "recovery-delete-ended",
      text: `DELETE FROM recovery_delivery r USING unnest($2::int[], $3::uuid[]) AS u(webhook_id, delivery_id)
        WHERE r.recovery_id = $1 AND r.webhook_id = u.webhook_id AND r.delivery_id = u.delivery_id`,
      values: [
        recovery.id,
        plainArray(ended.map((one) => one.webhook_id)),
        plainArray(ended.map((one) => one.delivery_id)),
      ],
    });
  }
  const countOf = (ending: string) => ended.filter((one) => one.ending === ending).length;
  await client.query(
    `UPDATE recovery SET delivered_count = delivered_count + $2, failed_count = failed_count + $3,
       other_count = other_count + $4 WHERE id = $1`,
    [recovery.id, countOf("delivered"), countOf("failed"), countOf("other")],
  );
  if (recovery.isWalked || recovery.state === "canceled") {
    await client.query(
      `UPDATE recovery SET is_settled = true, holder_id = NULL, leased_until = NULL,
         state = CASE WHEN state = 'running' THEN 'done' ELSE state END,
         total_count = CASE WHEN state = 'running' THEN done_count ELSE total_count END,
         finished_at = coalesce(finished_at, $2)
       WHERE id = $1 AND NOT EXISTS (SELECT FROM recovery_delivery WHERE recovery_id = $1)`,
      [recovery.id, now],
    );
  }
  const last = found.rows.at(-1);
  const isCut = last !== undefined && found.rows.length === limit;
  return {
    upTo: isCut ? { webhookId: last.webhook_id, deliveryId: last.delivery_id } : null,
    endedCount: ended.length,
  };
}

/** A delivery that stays `delivered` is judged by the attempt that was made since; what retention dropped by nothing. */
const endingsText = `
  WITH asked AS MATERIALIZED (
    SELECT webhook_id, delivery_id, attempt_number FROM recovery_delivery
    WHERE recovery_id = $1 AND (webhook_id, delivery_id) > ($2::int, $3::uuid)
    ORDER BY webhook_id, delivery_id LIMIT $4)
  SELECT a.webhook_id, a.delivery_id,
    CASE
      WHEN d.id IS NULL THEN 'other'
      WHEN d.due_at IS NOT NULL OR d.leased_until IS NOT NULL THEN NULL
      WHEN d.state = 'failed' THEN 'failed'
      WHEN d.state = 'delivered' THEN coalesce((
        SELECT CASE t.outcome WHEN 'succeeded' THEN 'delivered' ELSE 'failed' END FROM attempt t
        WHERE t.delivery_id = a.delivery_id AND t.number > a.attempt_number ORDER BY t.number DESC LIMIT 1), 'other')
      ELSE 'other' END AS ending
  FROM asked a LEFT JOIN delivery d ON d.webhook_id = a.webhook_id AND d.id = a.delivery_id
  ORDER BY a.webhook_id, a.delivery_id`;

// biome-ignore lint/suspicious/noExplicitAny: a row of the statements above
function toOpen(row: any): OpenRecovery {
  return {
    id: row.id,
    tenantId: row.tenant_id,
    clientId: row.client_id,
    webhookId: row.webhook_id,
    states: row.states,
    eventTypes: row.event_types,
    sinceAt: row.since_at,
    untilAt: row.until_at,
    ratePerSecond: row.rate_per_second,
    state: row.state,
    totalCount: row.total_count,
    position: { webhookId: row.cursor_webhook_id, afterId: row.cursor_id },
    isWalked: row.is_walked,
    nextAt: row.next_at,
    startedAt: row.started_at,
  };
}
