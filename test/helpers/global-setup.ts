/** One PostgreSQL for the whole test run, with a migrated template that each test file copies (`database.ts`). */

import { existsSync } from "node:fs";
import { chmod, mkdtemp, readdir, realpath, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import type { TestProject } from "vitest/node";
import { type EmbeddedPostgres, openEmbeddedPostgres } from "../../server/store/embedded/open.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** Of the run's PostgreSQL, with the right to make databases. */
    databaseServerUrl: string;
  }
}

const templateName = "posthorn_template";

const prefix = "posthorn-test-";
const silent = { info: () => undefined, warn: () => undefined };

export default async function setUp(project: TestProject): Promise<() => Promise<void>> {
  await removeLeftovers();
  const dataDir = await mkdtemp(join(tmpdir(), `${prefix}${process.pid}-`));
  await chmod(dataDir, 0o711); // As root PostgreSQL runs as another user, who must get in.
  const server = await openServer(dataDir);
  try {
    await createTemplate(server.url);
  } catch (error) {
    await closeAndRemove(server, dataDir);
    throw error;
  }
  project.provide("databaseServerUrl", server.url);
  return () => closeAndRemove(server, dataDir);
}

/** The data lives as long as the run: what a power failure would do to it does not matter, the rest is as always. */
function openServer(dataDir: string): Promise<EmbeddedPostgres> {
  const settings = { fsync: "off", full_page_writes: "off", shared_buffers: "128MB" };
  return openEmbeddedPostgres({ dataDir, log: silent, settings });
}

async function createTemplate(serverUrl: string): Promise<void> {
  const client = new pg.Client({ connectionString: serverUrl });
  await client.connect();
  await client.query(`create database ${templateName}`).finally(() => client.end());
  const url = new URL(serverUrl);
  url.pathname = `/${templateName}`;
  const { migrateDatabase } = await import("../../server/store/orm.ts");
  await migrateDatabase(url.href);
}

/** Servers and files of runs that were killed. They harm nothing but the disk, so a failure here is no failure. */
async function removeLeftovers(): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    const pid = name.startsWith(prefix) ? Number.parseInt(name.slice(prefix.length), 10) : Number.NaN;
    if (Number.isNaN(pid) || isAlive(pid)) continue;
    const dataDir = join(tmpdir(), name);
    const isServer = existsSync(join(dataDir, "postgres"));
    const server = isServer ? await openServer(dataDir).catch(() => null) : null;
    await closeAndRemove(server, dataDir).catch(() => undefined);
  }
}

async function closeAndRemove(server: EmbeddedPostgres | null, dataDir: string): Promise<void> {
  await server?.close();
  // A link to elsewhere if the temporary directory is closed to PostgreSQL's user.
  const homeDir = await realpath(join(dataDir, "postgres")).catch(() => null);
  if (homeDir !== null) await rm(homeDir, { recursive: true, force: true });
  await rm(dataDir, { recursive: true, force: true });
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
