/** What statements read of the day partitions of the log, by PostgreSQL's own statistics. */

import pg from "pg";
import { type Database, openDatabase } from "../../server/store/orm.ts";
import { queryRows } from "../helpers/query-rows.ts";

export interface Scans {
  /** Scans of a whole partition. */
  sequential: number;
  /** Scans of partitions of other days than 2026-03-05. */
  scansOfOldDays: number;
  /** Rows read by index. */
  rows: number;
}

/** What filling the tables read must not be counted later: connections tell the statistics when they end. */
export async function settleStatistics(url: string): Promise<void> {
  await queryRows(url)(
    `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid()`,
  );
}

/** What an act reads; its connections add what they did to the statistics when they end. */
export async function scansOf(url: string, act: (database: Database) => Promise<unknown>): Promise<Scans> {
  const before = await readScans(url);
  const database = await openDatabase(url, { onConnectionError: () => undefined });
  await act(database);
  await database.close();
  const sum = { sequential: 0, scansOfOldDays: 0, rows: 0 };
  for (const [name, after] of await readScans(url)) {
    const former = before.get(name)!;
    sum.sequential += after.sequential - former.sequential;
    sum.rows += after.rows - former.rows;
    if (!name.endsWith("2026_03_05")) sum.scansOfOldDays += after.scans - former.scans;
  }
  return sum;
}

/** Scans and rows read of each day's partition of a table, by sequence and by index. */
async function readScans(
  url: string,
): Promise<Map<string, { sequential: number; scans: number; rows: number }>> {
  const client = new pg.Client({ connectionString: url });
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
