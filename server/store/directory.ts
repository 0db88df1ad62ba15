/**
 * Keeps this process's Directory near the truth: loaded at start, refreshed when another process says that something
 * changed, and every few seconds in case that word was lost. Publishing does not rely on it: see `configuration.ts`.
 */

import type { Logger } from "pino";
import pg from "pg";
import { type Directory, emptyDirectory, refreshDirectory } from "./configuration.ts";
import type { Database } from "./orm.ts";
import type { Sealer } from "./sealer.ts";

const channel = "posthorn_configuration";
const refreshEveryMs = 5_000;
const reconnectAfterMs = 1_000;

export interface DirectoryKeeper {
  readonly current: Directory;
  /** Brings it up to date now, on a connection of its own or the given one. */
  refresh(client?: pg.ClientBase): Promise<void>;
  /** To be called after a change of configuration: refreshes here and tells the other processes. */
  announce(): Promise<void>;
  /** `listener` is called after each refresh that brought a new version. */
  onChange(listener: () => void): void;
  close(): Promise<void>;
}

export async function openDirectory(
  database: Database,
  url: string,
  sealer: Sealer,
  log: Logger,
): Promise<DirectoryKeeper> {
  const current = emptyDirectory();
  const listeners: (() => void)[] = [];
  let isClosed = false;
  let listener: pg.Client | null = null;
  let reconnectTimer: NodeJS.Timeout | undefined;

  async function refresh(client?: pg.ClientBase): Promise<void> {
    const before = current.version;
    if (client) await refreshDirectory(client, current, sealer);
    else {
      const own = await database.pool.connect();
      try {
        await refreshDirectory(own, current, sealer);
      } finally {
        own.release();
      }
    }
    if (current.version !== before) for (const listener of listeners) listener();
  }

  const refreshQuietly = () => {
    refresh().catch((error: unknown) => log.warn({ err: error }, "configuration could not be refreshed"));
  };

  async function listen(): Promise<void> {
    const client = new pg.Client({
      connectionString: url,
      connectionTimeoutMillis: 5_000,
      keepAlive: true,
      application_name: "posthorn-listen",
    });
    client.on("error", () => undefined);
    client.on("end", () => {
      if (isClosed || listener !== client) return;
      listener = null;
      reconnect();
    });
    client.on("notification", refreshQuietly);
    try {
      await client.connect();
      await client.query(`LISTEN ${channel}`);
    } catch (error) {
      await client.end().catch(() => undefined);
      throw error;
    }
    if (isClosed) return await client.end();
    listener = client;
  }

  function reconnect(): void {
    reconnectTimer = setTimeout(() => {
      if (isClosed) return;
      listen().then(refreshQuietly, reconnect);
    }, reconnectAfterMs);
  }

  await refresh();
  await listen();
  const timer = setInterval(refreshQuietly, refreshEveryMs);

  return {
    current,
    refresh,
    async announce() {
      await refresh();
      await database.pool.query(`NOTIFY ${channel}`);
    },
    onChange: (added) => {
      listeners.push(added);
    },
    async close() {
      isClosed = true;
      clearInterval(timer);
      clearTimeout(reconnectTimer);
      await listener?.end();
    },
  };
}
