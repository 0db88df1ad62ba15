import { randomFillSync } from "node:crypto";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { createIdSource } from "../../server/domain/ids.ts";
import { getDelivery, listDeliveries } from "../../server/store/delivery-log.ts";
import { type Database, openDatabase } from "../../server/store/orm.ts";
import { createPartitions } from "../../server/store/partitions.ts";
import { openTestDatabase, type TestDatabase } from "../helpers/database.ts";

const dayMs = 86_400_000;
const lastDayMs = Date.parse("2026-03-05T00:00:00Z");
const webhookIds = [1, 2, 3];
const dailyCount = 1_500;

let testDatabase: TestDatabase;
let database: Database;
let newestIds: string[];
beforeAll(async () => {
  testDatabase = await openTestDatabase();
  database = await openDatabase(testDatabase.url, { onConnectionError: () => undefined });
  newestIds = (await fillFourDays()).slice(-40).reverse();
  await countScansIn();
});
afterAll(async () => {
  await database.close();
  await testDatabase.close();
});

const owner = { tenantId: 1, clientId: null };
const everything = { webhookId: null, states: [], eventType: null, since: null, until: null };

describe("the delivery log", () => {
  test("is read by index alone, as many rows as are asked for, and only on the days in question", async () => {
    const before = await readScans();
    const found = await listDeliveries(database, owner, everything, { limit: 40, beforeId: null });
    expect(found.map((delivery) => delivery.id)).toEqual(newestIds);
    const one = await getDelivery(database, owner, newestIds[0]!);
    expect(one.delivery.id).toBe(newestIds[0]);
    const since = new Date(lastDayMs - dayMs);
    const until = new Date(lastDayMs);
    const yesterday = await listDeliveries(
      database,
      owner,
      { ...everything, since, until },
      { limit: 40, beforeId: null },
    );
    expect(yesterday).toHaveLength(40);

    await countScansIn();
    const after = await readScans();
    const read = (day: string) => {
      const name = `delivery_${day}`;
      return {
        sequential: after[name]!.sequential - before[name]!.sequential,
        rows: after[name]!.indexRows - before[name]!.indexRows,
      };
    };
    const today = read("2026_03_05");
    expect(today.sequential).toBe(0);
    // 40 of each webhook, one by id, and what an index scan reads ahead.
    expect(today.rows).toBeGreaterThanOrEqual(40);
    expect(today.rows).toBeLessThanOrEqual(webhookIds.length * 40 + 10);
    expect(read("2026_03_04").sequential).toBe(0);
    expect(read("2026_03_04").rows).toBeLessThanOrEqual(webhookIds.length * 40 + 10);
    expect(read("2026_03_03")).toEqual({ sequential: 0, rows: 0 });
    expect(read("2026_03_02")).toEqual({ sequential: 0, rows: 0 });
  });

  test("says in plain words that a search took too long", async () => {
    const blocker = await database.pool.connect();
    await blocker.query("BEGIN");
    await blocker.query("LOCK TABLE delivery IN ACCESS EXCLUSIVE MODE");
    try {
      const search = listDeliveries(database, owner, everything, { limit: 1, beforeId: null }, 50);
      await expect(search).rejects.toMatchObject({
        kind: "over_limit",
        message: "the search took too long: narrow the time range, or name a webhook",
      });
    } finally {
      await blocker.query("ROLLBACK");
      blocker.release();
    }
    expect(await listDeliveries(database, owner, everything, { limit: 1, beforeId: null })).toHaveLength(1);
  });
});

/** A connection adds its scans to the statistics when it ends, at the latest. */
async function countScansIn(): Promise<void> {
  await database.close();
  const client = new pg.Client({ connectionString: testDatabase.url });
  await client.connect();
  const countOthers = async () => {
    const found = await client.query(
      "SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
    return found.rows[0].count;
  };
  await vi.waitFor(async () => expect(await countOthers()).toBe(0), { timeout: 10_000 });
  await client.end();
  database = await openDatabase(testDatabase.url, { onConnectionError: () => undefined });
}

/** Deliveries of three webhooks on four days, in the order of their ids. */
async function fillFourDays(): Promise<string[]> {
  await database.em().execute(
    `INSERT INTO webhook (id, tenant_id, url, url_digest, is_enabled, is_paused, incoming, outgoing, schedule_activity,
       waiting_duration_seconds, is_signed, transformer, event_types, max_in_flight, description, version, created_at,
       updated_at)
     SELECT n, 1, 'https://x/' || n, sha256(n::text::bytea), true, false, true, false, false, 0, false, 'raw', '{}', 64,
       '', 1, now(), now() FROM generate_series(1, 3) n`,
  );
  const partitions = createPartitions(database.pool);
  const ids: string[] = [];
  for (let day = 3; day >= 0; day--) {
    const startMs = lastDayMs - day * dayMs;
    await partitions.ensureDay(new Date(startMs));
    let ms = startMs;
    const source = createIdSource(
      () => ++ms,
      (bytes) => randomFillSync(bytes),
    );
    for (let count = 0; count < dailyCount; count++) ids.push(source.next());
  }
  await database.pool.query(
    `INSERT INTO delivery (webhook_id, id, tenant_id, event_id, event_type, state, finished_at)
     SELECT 1 + n % 3, id, 1, id, 'message.received', 'delivered', now()
     FROM unnest($1::uuid[]) WITH ORDINALITY AS u(id, n)`,
    [ids],
  );
  await database.pool.query("ANALYZE delivery");
  return ids;
}

async function readScans(): Promise<Record<string, { sequential: number; indexRows: number }>> {
  const client = new pg.Client({ connectionString: testDatabase.url });
  await client.connect();
  try {
    const found = await client.query(
      `SELECT t.relname, t.seq_scan::int AS sequential,
         (SELECT coalesce(sum(i.idx_tup_read), 0)::int FROM pg_stat_user_indexes i WHERE i.relid = t.relid) AS rows
       FROM pg_stat_user_tables t WHERE t.relname LIKE 'delivery\\_2%'`,
    );
    return Object.fromEntries(
      found.rows.map((row) => [row.relname, { sequential: row.sequential, indexRows: row.rows }]),
    );
  } finally {
    await client.end();
  }
}
