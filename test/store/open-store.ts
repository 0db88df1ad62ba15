/** A database with rows made by hand, for the rooms below the gateway. */

import { randomFillSync } from "node:crypto";
import { createIdSource } from "../../server/domain/ids.ts";
import { changeConfiguration } from "../../server/store/configuration.ts";
import { type Database, openDatabase } from "../../server/store/orm.ts";
import { createPartitions } from "../../server/store/partitions.ts";
import { openTestDatabase } from "../helpers/database.ts";

export const storeNow = new Date("2026-03-05T12:00:00.000Z");

export interface WebhookRow {
  tenantId?: number;
  isEnabled?: boolean;
  isPaused?: boolean;
}

export interface DeliveryRow {
  webhookId: number;
  /** When it is due; null = it is not. */
  dueAt?: Date | null;
  leasedUntil?: Date | null;
  state?: string;
  attemptNumber?: number;
  /** Decides its day. */
  madeAt?: Date;
  body?: string;
}

export type Store = Awaited<ReturnType<typeof openStore>>;

export async function openStore() {
  const testDatabase = await openTestDatabase();
  const database: Database = await openDatabase(testDatabase.url, { onConnectionError: () => undefined });
  const partitions = createPartitions(database.pool);
  await partitions.ensureDay(storeNow);
  let webhookCount = 0;

  return {
    database,
    pool: database.pool,
    url: testDatabase.url,
    partitions,
    /** An id as of this instant, which decides its day. */
    newId(at: Date = storeNow): string {
      return createIdSource(
        () => at.getTime(),
        (bytes) => randomFillSync(bytes),
      ).next();
    },
    async addWebhook(row: WebhookRow = {}): Promise<number> {
      webhookCount += 1;
      const found = await database.pool.query<{ id: number }>(
        `INSERT INTO webhook (tenant_id, url, url_digest, is_enabled, is_paused, incoming, outgoing, schedule_activity,
           waiting_duration_seconds, is_signed, transformer, event_types, max_in_flight, description, version,
           created_at, updated_at)
         VALUES ($1, $2::text, sha256(convert_to($2::text, 'UTF8')), $3, $4, true, false, false, 0, false, 'raw', '{}', 64, '', 1, now(), now())
         RETURNING id`,
        [
          row.tenantId ?? 1,
          `https://example.com/${webhookCount}`,
          row.isEnabled ?? true,
          row.isPaused ?? false,
        ],
      );
      return found.rows[0]!.id;
    },
    async setWebhook(id: number, row: WebhookRow): Promise<void> {
      await database.pool.query(
        `UPDATE webhook SET is_enabled = coalesce($2, is_enabled), is_paused = coalesce($3, is_paused) WHERE id = $1`,
        [id, row.isEnabled ?? null, row.isPaused ?? null],
      );
    },
    async addDelivery(row: DeliveryRow): Promise<string> {
      const id = this.newId(row.madeAt);
      const dueAt = row.dueAt === undefined ? storeNow : row.dueAt;
      const state = row.state ?? (row.leasedUntil ? "delivering" : "pending");
      const isFinished = !["pending", "delivering"].includes(state);
      await database.pool.query(
        `WITH its_event AS (
           INSERT INTO event (tenant_id, id, type, received_at, details, item)
           VALUES (1, $2, 'message.received', now(), '{}', ''))
         INSERT INTO delivery (webhook_id, id, tenant_id, event_id, event_type, state, attempt_number, due_at,
           leased_until, finished_at, reason, body, content_type, transformer_version)
         VALUES ($1, $2, 1, $2, 'message.received', $3, $4, $5, $6, $7, $8, $9, $10, $10)`,
        [
          row.webhookId,
          id,
          state,
          row.attemptNumber ?? (row.leasedUntil ? 1 : 0),
          row.leasedUntil ? null : dueAt,
          row.leasedUntil ?? null,
          isFinished ? storeNow : null,
          state === "failed" ? "attempts_exhausted" : state === "canceled" ? "webhook_disabled" : null,
          row.body === undefined ? null : Buffer.from(row.body),
          row.body === undefined ? null : "text/plain",
        ],
      );
      return id;
    },
    // biome-ignore lint/suspicious/noExplicitAny: columns as they are
    async readDelivery(id: string): Promise<any> {
      return (await database.pool.query("SELECT * FROM delivery WHERE id = $1", [id])).rows[0];
    },
    // biome-ignore lint/suspicious/noExplicitAny: columns as they are
    async readAttempts(id: string): Promise<any[]> {
      return (await database.pool.query("SELECT * FROM attempt WHERE delivery_id = $1 ORDER BY number", [id]))
        .rows;
    },
    /** Makes a client of tenant `default` with one number; gives the ids of both rows. */
    async addClient(
      clientRef: string,
    ): Promise<{ clientId: number; numberId: number; phoneNumberId: string }> {
      return await changeConfiguration(database, async (em, version) => {
        const [client] = await em.execute<[{ id: number }]>(
          "INSERT INTO client (tenant_id, client_ref, version, created_at) VALUES (1, ?, ?, now()) RETURNING id",
          [clientRef, version],
        );
        const phoneNumberId = `number-of-${clientRef}`;
        const [number] = await em.execute<[{ id: number }]>(
          `INSERT INTO phone_number (phone_number_id, client_id, version, created_at) VALUES (?, ?, ?, now())
           RETURNING id`,
          [phoneNumberId, client.id, version],
        );
        return { clientId: client.id, numberId: number.id, phoneNumberId };
      });
    },
    async close() {
      await database.close();
      await testDatabase.close();
    },
  };
}
