/** What recoveries, streams and figures read: by index, in stretches, whatever else the log holds. */

import { afterAll, beforeAll, expect, test } from "vitest";
import { firstIdAt } from "../../server/domain/ids.ts";
import { countDeliveries } from "../../server/store/delivery-stats.ts";
import { findDelivered, holdEvents, readEventRows } from "../../server/store/missed-events.ts";
import type { Database } from "../../server/store/orm.ts";
import {
  askAgain,
  claimRecoveries,
  lockRecovery,
  readDeliveries,
  saveTurn,
  settleTaken,
} from "../../server/store/recovery-turns.ts";
import { openWatch, readNewAttempts, readWatched } from "../../server/store/watched-attempts.ts";
import { openStore, type Store, storeNow } from "./open-store.ts";
import { scansOf, settleStatistics } from "./scans.ts";

const dayMs = 86_400_000;
const dailyCount = 12_000;
const webhookCount = 4;
const owner = { tenantId: 1, clientId: null };
const noUuid = firstIdAt(0);
const beforeId = firstIdAt(storeNow.getTime() + 1_000);
const today = firstIdAt(storeNow.getTime() - 60_000);
const recoveryId = "0199c0de-0000-7000-8000-00000000abcd";
const holderId = "0199c0de-0000-7000-8000-00000000ffff";

let store: Store;
let webhookIds: number[];
let givenUpIds: string[];
let idsOfToday: string[];
beforeAll(async () => {
  store = await openStore();
  webhookIds = [];
  for (let count = 0; count < webhookCount; count++) webhookIds.push(await store.addWebhook());
  for (let day = 3; day >= 0; day--) {
    const at = new Date(storeNow.getTime() - day * dayMs);
    await store.partitions.ensureDay(at);
    const ids = Array.from({ length: dailyCount }, () => store.newId(at)).sort();
    // One of a hundred has failed.
    await store.pool.query(
      `INSERT INTO delivery (webhook_id, id, tenant_id, event_id, event_type, state, attempt_number, finished_at, reason,
         body, content_type, transformer_version)
       SELECT ($2::int[])[1 + n % $3], id, 1, id, 'message.received', CASE WHEN n % 100 = 0 THEN 'failed' ELSE 'delivered' END,
         1, $4, CASE WHEN n % 100 = 0 THEN 'attempts_exhausted' END, 'a', 'text/plain', '1'
       FROM unnest($1::uuid[]) WITH ORDINALITY AS u(id, n)`,
      [ids, webhookIds, webhookCount, at],
    );
    await store.pool.query(
      `INSERT INTO event (tenant_id, id, type, received_at, details, item)
       SELECT 1, id, 'message.received', now(), '{}', '{}' FROM unnest($1::uuid[]) AS u(id)`,
      [ids],
    );
    await store.pool.query(
      `INSERT INTO attempt (delivery_id, number, started_at, duration_ms, outcome)
       SELECT id, 1, now(), 0, 'lost' FROM unnest($1::uuid[]) AS u(id)`,
      [ids],
    );
    idsOfToday = ids;
  }
  for (let from = 0; from < idsOfToday.length; from += 500) {
    await store.pool.query(
      `INSERT INTO attempt_batch (webhook_ids, delivery_ids, numbers)
       SELECT array_agg(webhook_id), array_agg(id), array_agg(1) FROM delivery WHERE id = ANY($1::uuid[])`,
      [idsOfToday.slice(from, from + 500)],
    );
  }
  const found = await store.pool.query(
    "SELECT id FROM delivery WHERE webhook_id = $1 AND state = 'failed' AND id > $2 ORDER BY id",
    [webhookIds[0], today],
  );
  givenUpIds = found.rows.map(({ id }) => id);
  expect(givenUpIds).toHaveLength(120);
  await store.pool.query(
    `INSERT INTO recovery (id, tenant_id, is_missed, states, event_types, until_at, rate_per_second, state, next_at, started_at)
     VALUES ($1, 1, false, '{failed,canceled}', '{}', $2, 50, 'running', $2, $2)`,
    [recoveryId, storeNow],
  );
  await store.pool.query("ANALYZE");
  await settleStatistics(store.url);
});
afterAll(() => store.close());

const logged = (states: ("failed" | "canceled" | "delivered")[], afterId = noUuid) => ({
  webhookId: webhookIds[0]!,
  afterId,
  beforeId,
  states,
  startedAt: storeNow,
});

async function inTransaction(database: Database, act: (client: import("pg").PoolClient) => Promise<void>) {
  const client = await database.pool.connect();
  await client.query("BEGIN");
  await act(client);
  await client.query("COMMIT");
  client.release();
}

// In this order: each works on what the one before has left.
test.for<[string, (database: Database) => Promise<unknown>, number]>([
  [
    "what failed, from the first day on",
    async ({ pool }) => {
      const rows = await readDeliveries(pool, logged(["failed", "canceled"]), 50);
      expect(rows.filter(({ isFit }) => isFit)).toHaveLength(50);
    },
    // The rows, and an event for each whose payload was never made.
    150,
  ],
  [
    "whatever ended, delivered or not",
    async ({ pool }) => {
      const rows = await readDeliveries(pool, logged(["failed", "delivered"], today), 500);
      expect(rows).toHaveLength(500);
    },
    1_100,
  ],
  [
    "asking again",
    (database) =>
      inTransaction(database, async (client) => {
        const [recovery] = await claimRecoveries(
          database.pool,
          holderId,
          storeNow,
          new Date(Date.now() + 60_000),
          5,
        );
        expect(recovery?.id).toBe(recoveryId);
        await lockRecovery(client, recoveryId, holderId);
        const asked = { ...logged(["failed"]), deliveryIds: givenUpIds.slice(0, 50) };
        const taken = await askAgain(client, asked, storeNow);
        expect(taken).toHaveLength(50);
        const position = { webhookId: webhookIds[0]!, afterId: givenUpIds[49]! };
        const turn = { webhookId: webhookIds[0]!, taken, leftAloneCount: 0, position, nextAt: storeNow };
        await saveTurn(client, recoveryId, turn);
      }),
    // A partition with each of three days' indexes is probed for each id at the worst.
    500,
  ],
  [
    "counting what has ended",
    (database) =>
      inTransaction(database, async (client) => {
        const recovery = await lockRecovery(client, recoveryId, holderId);
        await settleTaken(client, recovery!, null, 1_000, storeNow);
      }),
    250,
  ],
  [
    "events, and which of them have a delivery",
    async ({ pool }) => {
      const events = await readEventRows(pool, { tenantId: 1, afterId: today, beforeId }, 500);
      expect(events).toHaveLength(500);
      const ids = events.map(({ id }) => id);
      const delivered = await findDelivered(pool, webhookIds[0]!, ids);
      expect(delivered.size).toBeGreaterThan(100);
    },
    // Of the deliveries those of the webhook that were made in the same minute.
    500 + dailyCount / webhookCount + 100,
  ],
  [
    "events that are held",
    (database) =>
      inTransaction(database, async (client) => {
        expect((await holdEvents(client, 1, idsOfToday.slice(0, 50))).size).toBe(50);
      }),
    250,
  ],
  [
    "new attempts with their deliveries",
    async (database) => {
      const fresh = await openWatch(database, owner, null);
      const position = { ...fresh, since: "3:3:" };
      const found = await readNewAttempts(database, owner, null, position);
      expect(found.attempts).toHaveLength(20 * 500);
      const named = found.attempts.slice(0, 100);
      const all = { webhookId: null, states: [], eventType: null, since: null, until: null };
      expect((await readWatched(database, named, all)).size).toBe(100);
    },
    600,
  ],
])("%s: read by index alone, and about as many rows as it needs", async ([, act, rowsMax]) => {
  const scans = await scansOf(store.url, act);
  expect(scans.sequential).toBe(0);
  expect(scans.rows).toBeLessThanOrEqual(rowsMax);
});

test("figures of a day read that day and no other", async () => {
  const scans = await scansOf(store.url, async (database) => {
    const until = new Date(storeNow.getTime() + 1_000);
    const range = { webhookId: null, since: new Date(storeNow.getTime() - 60_000), until };
    const stats = await countDeliveries(database, owner, range);
    expect(stats.attemptsByOutcome.lost).toBe(dailyCount);
  });
  expect(scans.scansOfOldDays).toBe(0);
});
