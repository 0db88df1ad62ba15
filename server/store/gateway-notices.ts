/**
 * What is to become an event about the gateway itself. A notice is written in the transaction in which its reason
 * becomes true, only if some webhook of the tenant asks for such events, and deleted once the event is committed. One that
 * is told of twice, since a process died in between, is a duplicate by its key. So each is told of exactly once.
 */

import type { EntityManager } from "@mikro-orm/postgresql";
import type pg from "pg";
import type { GivenUpReason } from "../domain/delivery.ts";
import {
  type AboutWebhook,
  type Disabling,
  type FailedDelivery,
  gatewayPrefix,
} from "../domain/gateway-event.ts";
import { plainArray } from "./array-literals.ts";
import type { FailureStreak } from "./failure-streaks.ts";

/**
 * A part of a statement (`name AS (…)`) that notes which deliveries of `source` have failed for good.
 *
 * @param source   rows with `state`, `event_type`, `tenant_id`, `webhook_id`, `id`, `event_id`, `reason`,
 *                 `reason_detail` and `attempt_count` as they are now
 * @param tenants  parameter of the ids of the tenants that ask for it (`int[]`)
 * @param now      parameter of the instant (`timestamptz`)
 */
export function notingFailures(source: string, tenants: `$${number}`, now: `$${number}`): string {
  return `failures_noted AS (
    INSERT INTO gateway_notice (type, tenant_id, webhook_id, occurred_at, details)
    SELECT 'posthorn.delivery.failed', tenant_id, webhook_id, ${now}::timestamptz, jsonb_build_object(
      'deliveryId', id, 'eventId', event_id, 'eventType', event_type, 'reason', reason,
      'reasonDetail', reason_detail, 'attemptCount', attempt_count)
    FROM ${source}
    WHERE state = 'failed' AND tenant_id = ANY(${tenants}::int[]) AND event_type NOT LIKE '${gatewayPrefix}%')`;
}

/** Notes, in the transaction that turns a webhook off, that the gateway did it. */
export async function noteDisabled(
  em: EntityManager,
  tenantId: number,
  { webhookId, ...details }: FailureStreak & { reason: string },
  now: Date,
): Promise<void> {
  await em.execute(
    `INSERT INTO gateway_notice (type, tenant_id, webhook_id, occurred_at, details)
     VALUES ('posthorn.webhook.disabled', ?, ?, ?, ?)`,
    [tenantId, webhookId, now, JSON.stringify(details)],
  );
}

export type Notice = { id: string; about: Omit<AboutWebhook, "identity"> } & (
  | { type: "posthorn.delivery.failed"; delivery: FailedDelivery }
  | { type: "posthorn.webhook.disabled"; disabling: Disabling }
);

/**
 * Claims notices for this process, oldest first. Safe to call from several processes; those whose lease ran out are
 * claimed again.
 *
 * @returns `[]` when there is nothing to tell
 */
export async function claimNotices(
  pool: pg.Pool,
  limit: number,
  now: Date,
  leasedUntil: Date,
): Promise<Notice[]> {
  const found = await pool.query({
    name: "claim-notices",
    text: `WITH claimed AS (
        UPDATE gateway_notice SET leased_until = $3
        WHERE id = ANY(ARRAY(
          SELECT id FROM gateway_notice WHERE leased_until <= $2 ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED))
        RETURNING *)
      SELECT n.id, n.type, n.tenant_id, n.webhook_id, n.occurred_at, n.details, w.url, w.client_id, c.client_ref,
        a.number, a.outcome, a.error_kind, a.error_message, a.response_status
      FROM claimed n
      JOIN webhook w ON w.id = n.webhook_id
      LEFT JOIN client c ON c.id = w.client_id
      LEFT JOIN LATERAL (
        SELECT * FROM attempt t WHERE t.delivery_id = (n.details ->> 'deliveryId')::uuid
        ORDER BY t.number DESC LIMIT 1) AS a ON true
      ORDER BY n.id`,
    values: [limit, now, leasedUntil],
  });
  return found.rows.map(toNotice);
}

/** Ends notices that were told of. */
export async function deleteNotices(pool: pg.Pool, ids: readonly string[]): Promise<void> {
  await pool.query({
    name: "delete-notices",
    text: "DELETE FROM gateway_notice WHERE id = ANY($1::bigint[])",
    values: [plainArray(ids)],
  });
}

// biome-ignore lint/suspicious/noExplicitAny: a row of the statement above
function toNotice(row: any): Notice {
  const { details } = row;
  const notice = {
    id: row.id,
    about: {
      occurredAt: row.occurred_at,
      tenantId: row.tenant_id,
      webhook: { id: row.webhook_id, url: row.url, clientId: row.client_id, clientRef: row.client_ref },
    },
  };
  if (row.type === "posthorn.webhook.disabled") {
    const { firstFailedAt, lastFailedAt, ...rest } = details as Record<keyof Disabling, string>;
    const instants = { firstFailedAt: new Date(firstFailedAt), lastFailedAt: new Date(lastFailedAt) };
    return {
      ...notice,
      type: row.type,
      disabling: { reason: rest.reason, failedCount: Number(rest.failedCount), ...instants },
    };
  }
  return {
    ...notice,
    type: "posthorn.delivery.failed",
    delivery: {
      id: details.deliveryId,
      eventId: details.eventId,
      eventType: details.eventType,
      reason: details.reason as GivenUpReason,
      reasonDetail: details.reasonDetail,
      attemptCount: details.attemptCount,
      lastAttempt:
        row.number === null
          ? null
          : {
              number: row.number,
              outcome: row.outcome,
              errorKind: row.error_kind,
              errorMessage: row.error_message,
              responseStatus: row.response_status,
            },
    },
  };
}
