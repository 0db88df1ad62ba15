import type pg from "pg";
import type { NewDelivery } from "../domain/delivery-claim.ts";
import { instantArray, intArray, textArray, uuidArray } from "./binary-arrays.ts";

/**
 * Adds deliveries inside a transaction of the caller. The statement is on its way when this returns: what the caller
 * sends next comes behind it.
 */
export function insertDeliveries(
  client: pg.ClientBase,
  rows: readonly NewDelivery[],
  now: Date,
): Promise<unknown> {
  return client.query({
    name: "insert-deliveries",
    text: `INSERT INTO delivery (webhook_id, id, tenant_id, event_id, event_type, state, attempt_number, due_at,
        leased_until)
      SELECT u.webhook_id, u.id, u.tenant_id, u.event_id, u.event_type,
        CASE WHEN u.leased_ms IS NULL THEN 'pending' ELSE 'delivering' END,
        CASE WHEN u.leased_ms IS NULL THEN 0 ELSE 1 END,
        CASE WHEN u.leased_ms IS NULL THEN $7::timestamptz END,
        to_timestamp(u.leased_ms / 1000)
      FROM unnest($1::int[], $2::uuid[], $3::int[], $4::uuid[], $5::text[], $6::float8[])
        AS u(webhook_id, id, tenant_id, event_id, event_type, leased_ms)`,
    values: [
      intArray(rows.map((row) => row.webhookId)),
      uuidArray(rows.map((row) => row.id)),
      intArray(rows.map((row) => row.tenantId)),
      uuidArray(rows.map((row) => row.eventId)),
      textArray(rows.map((row) => row.eventType)),
      instantArray(rows.map((row) => row.leasedUntil)),
      now,
    ],
  });
}
