/**
 * Deliveries that are due, claimed under a lease.
 *
 * `due_at` and `leased_until` are the queue; `state` is what a user sees. Every claim raises `attempt_number`, and
 * whatever ends the lease (`delivery-settlements.ts`, `delivery-leases.ts`) counts only if that number is still the one
 * it was claimed with: whoever comes late changes nothing.
 */

import type pg from "pg";
import type { ClaimAsked, Claimed, DueWebhook } from "../domain/delivery-claim.ts";
import { intArray } from "./binary-arrays.ts";

const claimDueText = `
  WITH due AS MATERIALIZED (
    SELECT d.webhook_id, d.id
    FROM unnest($1::int[], $2::int[]) AS asked(webhook_id, room)
    JOIN webhook w ON w.id = asked.webhook_id AND w.is_enabled AND NOT w.is_paused
    CROSS JOIN LATERAL (
      SELECT webhook_id, id FROM delivery
      WHERE webhook_id = asked.webhook_id AND due_at <= $3
      ORDER BY due_at LIMIT asked.room
      FOR UPDATE SKIP LOCKED) AS d)
  UPDATE delivery d
  SET state = CASE WHEN d.state = 'pending' THEN 'delivering' ELSE d.state END,
    attempt_number = d.attempt_number + 1, due_at = NULL, leased_until = $4
  FROM due WHERE d.webhook_id = due.webhook_id AND d.id = due.id
  RETURNING d.id, d.webhook_id, d.tenant_id, d.event_id, d.attempt_number, d.round_attempt_count, d.state,
    d.body, d.content_type, d.payload_headers, (SELECT version FROM configuration) AS version`;

/**
 * Claims due deliveries of the given webhooks for this process, oldest due first.
 * Safe to call from several processes: rows that another one is claiming are skipped, not waited for. The rows of each
 * webhook are found by their own range of one index, so another webhook's backlog costs nothing. Webhooks that were
 * turned off or paused meanwhile give nothing.
 *
 * @param asked        webhook ids with the number of deliveries wanted of each
 * @param leasedUntil  later than the attempt can last
 * @returns no deliveries when nothing is due
 */
export async function claimDue(
  pool: pg.Pool,
  asked: readonly ClaimAsked[],
  now: Date,
  leasedUntil: Date,
): Promise<Claimed> {
  const claimed = await pool.query({
    name: "claim-due",
    text: claimDueText,
    values: [
      intArray(asked.map((one) => one.webhookId)),
      intArray(asked.map((one) => one.room)),
      now,
      leasedUntil,
    ],
  });
  return {
    configurationVersion: claimed.rows.length > 0 ? BigInt(claimed.rows[0].version) : 0n,
    deliveries: claimed.rows.map((row) => ({
      id: row.id,
      webhookId: row.webhook_id,
      tenantId: row.tenant_id,
      eventId: row.event_id,
      attemptNumber: row.attempt_number,
      roundAttemptCount: row.round_attempt_count,
      isResend: row.state === "delivered",
      payload: row.body && {
        body: row.body,
        contentType: row.content_type,
        headers: row.payload_headers ? JSON.parse(row.payload_headers) : {},
      },
    })),
  };
}

/**
 * For each webhook with waiting deliveries, when the first of them is due. Costs one index probe a webhook,
 * however many deliveries wait.
 */
export async function listDueWebhooks(pool: pg.Pool): Promise<DueWebhook[]> {
  const found = await pool.query({
    name: "list-due-webhooks",
    text: `WITH RECURSIVE waiting AS (
        (SELECT webhook_id, due_at FROM delivery WHERE due_at IS NOT NULL ORDER BY webhook_id, due_at LIMIT 1)
        UNION ALL
        SELECT next.webhook_id, next.due_at FROM waiting CROSS JOIN LATERAL (
          SELECT webhook_id, due_at FROM delivery
          WHERE due_at IS NOT NULL AND webhook_id > waiting.webhook_id
          ORDER BY webhook_id, due_at LIMIT 1) AS next)
      SELECT webhook_id, due_at FROM waiting`,
    values: [],
  });
  return found.rows.map((row) => ({ webhookId: row.webhook_id, dueAt: row.due_at }));
}
