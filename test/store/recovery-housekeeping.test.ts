import pino from "pino";
import { afterAll, beforeAll, expect, test } from "vitest";
import { firstIdAt } from "../../server/domain/ids.ts";
import { createHousekeeper } from "../../server/store/housekeeping.ts";
import { openStore, type Store } from "./open-store.ts";

const now = new Date();
const daysAgo = (days: number) => new Date(now.getTime() - days * 86_400_000);

let store: Store;
beforeAll(async () => {
  store = await openStore();
});
afterAll(() => store.close());

test("what streams follow goes after a day, settled recoveries after 90, and notes of late deliveries after their events", async () => {
  const log = pino({ level: "silent" });
  const clock = { now: () => now, sleep: () => Promise.resolve() };
  const webhookId = await store.addWebhook();
  for (const hours of [30, 25, 23, 1]) {
    await store.pool.query(
      `INSERT INTO attempt_batch (recorded_at, webhook_ids, delivery_ids, numbers)
       VALUES ($1, '{1}', '{00000000-0000-0000-0000-000000000001}', '{1}')`,
      [daysAgo(hours / 24)],
    );
  }
  const recover = (id: string, days: number, isSettled: boolean) =>
    store.pool.query(
      `INSERT INTO recovery (id, tenant_id, is_missed, states, event_types, until_at, rate_per_second, state, is_settled,
         next_at, started_at, finished_at)
       VALUES ($1, 1, true, '{}', '{}', now(), 1, 'canceled', $3, now(), now(), $2)`,
      [`00000000-0000-0000-0000-00000000000${id}`, daysAgo(days), isSettled],
    );
  await recover("1", 91, true);
  await recover("2", 89, true);
  // Something of it is still under way.
  await recover("3", 91, false);
  for (const days of [100, 38, 36, 1]) {
    await store.pool.query("INSERT INTO late_delivery (event_id, webhook_id) VALUES ($1, $2)", [
      firstIdAt(daysAgo(days).getTime()),
      webhookId,
    ]);
  }
  const housekeeper = createHousekeeper(
    { database: store.database, clock, log },
    { logDays: 30, conversationDays: 0, auditDays: 400 },
  );
  await housekeeper.sweep();
  await housekeeper.close();
  const { rows } = await store.pool.query(
    `SELECT (SELECT count(*)::int FROM attempt_batch) AS batches, (SELECT count(*)::int FROM late_delivery) AS late,
       (SELECT string_agg(right(id::text, 1), '' ORDER BY id) FROM recovery) AS recoveries`,
  );
  expect(rows).toEqual([{ batches: 2, late: 2, recoveries: "23" }]);
});
