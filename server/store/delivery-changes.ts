/** Deliveries that somebody cancels, or asks for again. (As a log they are read by `delivery-log.ts`.) */

import type { DeliveryState, GivenUpReason } from "../domain/delivery.ts";
import { GatewayError } from "../domain/errors.ts";
import { isUuid } from "../domain/ids.ts";
import type { Owner } from "./access.ts";
import { isRepeatable } from "./faults.ts";
import type { Database } from "./orm.ts";

const cancelBatchMax = 5_000;

/**
 * Cancels what a webhook has not finished, in batches, until nothing is left. Attempts in flight run on: one that
 * succeeds still gives `delivered`. Deliveries that are sent once more stay `delivered` and are not sent. Of a webhook
 * that is on, nothing is canceled: a process that has not heard yet that it was turned on again may ask for that.
 *
 * @returns how many deliveries were canceled
 */
export async function cancelUnfinished(
  database: Database,
  webhookId: number,
  reason: GivenUpReason,
  now: Date,
): Promise<number> {
  let canceledCount = 0;
  let failureCount = 0;
  for (;;) {
    try {
      const result = await database.pool.query({
        name: "cancel-unfinished",
        text: cancelUnfinishedText,
        values: [webhookId, reason, now, cancelBatchMax],
      });
      const count = result.rowCount ?? 0;
      canceledCount += count;
      if (count === 0) return canceledCount;
    } catch (error) {
      // Attempts that are recorded at the same time lock the same rows, in another order.
      failureCount += 1;
      if (!isRepeatable(error) || failureCount === cancelFailuresMax) throw error;
    }
  }
}

const cancelFailuresMax = 5;

const cancelUnfinishedText = `
  WITH off AS (SELECT id FROM webhook WHERE id = $1 AND NOT is_enabled),
  waiting AS (
    SELECT webhook_id, id FROM delivery
    WHERE webhook_id = (SELECT id FROM off) AND due_at IS NOT NULL LIMIT $4 FOR UPDATE),
  under_way AS (
    SELECT webhook_id, id FROM delivery
    WHERE leased_until IS NOT NULL AND webhook_id = (SELECT id FROM off) AND state = 'delivering' LIMIT $4 FOR UPDATE)
  UPDATE delivery d SET
    state = CASE WHEN d.state = 'delivered' THEN d.state ELSE 'canceled' END,
    reason = CASE WHEN d.state = 'delivered' THEN d.reason ELSE $2 END,
    finished_at = coalesce(d.finished_at, $3), due_at = NULL
  FROM (SELECT * FROM waiting UNION SELECT * FROM under_way) AS unfinished
  WHERE d.webhook_id = unfinished.webhook_id AND d.id = unfinished.id`;

/**
 * Asks for a delivery to be sent again, with its own id and bytes: from `failed` or `canceled` as a new round of
 * attempts whose numbers go on, from `delivered` as one attempt that leaves the state alone.
 *
 * @throws GatewayError `not_found`, or `wrong_state` if it is still under way or was skipped, if its webhook is off or
 *         gone, or if it has no payload and its event is gone from the log
 */
export async function retryDelivery(
  database: Database,
  owner: Owner,
  deliveryId: string,
  now: Date,
): Promise<void> {
  const missing = () =>
    new GatewayError("not_found", `delivery ${deliveryId} does not exist`, { field: "id" });
  if (!isUuid(deliveryId)) throw missing();
  const updated = await database.pool.query({
    name: "retry-delivery",
    text: `UPDATE delivery d SET
        state = CASE WHEN d.state = 'delivered' THEN d.state ELSE 'pending' END,
        due_at = $3, round_attempt_count = 0, lost_in_a_row = 0,
        finished_at = CASE WHEN d.state = 'delivered' THEN d.finished_at END, reason = NULL, reason_detail = NULL
      FROM webhook w
      WHERE w.tenant_id = $1 AND ($4::int IS NULL OR w.client_id = $4) AND d.webhook_id = w.id AND w.is_enabled
        AND d.id = $2 AND d.state IN ('failed', 'canceled', 'delivered')
        AND d.due_at IS NULL AND d.leased_until IS NULL AND d.erased_at IS NULL AND ${isMakeable}`,
    values: [owner.tenantId, deliveryId, now, owner.clientId],
  });
  if ((updated.rowCount ?? 0) > 0) return;
  const found = await database.pool.query<{ state: DeliveryState } & RetryObstacles>({
    name: "retry-delivery-refused",
    text: `SELECT d.state, w.is_enabled, w.deleted_at IS NOT NULL AS is_deleted,
        d.erased_at IS NOT NULL AS is_erased, NOT (${isMakeable}) AS is_outdated
      FROM webhook w JOIN delivery d ON d.webhook_id = w.id
      WHERE w.tenant_id = $1 AND ($3::int IS NULL OR w.client_id = $3) AND d.id = $2`,
    values: [owner.tenantId, deliveryId, owner.clientId],
  });
  const row = found.rows[0];
  if (!row) throw missing();
  throw new GatewayError("wrong_state", whyNoRetry(row.state, row), { field: "id" });
}

/** Its payload was made, or its event is there to make it of. */
export const isMakeable =
  "(d.body IS NOT NULL OR EXISTS (SELECT FROM event e WHERE e.tenant_id = d.tenant_id AND e.id = d.event_id))";

interface RetryObstacles {
  is_enabled: boolean;
  is_deleted: boolean;
  is_erased: boolean;
  is_outdated: boolean;
}

function whyNoRetry(state: DeliveryState, webhook: RetryObstacles): string {
  if (webhook.is_erased) return "the contact of this delivery was deleted: what it would send is erased";
  if (webhook.is_deleted) return "the webhook of this delivery is deleted: it can get nothing any more";
  if (!webhook.is_enabled) return "the webhook of this delivery is off: turn it on first (status: true)";
  if (webhook.is_outdated && (state === "failed" || state === "canceled")) {
    return "this delivery can be sent no more: its payload was never made, and retention has dropped its event";
  }
  if (state === "skipped") return "this delivery was skipped: its transformer had nothing to send";
  return `this delivery is ${state === "delivered" ? "being sent once more" : state}: wait until its attempts have ended`;
}
