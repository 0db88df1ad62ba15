import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { settleLost } from "../../server/domain/delivery.ts";
import { cancelUnfinished, retryDelivery } from "../../server/store/delivery-changes.ts";
import { type ClaimedDelivery, claimDue, listDueWebhooks } from "../../server/store/delivery-claims.ts";
import {
  listExpiredLeases,
  listLeases,
  loseAttempts,
  releaseLeases,
  renewLeases,
} from "../../server/store/delivery-leases.ts";
import { type SettledAttempt, settleAttempts } from "../../server/store/delivery-settlements.ts";
import { readEvents } from "../../server/store/events.ts";
import { type Database, openDatabase } from "../../server/store/orm.ts";
import { queryRows } from "../helpers/query-rows.ts";
import { openStore, type Store, storeNow } from "./open-store.ts";
import { aSettledAttempt } from "./reports.ts";

const dayMs = 86_400_000;
const webhookCount = 20;
const dailyCount = 6_000;
const leaseEnd = new Date(storeNow.getTime() + 20_000);

let store: Store;
let webhookIds: number[];
let todaysIds: string[];
let doneId: string;
let claimed: ClaimedDelivery[];
beforeAll(async () => {
  store = await openStore();
  webhookIds = [];
  for (let count = 0; count < webhookCount; count++) webhookIds.push(await store.addWebhook());
  for (let day = 3; day >= 0; day--) {
    const at = new Date(storeNow.getTime() - day * dayMs);
    await store.partitions.ensureDay(at);
    const ids = Array.from({ length: dailyCount }, () => store.newId(at));
    await store.pool.query(
      `INSERT INTO delivery (webhook_id, id, tenant_id, event_id, event_type, state, finished_at)
       SELECT ($2::int[])[1 + n % $3], id, 1, id, 'message.received', 'delivered', now()
       FROM unnest($1::uuid[]) WITH ORDINALITY AS u(id, n)`,
      [ids, webhookIds, webhookCount],
    );
    await store.pool.query(
      `INSERT INTO event (tenant_id, id, type, received_at, details, item)
       SELECT 1, id, 'message.received', now(), '{}', '' FROM unnest($1::uuid[]) AS u(id)`,
      [ids],
    );
    todaysIds = ids.slice(-100);
    doneId = ids.at(-1)!;
  }
  for (const webhookId of webhookIds) {
    for (let count = 0; count < 20; count++) await store.addDelivery({ webhookId });
    await store.addDelivery({ webhookId, leasedUntil: new Date(storeNow.getTime() - 1) });
  }
  await store.pool.query("ANALYZE");
  // What the filling read must not be counted later: connections tell the statistics when they end.
  await queryRows(store.url)(
    `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid()`,
  );
});
afterAll(() => store.close());

/** Scans and rows read of each day's partition of a table, by sequence and by index. */
async function readScans(): Promise<Map<string, { sequential: number; scans: number; rows: number }>> {
  const client = new pg.Client({ connectionString: store.url });
  await client.connect();
  try {
    const found = await client.query(
      `SELECT t.relname AS name, t.seq_scan::int AS sequential, coalesce(t.idx_scan, 0)::int AS scans,
         (SELECT coalesce(sum(i.idx_tup_read), 0)::int FROM pg_stat_user_indexes i WHERE i.relid = t.relid) AS rows
       FROM pg_stat_user_tables t WHERE t.relname ~ '^(delivery|event|attempt)_2026'`,
    );
    return new Map(found.rows.map(({ name, ...scans }) => [name, scans]));
  } finally {
    await client.end();
  }
}

/** What an act reads; its connections add what they did to the statistics when they end. */
async function scansOf(act: (database: Database) => Promise<unknown>) {
  const before = await readScans();
  const database = await openDatabase(store.url, { onConnectionError: () => undefined });
  await act(database);
  await database.close();
  const sum = { sequential: 0, scansOfOldDays: 0, rows: 0 };
  for (const [name, after] of await readScans()) {
    const former = before.get(name)!;
    sum.sequential += after.sequential - former.sequential;
    sum.rows += after.rows - former.rows;
    if (!name.endsWith("2026_03_05")) sum.scansOfOldDays += after.scans - former.scans;
  }
  return sum;
}

function withReply(settled: SettledAttempt, replyIds: string[]): SettledAttempt {
  const replies = { kind: "parsed" as const, texts: [{ text: "a", delayMs: 0 }], answeredAtMs: 0 };
  return { ...settled, replyIds, report: { ...settled.report, replies } as SettledAttempt["report"] };
}

const asked = () => webhookIds.map((webhookId) => ({ webhookId, room: 5 }));
const isPruned = true;

// In this order: each works on what the one before has left.
test.for<[string, (database: Database) => Promise<unknown>, number, boolean]>([
  ["listDueWebhooks", ({ pool }) => listDueWebhooks(pool), 500, !isPruned],
  [
    "claimDue",
    async ({ pool }) => {
      claimed = (await claimDue(pool, asked(), storeNow, leaseEnd)).deliveries;
      expect(claimed).toHaveLength(100);
    },
    1_000,
    !isPruned,
  ],
  [
    "readEvents",
    async ({ pool }) => {
      const events = await readEvents(
        pool,
        todaysIds.map((eventId) => ({ tenantId: 1, eventId })),
      );
      expect(events.size).toBe(100);
    },
    200,
    isPruned,
  ],
  ["renewLeases", ({ pool }) => renewLeases(pool, claimed, leaseEnd), 500, isPruned],
  [
    "settleAttempts",
    async ({ pool }) => {
      const settled = claimed.slice(0, 60).map((one) => aSettledAttempt(one, "failed"));
      expect((await settleAttempts(pool, settled, storeNow)).size).toBe(60);
    },
    500,
    isPruned,
  ],
  [
    "settleAttempts with replies",
    async ({ pool }) => {
      const replyIds = [store.newId(storeNow)];
      const settled = claimed
        .slice(60, 70)
        .map((one) => withReply(aSettledAttempt(one, "succeeded"), replyIds));
      expect((await settleAttempts(pool, settled, storeNow)).size).toBe(10);
    },
    500,
    isPruned,
  ],
  ["releaseLeases", ({ pool }) => releaseLeases(pool, claimed.slice(70, 80), storeNow), 300, isPruned],
  [
    "listLeases",
    async ({ pool }) => expect(await listLeases(pool, claimed.slice(80))).toHaveLength(20),
    100,
    isPruned,
  ],
  [
    "listExpiredLeases and loseAttempts",
    async ({ pool }) => {
      const leases = await listExpiredLeases(pool, storeNow, 500);
      expect(leases).toHaveLength(webhookCount);
      const lost = leases.map((lease) => ({
        lease,
        settlement: settleLost(false, 1, storeNow),
        startedAt: storeNow,
      }));
      expect(await loseAttempts(pool, lost, storeNow)).toBe(webhookCount);
    },
    500,
    !isPruned,
  ],
  [
    "retryDelivery",
    (database) => retryDelivery(database, { tenantId: 1, clientId: null }, doneId, storeNow),
    200,
    isPruned,
  ],
  [
    "cancelUnfinished",
    async (database) => {
      await store.setWebhook(webhookIds[0]!, { isEnabled: false });
      expect(await cancelUnfinished(database, webhookIds[0]!, "webhook_disabled", storeNow)).toBeGreaterThan(
        10,
      );
    },
    1_000,
    !isPruned,
  ],
])(
  "%s reads by index alone, about as many rows as it needs, and old days only if it must",
  async ([, act, rowsMax, mustPrune]) => {
    const scans = await scansOf(act);
    expect(scans.sequential).toBe(0);
    expect(scans.rows).toBeLessThanOrEqual(rowsMax);
    if (mustPrune) expect(scans.scansOfOldDays).toBe(0);
  },
);
