/** Rows of the log, as delivering writes them: made by hand, since nothing is sent here. */

import { randomFillSync } from "node:crypto";
import { createIdSource } from "../../server/domain/ids.ts";
import type { RpcGateway } from "./gateway.ts";

export interface DeliveryRow {
  id: string;
  webhookId: number;
  tenantId?: number;
  state?: "pending" | "delivering" | "delivered" | "failed" | "canceled" | "skipped";
  eventType?: string;
  reason?: string;
  attemptNumber?: number;
  body?: Buffer;
}

export interface AttemptRow {
  deliveryId: string;
  number: number;
  outcome: "succeeded" | "failed" | "lost";
  errorKind?: string;
  errorMessage?: string;
  status?: number;
  headers?: Record<string, string>;
  body?: Buffer;
}

export const eventId = "0199c0de-0000-7000-8000-00000000e0e0";

/** An id as a delivery made at `at` has. */
export function idAt(at: string): string {
  return createIdSource(
    () => Date.parse(at),
    (bytes) => randomFillSync(bytes),
  ).next();
}

export async function addDelivery(gateway: RpcGateway, row: DeliveryRow): Promise<string> {
  await gateway.partitions.ensureDay(new Date(Number.parseInt(row.id.slice(0, 8) + row.id.slice(9, 13), 16)));
  const state = row.state ?? "delivered";
  const isFinished = state !== "pending" && state !== "delivering";
  await gateway.database.pool.query(
    `INSERT INTO delivery (webhook_id, id, tenant_id, event_id, event_type, state, attempt_number, due_at, leased_until,
       finished_at, reason, transformer, transformer_version, content_type, body)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`,
    [
      row.webhookId,
      row.id,
      row.tenantId ?? 1,
      eventId,
      row.eventType ?? "message.received",
      state,
      row.attemptNumber ?? (state === "pending" ? 0 : 1),
      state === "pending" ? "2026-03-05T12:00:10.500Z" : null,
      state === "delivering" ? "2026-03-05T12:00:40Z" : null,
      isFinished ? "2026-03-05T12:00:01.250Z" : null,
      row.reason ?? null,
      row.body ? "insights" : null,
      row.body ? "1.0.0" : null,
      row.body ? "application/json" : null,
      row.body ?? null,
    ],
  );
  return row.id;
}

export async function addAttempt(gateway: RpcGateway, row: AttemptRow): Promise<void> {
  await gateway.database.pool.query(
    `INSERT INTO attempt (delivery_id, number, started_at, duration_ms, outcome, error_kind, error_message,
       response_status, response_headers, response_body)
     VALUES ($1, $2, '2026-03-05T12:00:00.500Z', 750, $3, $4, $5, $6, $7, $8)`,
    [
      row.deliveryId,
      row.number,
      row.outcome,
      row.errorKind ?? null,
      row.errorMessage ?? null,
      row.status ?? null,
      row.status === undefined ? null : JSON.stringify(row.headers ?? {}),
      row.status === undefined ? null : (row.body ?? Buffer.alloc(0)),
    ],
  );
}
