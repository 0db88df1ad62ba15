/**
 * The connection to PostgreSQL. Two ways in, each with connections of its own, so that a slow list never delays an
 * event: `em()` (MikroORM) for configuration and reads, `pool` (pg, pipelined, prepared statements) for the statements
 * that run thousands of times a second.
 */

import { Migrator } from "@mikro-orm/migrations";
import { type EntityManager, MikroORM } from "@mikro-orm/postgresql";
import pg from "pg";
import { GatewayError } from "../domain/errors.ts";
import * as entities from "./entities/index.ts";
import { InitialMigration } from "./migrations/0001-initial.ts";
import { AccessMigration } from "./migrations/0002-access.ts";
import { ClientsMigration } from "./migrations/0003-clients.ts";
import { ProcessesMigration } from "./migrations/0004-processes.ts";
import { OutgoingMigration } from "./migrations/0005-outgoing.ts";
import { ContactsMigration } from "./migrations/0006-contacts.ts";
import { MediaMigration } from "./migrations/0007-media.ts";
import { RetentionMigration } from "./migrations/0008-retention.ts";
import { RecoveriesMigration } from "./migrations/0009-recoveries.ts";
import { OutgoingFaultsMigration } from "./migrations/0012-outgoing-faults.ts";
import { FormerNamesMigration } from "./migrations/0013-former-names.ts";

export interface Database {
  /** A fresh unit of work. */
  em(): EntityManager;
  pool: pg.Pool;
  close(): Promise<void>;
}

/** A change under way, for rooms that hand it on to functions of the store. */
export type Transaction = EntityManager;

/** Serialises migrations of processes that start together; any number that nothing else locks. */
const migrationLockKey = 7_305_001;

/**
 * `jit` costs more than it gives on short statements. A plan is made once for a statement and kept, since making one
 * over all the partitions takes longer than running it; it is made while tables may be almost empty, and without hash and
 * merge joins, sequential scans and materialized inner sides it stays right when they grow.
 */
const hotPathOptions = [
  "jit=off",
  "plan_cache_mode=force_generic_plan",
  "enable_hashjoin=off",
  "enable_mergejoin=off",
  "enable_seqscan=off",
  "enable_material=off",
]
  .map((setting) => `-c ${setting}`)
  .join(" ");

/**
 * A process that freezes in the middle of a transaction, or loses its network, would keep locks that all others wait for;
 * the database ends its transaction after so long. A live one pauses for milliseconds.
 */
const idleTransactionMaxMs = 10_000;

/**
 * Opens both ways in and brings the schema up to date.
 *
 * @throws GatewayError `unavailable` if PostgreSQL cannot be reached or is older than 15
 */
export async function openDatabase(
  url: string,
  options: { onConnectionError: (error: Error) => void },
): Promise<Database> {
  await migrateDatabase(url);
  const orm = await initOrm(url);
  const pool = new pg.Pool({
    connectionString: url,
    max: 8,
    pipeline: true,
    connectionTimeoutMillis: 5_000,
    idleTimeoutMillis: 0,
    keepAlive: true,
    application_name: "posthorn",
    idle_in_transaction_session_timeout: idleTransactionMaxMs,
    options: hotPathOptions,
  } as pg.PoolConfig);
  pool.on("error", options.onConnectionError);
  // The pool watches over idle connections only. One that breaks while it is in use fails the statements on it; without
  // a listener it would end the process as well.
  pool.on("connect", (client) => client.on("error", () => undefined));
  return {
    em: () => orm.em.fork(),
    pool,
    async close() {
      await Promise.all([pool.ended ? undefined : pool.end(), orm.close()]);
    },
  };
}

/** Brings the schema up to date; safe when several processes do it at once. */
export async function migrateDatabase(url: string): Promise<void> {
  const guard = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000 });
  guard.on("error", () => undefined);
  try {
    await guard.connect();
  } catch (error) {
    throw new GatewayError("unavailable", `PostgreSQL cannot be reached: ${describe(error)}`, {
      cause: error,
    });
  }
  try {
    const version = await guard.query<{ number: number }>(
      "SELECT current_setting('server_version_num')::int AS number",
    );
    const serverVersion = version.rows[0]!.number;
    if (serverVersion < 150_000) {
      throw new GatewayError(
        "unavailable",
        `PostgreSQL 15 or newer is needed; DATABASE_URL names one of version ${Math.floor(serverVersion / 10_000)}`,
      );
    }
    await guard.query("SELECT pg_advisory_lock($1)", [migrationLockKey]);
    const orm = await initOrm(url);
    try {
      await orm.migrator.up();
    } finally {
      await orm.close();
    }
  } finally {
    await guard.end();
  }
}

function initOrm(url: string): Promise<MikroORM> {
  return MikroORM.init({
    clientUrl: url,
    entities: Object.values(entities),
    extensions: [Migrator],
    // What goes wrong is thrown, and logged by whoever catches it.
    logger: () => undefined,
    pool: { min: 0, max: 6 },
    driverOptions: {
      connectionTimeoutMillis: 5_000,
      application_name: "posthorn",
      idle_in_transaction_session_timeout: idleTransactionMaxMs,
    },
    migrations: {
      tableName: "schema_migration",
      transactional: true,
      allOrNothing: true,
      snapshot: false,
      disableForeignKeys: false,
      migrationsList: [
        { name: "0001-initial", class: InitialMigration },
        { name: "0002-access", class: AccessMigration },
        { name: "0003-clients", class: ClientsMigration },
        { name: "0004-processes", class: ProcessesMigration },
        { name: "0005-outgoing", class: OutgoingMigration },
        { name: "0006-contacts", class: ContactsMigration },
        { name: "0007-media", class: MediaMigration },
        { name: "0008-retention", class: RetentionMigration },
        { name: "0009-recoveries", class: RecoveriesMigration },
        { name: "0012-outgoing-faults", class: OutgoingFaultsMigration },
        { name: "0013-former-names", class: FormerNamesMigration },
      ],
    },
  });
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message || String((error as { code?: unknown }).code) : String(error);
}
