/**
 * Day partitions of the log (event, delivery, attempt: by the time inside the UUIDv7) and of the duplicate keys
 * (by the item's own time). A day's partitions are made before its first row; `ensureDay` costs nothing when they
 * are there, so the publishing path may ask every time.
 */

import type pg from "pg";
import { firstIdAt } from "../domain/ids.ts";

const dayMs = 86_400_000;
const logTables = ["event", "delivery", "attempt"] as const;

/** Serialises the making of partitions by several processes. */
const partitionLockKey = 7_305_002;
const defaultLockTimeoutMs = 500;
const lockNotAvailable = "55P03";

export interface Partitions {
  /** Makes sure that rows of this instant's UTC day have a place; at most one statement a day and process. */
  ensureDay(at: Date): Promise<void>;
}

export function createPartitions(pool: pg.Pool): Partitions {
  const days = new Map<number, Promise<void>>();
  return {
    ensureDay(at) {
      const day = Math.floor(at.getTime() / dayMs);
      const known = days.get(day);
      if (known) return known;
      const made = makeDay(pool, day);
      days.set(day, made);
      made.catch(() => days.delete(day));
      return made;
    },
  };
}

/** One transaction a table: a publisher may hold one of the tables while it waits for another. */
async function makeDay(pool: pg.Pool, day: number): Promise<void> {
  const client = await pool.connect();
  try {
    await client.query("SELECT pg_advisory_lock($1)", [partitionLockKey]);
    try {
      for (const table of logTables) await makeLogPartition(client, table, day);
      await makeDedupPartition(client, day);
    } finally {
      await client.query("SELECT pg_advisory_unlock($1)", [partitionLockKey]);
    }
  } finally {
    client.release();
  }
}

/**
 * Made as a table of its own and attached, which waits for nobody who reads or writes the table meanwhile: `CREATE TABLE …
 * PARTITION OF` would wait for every transaction that has looked at it, a backup included, and all others for that.
 */
async function makeLogPartition(client: pg.PoolClient, table: string, day: number): Promise<void> {
  const name = `${table}_${dayName(day)}`;
  if (await hasTable(client, name)) return;
  await inTransaction(client, async () => {
    await client.query(`CREATE TABLE ${name} (LIKE ${table} INCLUDING ALL)`);
    await client.query(
      `ALTER TABLE ${table} ATTACH PARTITION ${name}
       FOR VALUES FROM ('${firstIdAt(day * dayMs)}') TO ('${firstIdAt((day + 1) * dayMs)}')`,
    );
  });
}

/**
 * Keys of this day that came before its partition existed lie in the default partition and move over. That one has to be
 * locked for it; where somebody holds it for long, the day's keys go on to lie there, which does as well.
 */
async function makeDedupPartition(client: pg.PoolClient, day: number): Promise<void> {
  const name = `dedup_key_${dayName(day)}`;
  const from = new Date(day * dayMs).toISOString();
  const to = new Date((day + 1) * dayMs).toISOString();
  if (await hasTable(client, name)) return;
  try {
    await inTransaction(client, async () => {
      await client.query(`SET LOCAL lock_timeout = ${defaultLockTimeoutMs}`);
      await client.query("LOCK TABLE dedup_key_default IN ACCESS EXCLUSIVE MODE");
      await client.query(`CREATE TABLE ${name} (LIKE dedup_key INCLUDING ALL)`);
      await client.query(
        `WITH moved AS (DELETE FROM dedup_key_default WHERE placed_at >= $1 AND placed_at < $2 RETURNING *)
         INSERT INTO ${name} SELECT * FROM moved`,
        [from, to],
      );
      await client.query(
        `ALTER TABLE dedup_key ATTACH PARTITION ${name} FOR VALUES FROM ('${from}') TO ('${to}')`,
      );
    });
  } catch (error) {
    if ((error as { code?: unknown }).code !== lockNotAvailable) throw error;
  }
}

async function hasTable(client: pg.PoolClient, name: string): Promise<boolean> {
  const found = await client.query("SELECT to_regclass($1) IS NOT NULL AS found", [name]);
  return found.rows[0].found;
}

async function inTransaction(client: pg.PoolClient, change: () => Promise<void>): Promise<void> {
  await client.query("BEGIN");
  try {
    await change();
    await client.query("COMMIT");
  } catch (error) {
    await client.query("ROLLBACK").catch(() => undefined);
    throw error;
  }
}

function dayName(day: number): string {
  return new Date(day * dayMs).toISOString().slice(0, 10).replaceAll("-", "_");
}
