/** The gateway's embedded PostgreSQL, looked at from outside. */

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import pg from "pg";

export interface BenchDatabase {
  url: string;
  pool: pg.Pool;
  /** Process of the server; its children are the connections' processes and the helpers. */
  pid: number;
  /** Such as `PostgreSQL 18.4`. */
  version: string;
  /** What decides how durable and how fast it is. */
  settings: Record<string, string>;
  sizes(): Promise<Sizes>;
  /** Deliveries that an attempt, or more, still awaits. */
  unfinishedCount(): Promise<number>;
  /** Deliveries of these webhooks by state. */
  countByState(webhookIds: readonly number[]): Promise<Record<string, number>>;
  /** Deliveries of these webhooks that no first attempt brought there. */
  retriedCount(webhookIds: readonly number[]): Promise<number>;
  close(): Promise<void>;
}

export interface Sizes {
  /** Tables and indexes. */
  tableBytes: number;
  /** Written to the log of changes since the server was made. */
  walBytes: number;
}

const settingNames = [
  "fsync",
  "synchronous_commit",
  "full_page_writes",
  "shared_buffers",
  "max_wal_size",
] as const;

/** @param dataDir  of a gateway that has started */
export async function openBenchDatabase(dataDir: string): Promise<BenchDatabase> {
  const home = join(dataDir, "postgres");
  const read = async (name: string) => (await readFile(join(home, name), "utf8")).split("\n")[0]!.trim();
  const [port, password, pid] = await Promise.all(["port", "password", "data/postmaster.pid"].map(read));
  const url = `postgres://posthorn:${encodeURIComponent(password!)}@127.0.0.1:${port}/posthorn`;
  const pool = new pg.Pool({ connectionString: url, max: 2, connectionTimeoutMillis: 10_000 });
  pool.on("error", () => undefined);
  const settings: Record<string, string> = {};
  for (const name of settingNames) {
    settings[name] = (await pool.query("SELECT current_setting($1) AS value", [name])).rows[0].value;
  }
  const { rows } = await pool.query("SELECT current_setting('server_version') AS version");

  return {
    url,
    pool,
    pid: Number(pid),
    version: `PostgreSQL ${rows[0].version}`,
    settings,
    async sizes() {
      const found = await pool.query(
        `SELECT pg_database_size(current_database())::float8 AS table_bytes,
           (pg_current_wal_insert_lsn() - '0/0')::float8 AS wal_bytes`,
      );
      return { tableBytes: found.rows[0].table_bytes, walBytes: found.rows[0].wal_bytes };
    },
    async unfinishedCount() {
      const found = await pool.query(
        `SELECT (SELECT count(*) FROM delivery WHERE due_at IS NOT NULL)::int
           + (SELECT count(*) FROM delivery WHERE leased_until IS NOT NULL)::int AS count`,
      );
      return found.rows[0].count;
    },
    async countByState(webhookIds) {
      const found = await pool.query(
        "SELECT state, count(*)::int AS count FROM delivery WHERE webhook_id = ANY($1) GROUP BY state",
        [webhookIds],
      );
      return Object.fromEntries(found.rows.map((row) => [row.state, row.count]));
    },
    async retriedCount(webhookIds) {
      const found = await pool.query(
        "SELECT count(*)::int AS count FROM delivery WHERE webhook_id = ANY($1) AND attempt_number > 1",
        [webhookIds],
      );
      return found.rows[0].count;
    },
    close: () => pool.end(),
  };
}
