/**
 * Ends what has been kept for long enough: days of the log and of the duplicate keys as whole partitions, old
 * conversations a page at a time. One process at a time does it, on a connection of its own. What is in the way of others
 * is given up after a moment and tried again later.
 *
 * A day of the log goes when its last row is old enough. What is unfinished in it becomes `failed` (`expiry.ts`) before
 * the day leaves the table, so that it is told of and counted.
 */

import type pg from "pg";
import type { Logger } from "pino";
import type { Clock } from "../clock.ts";
import { expireUnfinished } from "./expiry.ts";
import {
  detachKeys,
  detachLog,
  dropDetached,
  hasKeySince,
  keepKeysSince,
  listOldKeys,
  listOldLog,
  type OldPartition,
} from "./old-partitions.ts";
import { deleteEmptyContacts, deleteOldKeys, deleteOldMessages, firstKey, type Page } from "./old-rows.ts";
import type { Database } from "./orm.ts";

export interface Retention {
  /** Ends now what is old enough, unless another process is at it; settles when that is done. */
  sweep(): Promise<void>;
  close(): Promise<void>;
}

export interface RetentionParts {
  database: Database;
  /** Tenants that ask to be told of deliveries that fail. */
  failureToldTenants(): readonly number[];
  /** Deliveries have failed that somebody may be told of. */
  onExpired(): void;
  clock: Clock;
  log: Logger;
}

export interface RetentionSettings {
  /** How long the log is kept, in days. */
  logDays: number;
  /** How long messages are kept; 0 = for ever. */
  conversationDays: number;
  sweepMs: number;
  /** Until the next try after one that failed. */
  retryMs: number;
}

const dayMs = 86_400_000;
/** Meta repeats what it could not deliver for seven days. */
const keysKeptMs = 8 * dayMs;
/** One process at a time; any number that nothing else locks. */
const retentionLockKey = 7_305_004;
/** How long a statement may wait for a lock: for locks that keep others waiting, and for those that do not. */
const lockTimeoutMs = 100;
const patientLockTimeoutMs = 5_000;
const lockTriesMax = 20;
const rowsMax = 1_000;

export function createRetention(parts: RetentionParts, settings: RetentionSettings): Retention {
  const { database, clock, log } = parts;
  const stop = new AbortController();
  let sweeping: Promise<void> | null = null;
  const running = watch();

  async function watch(): Promise<void> {
    while (!stop.signal.aborted) {
      let waitMs = settings.sweepMs;
      try {
        await sweep();
      } catch (error) {
        if (!stop.signal.aborted) log.warn({ err: error }, "what is old enough could not be dropped");
        waitMs = settings.retryMs;
      }
      await clock.sleep(waitMs, stop.signal);
    }
  }

  function sweep(): Promise<void> {
    sweeping ??= sweepAlone().finally(() => {
      sweeping = null;
    });
    return sweeping;
  }

  async function sweepAlone(): Promise<void> {
    const pool: pg.Pool = await database.em().getConnection().getNativeClient();
    const client = await pool.connect();
    try {
      // A clock that is ahead of the database's must not drop what everybody else still needs.
      const { now, isAlone } = await begin(client, clock.now());
      if (!isAlone) return;
      await dropLog(client, now);
      await dropKeys(client, now);
      if (settings.conversationDays > 0) await deleteConversations(client, now);
    } finally {
      // The connection ends, and its locks and settings with it.
      client.release(true);
    }
  }

  async function dropLog(client: pg.ClientBase, now: Date): Promise<void> {
    const partitions = await listOldLog(client, new Date(now.getTime() - settings.logDays * dayMs));
    for (const partition of partitions) {
      if (stop.signal.aborted) return;
      if (partition.table === "delivery") await expire(client, partition, now);
      await setLockTimeout(client, patientLockTimeoutMs);
      await detachLog(client, partition);
      // What was asked for again after the look at it.
      if (partition.table === "delivery") await expire(client, partition, now);
      await dropDetached(client, partition);
      log.info({ partition: partition.name }, "a day of the log was dropped");
    }
  }

  async function expire(client: pg.ClientBase, { name }: OldPartition, now: Date): Promise<void> {
    let expiredCount = 0;
    const told = parts.failureToldTenants();
    for (;;) {
      const count = await expireUnfinished(client, name, rowsMax, told, now);
      expiredCount += count;
      if (count === 0 || stop.signal.aborted) break;
    }
    if (expiredCount === 0) return;
    log.warn({ partition: name, expiredCount }, "deliveries have expired: they were not finished in time");
    parts.onExpired();
  }

  async function dropKeys(client: pg.ClientBase, now: Date): Promise<void> {
    const before = new Date(now.getTime() - keysKeptMs);
    for (const partition of await listOldKeys(client, before)) {
      if (stop.signal.aborted) return;
      // Of something old that came late: it is kept as long as any other key.
      if (partition.state === "attached" && (await hasKeySince(client, partition.name, before))) continue;
      await setLockTimeout(client, lockTimeoutMs);
      await trying(() => detachKeys(client, partition));
      await setLockTimeout(client, patientLockTimeoutMs);
      await keepKeysSince(client, partition.name, before);
      await dropDetached(client, partition);
      log.info({ partition: partition.name }, "a day of duplicate keys was dropped");
    }
    await walk(firstKey, (place) => deleteOldKeys(client, place, before, rowsMax));
  }

  async function deleteConversations(client: pg.ClientBase, now: Date): Promise<void> {
    const before = new Date(now.getTime() - settings.conversationDays * dayMs);
    const messageCount = await walk("0", (id) => deleteOldMessages(client, id, before, rowsMax));
    const contactCount = await walk(nilUuid, (id) => deleteEmptyContacts(client, id, before, rowsMax));
    if (messageCount + contactCount === 0) return;
    log.info({ messageCount, contactCount }, "old messages and contacts without any were deleted");
  }

  /** Page after page to the end of a table; gives how many rows were deleted. */
  async function walk(from: string, step: (place: string) => Promise<Page>): Promise<number> {
    let deletedCount = 0;
    for (let place: string | null = from; place !== null && !stop.signal.aborted; ) {
      const page: Page = await step(place);
      deletedCount += page.deletedCount;
      place = page.next;
    }
    return deletedCount;
  }

  /** A lock for which others would have to wait is asked for briefly and often. */
  async function trying(change: () => Promise<void>): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await change();
      } catch (error) {
        const isLocked = (error as { code?: unknown }).code === "55P03";
        if (!isLocked || attempt === lockTriesMax || stop.signal.aborted) throw error;
      }
      await clock.sleep(10 * lockTimeoutMs, stop.signal);
    }
  }

  return {
    sweep,
    async close() {
      stop.abort();
      await running;
      await sweeping?.catch(() => undefined);
    },
  };
}

const nilUuid = "00000000-0000-0000-0000-000000000000";

async function begin(client: pg.ClientBase, now: Date): Promise<{ now: Date; isAlone: boolean }> {
  const found = await client.query<{ is_alone: boolean; server_ms: number | string }>(
    `SELECT pg_try_advisory_lock(${retentionLockKey}) AS is_alone,
       extract(epoch FROM clock_timestamp())::float8 * 1000 AS server_ms`,
  );
  const { is_alone: isAlone, server_ms: serverMs } = found.rows[0]!;
  // The plans have to go by the indexes, which are small where the tables are not.
  await client.query(
    "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off",
  );
  return { isAlone, now: new Date(Math.min(now.getTime(), Number(serverMs))) };
}

async function setLockTimeout(client: pg.ClientBase, timeoutMs: number): Promise<void> {
  await client.query(`SET lock_timeout = ${timeoutMs}`);
}
