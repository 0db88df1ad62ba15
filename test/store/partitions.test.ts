import { afterAll, beforeAll, expect, test } from "vitest";
import { isRepeatable } from "../../server/store/faults.ts";
import { openDatabase } from "../../server/store/orm.ts";
import { createPartitions } from "../../server/store/partitions.ts";
import { openStore, type Store } from "./open-store.ts";

let store: Store;
beforeAll(async () => {
  store = await openStore();
});
afterAll(() => store.close());

async function partitionsOf(day: string): Promise<string[]> {
  const found = await store.pool.query(
    "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relname LIKE $1 ORDER BY 1",
    [`%\\_${day}`],
  );
  return found.rows.map((row) => row.relname);
}
const allOf = (day: string) =>
  ["attempt", "dedup_key", "delivery", "event"].map((table) => `${table}_${day}`);

/** The partition that a row with an id made at this instant lies in. */
async function placeOf(at: string): Promise<string> {
  const id = store.newId(new Date(at));
  await store.pool.query(
    "INSERT INTO event (tenant_id, id, type, received_at, details, item) VALUES (1, $1, 'x', now(), '{}', '')",
    [id],
  );
  const found = await store.pool.query("SELECT tableoid::regclass::text AS name FROM event WHERE id = $1", [
    id,
  ]);
  return found.rows[0].name;
}

test("a day has its own partitions, from its first millisecond to its last", async () => {
  await store.partitions.ensureDay(new Date("2026-04-30T17:00:00Z"));
  expect(await partitionsOf("2026_04_30")).toEqual(allOf("2026_04_30"));
  expect(await placeOf("2026-04-30T00:00:00.000Z")).toBe("event_2026_04_30");
  expect(await placeOf("2026-04-30T23:59:59.999Z")).toBe("event_2026_04_30");
  await expect(placeOf("2026-05-01T00:00:00.000Z")).rejects.toThrow(/no partition/);
  await store.partitions.ensureDay(new Date("2026-05-01T00:00:00.000Z"));
  expect(await placeOf("2026-05-01T00:00:00.000Z")).toBe("event_2026_05_01");
});

test("duplicate keys that came before their day's partition move into it, and still stop repeats", async () => {
  const insert = (at: string, hash: string) =>
    store.pool.query(
      `INSERT INTO dedup_key (placed_at, hash, tenant_id, received_at) VALUES ($1, $2, 1, now())
       ON CONFLICT DO NOTHING`,
      [at, `00000000-0000-0000-0000-0000000000${hash}`],
    );
  for (const [at, hash] of [
    ["2026-06-09T23:59:59.999Z", "01"],
    ["2026-06-10T00:00:00Z", "02"],
    ["2026-06-10T23:59:59.999Z", "03"],
    ["2026-06-11T00:00:00Z", "04"],
  ] as const) {
    expect((await insert(at, hash)).rowCount).toBe(1);
  }
  await store.partitions.ensureDay(new Date("2026-06-10T12:00:00Z"));
  const found = await store.pool.query(
    "SELECT right(hash::text, 2) AS hash, tableoid::regclass::text AS place FROM dedup_key WHERE placed_at > '2026-06-01' ORDER BY 1",
  );
  expect(found.rows).toEqual([
    { hash: "01", place: "dedup_key_default" },
    { hash: "02", place: "dedup_key_2026_06_10" },
    { hash: "03", place: "dedup_key_2026_06_10" },
    { hash: "04", place: "dedup_key_default" },
  ]);
  expect((await insert("2026-06-10T00:00:00Z", "02")).rowCount).toBe(0);
});

test("several processes may make the same days at once, while rows are written", async () => {
  const others = await Promise.all(
    [1, 2, 3].map(() => openDatabase(store.url, { onConnectionError: () => undefined })),
  );
  try {
    const days = ["2026-07-01", "2026-07-02", "2026-07-03"];
    const makers = [store.database, ...others].map(({ pool }) => createPartitions(pool));
    const writing = Promise.all(
      Array.from({ length: 50 }, (_, index) => writeKey(`2026-07-0${1 + (index % 3)}T12:00:00Z`)),
    );
    await Promise.all(makers.flatMap((maker) => days.map((day) => maker.ensureDay(new Date(day)))));
    await writing;
    for (const day of days)
      expect(await partitionsOf(day.replaceAll("-", "_"))).toEqual(allOf(day.replaceAll("-", "_")));
    const found = await store.pool.query(
      "SELECT count(*)::int AS count FROM dedup_key WHERE placed_at >= '2026-07-01'",
    );
    expect(found.rows[0].count).toBe(50);
  } finally {
    await Promise.all(others.map((other) => other.close()));
  }
});

/** Writes a key as the publisher does: what was in another transaction's way is tried again. */
async function writeKey(placedAt: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await store.pool.query("INSERT INTO dedup_key VALUES ($1, gen_random_uuid(), 1, now())", [placedAt]);
      return;
    } catch (error) {
      if (!isRepeatable(error) || attempt === 5) throw error;
    }
  }
}

test("days are made beside a transaction that has looked at every table and goes on for long", async () => {
  const reader = await store.pool.connect();
  await reader.query("BEGIN");
  try {
    for (const table of ["event", "delivery", "attempt", "dedup_key"]) {
      await reader.query(`SELECT FROM ${table} LIMIT 1`);
    }
    await store.partitions.ensureDay(new Date("2026-09-01T12:00:00Z"));
    expect(await placeOf("2026-09-01T12:00:00.000Z")).toBe("event_2026_09_01");
    // Of the duplicate keys the default partition is held: they are as well there.
    await writeKey("2026-09-01T12:00:00Z");
    expect(await partitionsOf("2026_09_01")).toEqual(
      ["attempt", "delivery", "event"].map((table) => `${table}_2026_09_01`),
    );
  } finally {
    await reader.query("COMMIT");
    reader.release();
  }
});

test("a day's partition has the indexes and checks of its table", async () => {
  await store.partitions.ensureDay(new Date("2026-09-02"));
  const of = async (table: string) => {
    const indexes = await store.pool.query(
      "SELECT pg_get_indexdef(indexrelid) AS text, indisprimary FROM pg_index WHERE indrelid = $1::regclass",
      [table],
    );
    const checks = await store.pool.query(
      "SELECT pg_get_constraintdef(oid) AS text FROM pg_constraint WHERE conrelid = $1::regclass AND contype = 'c'",
      [table],
    );
    const shapes = indexes.rows.map(
      ({ text, indisprimary }) => `${indisprimary} ${text.replace(/^.* USING /, "")}`,
    );
    return { indexes: shapes.sort(), checks: checks.rows.map(({ text }) => text).sort() };
  };
  for (const table of ["event", "delivery", "attempt"]) {
    const made = await of(`${table}_2026_09_02`);
    expect(made.indexes.length).toBeGreaterThan(0);
    expect(made).toEqual(await of(table));
  }
  const loose = await store.pool.query(
    `SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
     WHERE i.indrelid::regclass::text LIKE '%_2026_09_02' AND NOT c.relispartition`,
  );
  expect(loose.rows).toEqual([]);
});

test("what failed once is tried again, and known days cost no statement", async () => {
  const ended = await openDatabase(store.url, { onConnectionError: () => undefined });
  const partitions = createPartitions(ended.pool);
  await partitions.ensureDay(new Date("2026-08-01"));
  await ended.close();
  await partitions.ensureDay(new Date("2026-08-01T23:00:00Z"));
  await expect(partitions.ensureDay(new Date("2026-08-02"))).rejects.toThrow();
  await expect(partitions.ensureDay(new Date("2026-08-02"))).rejects.toThrow();
});
