/**
 * How gateways that share one embedded PostgreSQL know of each other. Each holds a shared advisory lock on a
 * connection of its own; who can take the same lock exclusively is alone, and stays so while it stops the server.
 * The lock of a gateway that was killed ends with its connection.
 */

import { realpath } from "node:fs/promises";
import { Client, DatabaseError } from "pg";
import type { Cluster } from "./cluster.ts";
import { EmbeddedPostgresError } from "./error.ts";

export interface Presence {
  /** Settles when the connection is lost, never before `leave` was called otherwise. */
  lost: Promise<void>;
  leave(): Promise<void>;
}

/** "Posthorn" in ASCII. */
const lockKey = "5795978189254652526";
const connectTimeoutMs = 5_000;
/** Making a database copies some 7 MB: slow disks take seconds. */
const queryTimeoutMs = 30_000;

/**
 * Logs in and takes the shared lock, and makes the database `posthorn` if it is not there yet.
 *
 * @returns null if the server is starting, stopping or gone: look again
 * @throws EmbeddedPostgresError `data_directory` if what answers is not the server of this cluster
 */
export async function enterCluster(cluster: Cluster, port: number): Promise<Presence | null> {
  const client = await connect(cluster, port);
  if (client === null || client === "full") return null;
  const lost = new Promise<void>((resolve) => client.once("end", resolve));
  try {
    await refuseOtherServer(client, cluster, port);
    const { rows } = await client.query(`select pg_try_advisory_lock_shared(${lockKey}) as is_in`);
    if (rows[0].is_in) {
      await ensureDatabase(client);
      return { lost, leave: () => leave(client) };
    }
  } catch (error) {
    await client.end().catch(() => {});
    if (isOutage(error)) return null;
    throw error;
  }
  await client.end().catch(() => {});
  return null;
}

/**
 * Runs `work` if no gateway is present, and keeps others out meanwhile. A server that does not answer serves nobody:
 * it counts as empty.
 *
 * @returns whether it ran
 */
export async function whenAlone(cluster: Cluster, port: number, work: () => Promise<void>): Promise<boolean> {
  const client = await connect(cluster, port).catch(() => null);
  if (client === "full") return false;
  let isAlone = true;
  try {
    if (client !== null) {
      const { rows } = await client.query(`select pg_try_advisory_lock(${lockKey}) as is_alone`);
      isAlone = rows[0].is_alone;
    }
  } catch (error) {
    if (!isOutage(error)) throw error;
  }
  try {
    if (isAlone) await work();
  } finally {
    await client?.end().catch(() => {});
  }
  return isAlone;
}

export function databaseUrl(cluster: Cluster, port: number, database = "posthorn"): string {
  return `postgresql://posthorn:${cluster.password}@127.0.0.1:${port}/${database}`;
}

/** Null if the server is not there for us now; "full" if others hold all its connections. */
async function connect(cluster: Cluster, port: number): Promise<Client | "full" | null> {
  const client = new Client({
    connectionString: databaseUrl(cluster, port, "postgres"),
    application_name: "posthorn presence",
    connectionTimeoutMillis: connectTimeoutMs,
    query_timeout: queryTimeoutMs,
    keepAlive: true,
  });
  // A lost connection shows as `end`; without a listener its error would end the process.
  client.on("error", () => {});
  try {
    await client.connect();
    return client;
  } catch (error) {
    await client.end().catch(() => {});
    if (error instanceof DatabaseError && error.code === "53300") return "full";
    if (isOutage(error)) return null;
    throw explainRefusal(error, cluster, port);
  }
}

async function leave(client: Client): Promise<void> {
  // Unlocked before the connection ends, so that whoever looks next does not see a lock that is on its way out.
  await client.query(`select pg_advisory_unlock_shared(${lockKey})`).catch(() => {});
  await client.end().catch(() => {});
}

async function refuseOtherServer(client: Client, cluster: Cluster, port: number): Promise<void> {
  const { rows } = await client.query("select current_setting('data_directory') as directory");
  const directory = await realpath(rows[0].directory).catch(() => rows[0].directory);
  if (directory === cluster.pgDataDir) return;
  const message = `The PostgreSQL on port ${port} works in ${directory}, not in ${cluster.pgDataDir}: stop it, then start again.`;
  throw new EmbeddedPostgresError("data_directory", message);
}

async function ensureDatabase(client: Client): Promise<void> {
  const { rowCount } = await client.query("select 1 from pg_database where datname = 'posthorn'");
  if (rowCount === 1) return;
  try {
    await client.query("create database posthorn");
  } catch (error) {
    // duplicate_database, unique_violation: another gateway made it in the same instant.
    if (!(error instanceof DatabaseError && (error.code === "42P04" || error.code === "23505"))) throw error;
  }
}

/** No answer, or "not now": admin and crash shutdown, starting up. */
function isOutage(error: unknown): boolean {
  if (!(error instanceof DatabaseError)) return true;
  return ["57P01", "57P02", "57P03"].includes(error.code ?? "");
}

function explainRefusal(error: unknown, cluster: Cluster, port: number): unknown {
  if (!(error instanceof DatabaseError) || error.code !== "28P01") return error;
  const file = `${cluster.homeDir}/password`;
  return new EmbeddedPostgresError(
    "data_directory",
    `The PostgreSQL on port ${port} refuses the password in ${file}: the file does not belong to this database, or its ` +
      "role was given another one. Restore the file, or write the present password into it.",
  );
}
