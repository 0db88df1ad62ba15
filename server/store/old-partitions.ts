/**
 * Days of the log, and of the duplicate keys, that go. A partition is detached first, then dropped as a table of its own.
 * PostgreSQL detaches concurrently where it can: whoever reads or writes the table meanwhile waits for nothing. Whatever
 * is interrupted is found again by its state, and goes on where it was.
 */

import type pg from "pg";

const dayMs = 86_400_000;
/** Deliveries before what they refer to: a claim that meets a delivery meets its event. */
const logTables = ["delivery", "attempt", "event"] as const;
const keyTable = "dedup_key";

export interface OldPartition {
  /** Such as `event_2026_03_05`. */
  name: string;
  table: string;
  /** `pending`: a detaching was interrupted. */
  state: "attached" | "pending" | "detached";
}

/** Partitions of the log whose last row is older than `before`, in the order in which they have to go. */
export async function listOldLog(client: pg.ClientBase, before: Date): Promise<OldPartition[]> {
  const found = await listPartitions(client, before);
  return logTables.flatMap((table) => found.filter((one) => one.table === table));
}

/** The same for duplicate keys, by the day that they are placed on. The default partition is none of them. */
export async function listOldKeys(client: pg.ClientBase, before: Date): Promise<OldPartition[]> {
  return (await listPartitions(client, before)).filter((one) => one.table === keyTable);
}

/** @throws an error with SQLSTATE 55P03 if a transaction that may still see the partition does not end in time */
export async function detachLog(client: pg.ClientBase, { table, name, state }: OldPartition): Promise<void> {
  if (state === "detached") return;
  await client.query(
    `ALTER TABLE ${table} DETACH PARTITION ${name} ${state === "pending" ? "FINALIZE" : "CONCURRENTLY"}`,
  );
}

/** @param partition  one that is detached */
export async function dropDetached(client: pg.ClientBase, { name }: OldPartition): Promise<void> {
  await client.query(`DROP TABLE IF EXISTS ${name}`);
}

/** True if the partition holds a key of something that was received after this instant. Reads all of it. */
export async function hasKeySince(client: pg.ClientBase, name: string, since: Date): Promise<boolean> {
  const found = await client.query<{ found: boolean }>(
    `SELECT EXISTS (SELECT FROM ${name} WHERE received_at > $1) AS found`,
    [since],
  );
  return found.rows[0]!.found;
}

/**
 * Beside a default partition nothing can be detached concurrently: this locks the whole table, for as long as it takes to
 * change the catalogue.
 *
 * @throws an error with SQLSTATE 55P03 if the lock cannot be had at once
 */
export async function detachKeys(client: pg.ClientBase, { name, state }: OldPartition): Promise<void> {
  if (state === "attached") await client.query(`ALTER TABLE ${keyTable} DETACH PARTITION ${name}`);
}

/** Keys of what was received after this instant go to the default partition, where a repeat meets them. */
export async function keepKeysSince(client: pg.ClientBase, name: string, since: Date): Promise<void> {
  await client.query(
    `INSERT INTO ${keyTable} SELECT * FROM ${name} WHERE received_at > $1 ON CONFLICT DO NOTHING`,
    [since],
  );
}

/** Tables are known by their names: whatever has been detached bears one still. */
async function listPartitions(client: pg.ClientBase, before: Date): Promise<OldPartition[]> {
  const found = await client.query<{ name: string; is_partition: boolean; is_pending: boolean | null }>(
    `SELECT c.relname AS name, c.relispartition AS is_partition,
       (SELECT inhdetachpending FROM pg_inherits i WHERE i.inhrelid = c.oid) AS is_pending
     FROM pg_class c
     WHERE c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'event'::regclass) AND c.relkind = 'r'
       AND c.relname ~ '^(event|delivery|attempt|dedup_key)_[0-9]{4}_[0-9]{2}_[0-9]{2}$'
     ORDER BY c.relname`,
  );
  const old = found.rows
    .filter(({ name }) => endOfDayMs(name) <= before.getTime())
    .map<OldPartition>(({ name, is_partition, is_pending }) => ({
      name,
      table: name.slice(0, -"_2026_03_05".length),
      state: is_pending ? "pending" : is_partition ? "attached" : "detached",
    }));
  // A table takes up no other partition while one is half detached.
  return [...old.filter(isPending), ...old.filter((one) => !isPending(one))];
}

function isPending({ state }: OldPartition): boolean {
  return state === "pending";
}

function endOfDayMs(name: string): number {
  return Date.parse(name.slice(-"2026_03_05".length).replaceAll("_", "-")) + dayMs;
}
