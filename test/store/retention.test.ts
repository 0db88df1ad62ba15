import pg from "pg";
import pino from "pino";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { countExpired } from "../../server/store/expiry.ts";
import { openDatabase } from "../../server/store/orm.ts";
import { createRetention, type Retention, type RetentionSettings } from "../../server/store/retention.ts";
import { manualClock } from "../helpers/manual-clock.ts";
import { waitFor } from "../helpers/wait.ts";
import { openStore, type Store, storeNow } from "./open-store.ts";

const dayMs = 86_400_000;
const daysAgo = (days: number) => new Date(storeNow.getTime() - days * dayMs);
/** `storeNow` is at noon: this day ended thirty and a half days ago, the one after it a day later. */
const oldDay = "2026_02_02";
const keptDay = "2026_02_03";
const oldAt = new Date("2026-02-02T23:59:59.999Z");

let store: Store;
let reader: pg.Client;
beforeAll(async () => {
  store = await openStore();
});
beforeEach(async () => {
  await store.partitions.ensureDay(oldAt);
  await store.partitions.ensureDay(new Date("2026-02-03T00:00:00Z"));
  reader = new pg.Client({ connectionString: store.url });
  await reader.connect();
});
afterEach(async () => {
  await reader.end();
  for (const retention of open.splice(0)) await retention.close();
});
afterAll(() => store.close());

const open: Retention[] = [];
let toldTenantIds: number[] = [];

/** Retention as a process runs it; it sweeps once by itself when it is made. */
function startRetention(
  settings: Partial<RetentionSettings> = {},
  now = storeNow,
  database = store.database,
) {
  const retention = createRetention(
    {
      database,
      failureToldTenants: () => toldTenantIds,
      onExpired: () => undefined,
      clock: manualClock(now),
      log: pino({ level: "silent" }),
    },
    { logDays: 30, conversationDays: 0, sweepMs: 1, retryMs: 1, ...settings },
  );
  open.push(retention);
  return retention;
}

async function tables(pattern: string): Promise<string[]> {
  const found = await store.pool.query(
    "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ $1 ORDER BY 1",
    [pattern],
  );
  return found.rows.map((row) => row.relname);
}
const logOf = (day: string) => tables(`^(event|delivery|attempt)_${day}$`);
const allOf = (day: string) => [`attempt_${day}`, `delivery_${day}`, `event_${day}`];

/** A sweep that gave up waiting for a reader, on a slow machine, is done by the next one. */
async function finish(sweeping: Promise<void>): Promise<void> {
  await sweeping.catch(() => startRetention().sweep());
}

describe("the log", () => {
  // A store remembers the days that it has made, so each test takes days of its own.
  test("loses the days whose last row is old enough, and no other", async () => {
    expect(await logOf(oldDay)).toEqual(allOf(oldDay));
    await startRetention().sweep();
    expect(await logOf(oldDay)).toEqual([]);
    expect(await logOf(keptDay)).toEqual(allOf(keptDay));
    expect(await logOf("2026_03_05")).toEqual(allOf("2026_03_05"));
  });

  test("is never older than asked for, whatever days of it there are", async () => {
    for (const at of ["2026-01-01", "2026-01-15", "2026-01-16"])
      await store.partitions.ensureDay(new Date(at));
    await startRetention().sweep();
    expect(await logOf("2026_01_..")).toEqual([]);
    expect(await logOf(keptDay)).toEqual(allOf(keptDay));
  });

  test("stays when a process's clock runs ahead of the database's", async () => {
    const other = await openStore();
    try {
      const today = new Date();
      await other.partitions.ensureDay(today);
      await startRetention({}, new Date("2099-01-01"), other.database).sweep();
      const found = await other.pool.query("SELECT to_regclass($1) IS NOT NULL AS found", [
        `event_${today.toISOString().slice(0, 10).replaceAll("-", "_")}`,
      ]);
      expect(found.rows).toEqual([{ found: true }]);
    } finally {
      for (const retention of open.splice(0)) await retention.close();
      await other.close();
    }
  });

  test("is rid of a day that another process left detached, and of one that it was detaching", async () => {
    const [left, half] = ["2026_01_20", "2026_01_21"] as const;
    for (const day of [left, half]) await store.partitions.ensureDay(new Date(day.replaceAll("_", "-")));
    await reader.query(`ALTER TABLE event DETACH PARTITION event_${left}`);
    await reader.query("BEGIN");
    await reader.query("SELECT FROM delivery LIMIT 1");
    const other = new pg.Client({ connectionString: store.url });
    await other.connect();
    await other.query("SET lock_timeout = '50ms'");
    await expect(
      other.query(`ALTER TABLE delivery DETACH PARTITION delivery_${half} CONCURRENTLY`),
    ).rejects.toMatchObject({ code: "55P03" });
    await other.end();
    await reader.query("COMMIT");
    await startRetention().sweep();
    expect([...(await logOf(left)), ...(await logOf(half))]).toEqual([]);
  });

  test("goes while others publish and read, and none of them waits for it", async () => {
    const day = "2026_01_22";
    await store.partitions.ensureDay(new Date("2026-01-22"));
    const webhookId = await store.addWebhook();
    await reader.query("BEGIN");
    await reader.query("SELECT FROM delivery LIMIT 1");
    await reader.query("SELECT FROM event LIMIT 1");
    const sweeping = startRetention().sweep();
    await waitFor(
      "detaching that waits for the reader",
      async () => (await store.pool.query("SELECT FROM pg_inherits WHERE inhdetachpending")).rowCount,
      (count) => count === 1,
    );
    let longestMs = 0;
    for (let count = 0; count < 20; count++) {
      const startedAtMs = performance.now();
      await store.addDelivery({ webhookId });
      longestMs = Math.max(longestMs, performance.now() - startedAtMs);
    }
    await store.partitions.ensureDay(new Date("2026-03-20"));
    // The reader is still there: whoever had to wait for it would have waited until now.
    expect(longestMs).toBeLessThan(2_000);
    expect(await logOf(day)).toContain(`delivery_${day}`);
    await reader.query("COMMIT");
    await finish(sweeping);
    expect(await logOf(day)).toEqual([]);
  });

  test("is swept by one of several processes, and the others leave it to that one", async () => {
    await store.partitions.ensureDay(new Date("2026-01-23"));
    const others = await Promise.all(
      [1, 2].map(() => openDatabase(store.url, { onConnectionError: () => undefined })),
    );
    try {
      const sweeps = [store.database, ...others].map((one) => startRetention({}, storeNow, one).sweep());
      await Promise.all(sweeps);
      await startRetention().sweep();
      expect(await logOf("2026_01_23")).toEqual([]);
    } finally {
      for (const retention of open.splice(0)) await retention.close();
      for (const other of others) await other.close();
    }
  });
});

describe("what is unfinished when its day goes", () => {
  test("becomes failed as expired first, is counted once, and is told of to those who ask", async () => {
    const at = new Date("2026-01-24T12:00:00Z");
    await store.partitions.ensureDay(at);
    const webhookId = await store.addWebhook({ isPaused: true });
    const before = await countExpired(store.database);
    const waiting = await store.addDelivery({ webhookId, madeAt: at });
    const underWay = await store.addDelivery({ webhookId, madeAt: at, leasedUntil: storeNow });
    for (const state of ["delivered", "failed", "canceled", "skipped"]) {
      await store.addDelivery({ webhookId, madeAt: at, state, dueAt: null });
    }
    toldTenantIds = [1];
    // A reader keeps the day where it can be looked at.
    await reader.query("BEGIN");
    await reader.query("SELECT FROM delivery LIMIT 1");
    const sweeping = startRetention().sweep();
    const day = () =>
      store.pool.query("SELECT id, state, reason, finished_at, due_at FROM delivery_2026_01_24");
    const seen = await waitFor(
      "expired deliveries",
      async () => (await day()).rows,
      (rows) => rows.filter((row) => row.reason === "expired").length === 2,
    );
    for (const id of [waiting, underWay]) {
      const row = seen.find((one) => one.id === id);
      expect(row).toMatchObject({ state: "failed", reason: "expired", finished_at: storeNow, due_at: null });
    }
    await reader.query("COMMIT");
    await finish(sweeping);
    expect(await countExpired(store.database)).toBe(before + 2);
    const notices = await store.pool.query(
      "SELECT type, webhook_id, details FROM gateway_notice ORDER BY id",
    );
    expect(notices.rows).toHaveLength(2);
    for (const id of [waiting, underWay]) {
      expect(notices.rows).toContainEqual({
        type: "posthorn.delivery.failed",
        webhook_id: webhookId,
        details: expect.objectContaining({ deliveryId: id, reason: "expired" }),
      });
    }
  });
});

describe("duplicate keys", () => {
  const addKey = (placedAt: Date, receivedAt: Date) =>
    store.pool.query("INSERT INTO dedup_key VALUES ($1, gen_random_uuid(), 1, $2)", [placedAt, receivedAt]);
  const placesOf = async () =>
    (
      await store.pool.query(
        "SELECT tableoid::regclass::text AS place, count(*)::int AS count FROM dedup_key GROUP BY 1 ORDER BY 1",
      )
    ).rows;

  test("go a whole day at a time once all of them are 8 days old; those of no day go one by one", async () => {
    await store.pool.query("DELETE FROM dedup_key");
    const [gone, late, young] = ["2026-02-20", "2026-02-21", "2026-02-26"].map((day) => new Date(day));
    for (const day of [gone!, late!, young!]) await store.partitions.ensureDay(day);
    await addKey(gone!, gone!);
    // An item of that day which came much later: a repeat of it has to be met for 8 days from then on.
    await addKey(late!, daysAgo(7.9));
    await addKey(young!, young!);
    for (const days of [400, 9, 8.01]) await addKey(new Date("2020-01-01"), daysAgo(days));
    for (const days of [7.99, 0]) await addKey(new Date("2020-01-01"), daysAgo(days));
    await startRetention().sweep();
    expect(await placesOf()).toEqual([
      { place: "dedup_key_2026_02_21", count: 1 },
      { place: "dedup_key_2026_02_26", count: 1 },
      { place: "dedup_key_default", count: 2 },
    ]);
    expect(await tables("^dedup_key_2026_02_20$")).toEqual([]);
  });

  test("of no day are all looked at, however many there are", async () => {
    await store.pool.query("DELETE FROM dedup_key");
    await store.pool.query(
      `INSERT INTO dedup_key SELECT '2019-01-01'::timestamptz + n % 7 * interval '1 ms', gen_random_uuid(), n % 3,
         CASE WHEN n % 2 = 0 THEN $1::timestamptz ELSE $2::timestamptz END FROM generate_series(1, 4321) AS n`,
      [daysAgo(9), daysAgo(7)],
    );
    await startRetention().sweep();
    expect(await placesOf()).toEqual([{ place: "dedup_key_default", count: 2161 }]);
  });
});
