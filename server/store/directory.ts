/**
 * Keeps this process's Directory near the truth: loaded at start, and refreshed when another process says that something
 * changed. That word may be lost, so the version is compared often enough that a revoked key is dead within a second.
 * Each look tells the others how far this process has got, and a change waits for them (`followers.ts`): when it has
 * returned, no process starts an attempt by what was before. Publishing does not rely on it: see `configuration.ts`.
 */

import pg from "pg";
import type { Logger } from "pino";
import { configurationChannel, type Directory, emptyDirectory, refreshDirectory } from "./configuration.ts";
import { createFollower } from "./followers.ts";
import type { Database } from "./orm.ts";
import type { Sealer } from "./sealer.ts";

const compareEveryMs = 500;
const reconnectAfterMs = 1_000;

export interface DirectoryKeeper {
  readonly current: Directory;
  /** Brings it up to date now, on a connection of its own or the given one. */
  refresh(client?: pg.ClientBase): Promise<void>;
  /** False when this process may have missed a change: it must not start an attempt then. */
  isCurrent(): boolean;
  /** To be called after a change of configuration: refreshes here and waits for the other processes. */
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
  const follower = createFollower(database.pool);
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
    for (const fault of current.faults.splice(0)) log.error(fault);
    if (current.version !== before) for (const listener of listeners) listener();
  }

  /** The newest version that another process spoke of. */
  let heardVersion = 0n;

  /**
   * Tells how far this process has got, as often as there is something new to tell. What was told counts, not what is
   * known by now: publishing refreshes too, and a version it brought that is not told would keep a change waiting.
   */
  async function catchUp(): Promise<void> {
    if (heardVersion > current.version) await refresh();
    for (;;) {
      const toldVersion = current.version;
      if ((await follower.beat(toldVersion)) > current.version) await refresh();
      if (current.version === toldVersion || isClosed) return;
    }
  }

  let isComparing = false;
  let isAskedAgain = false;
  let isAway = false;
  async function compare(): Promise<void> {
    isAskedAgain = isComparing;
    if (isComparing) return;
    isComparing = true;
    try {
      await catchUp();
      if (isAway) for (const listener of listeners) listener();
      isAway = false;
    } catch (error) {
      // Once for each time that the database is away: the next look is soon.
      if (!isAway && !isClosed) log.warn({ err: error }, "configuration could not be refreshed");
      isAway = true;
    } finally {
      isComparing = false;
      if (isAskedAgain) void compare();
    }
  }

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
    client.on("notification", ({ payload }) => {
      const version = /^[0-9]{1,18}$/.test(payload ?? "") ? BigInt(payload!) : 0n;
      if (version > heardVersion) heardVersion = version;
      void compare();
    });
    try {
      await client.connect();
      await client.query(`LISTEN ${configurationChannel}`);
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
      listen().then(compare, reconnect);
    }, reconnectAfterMs);
  }

  // On the list, then listening, then up to date: whoever changes something from here on waits for this process.
  await follower.beat(current.version);
  await listen();
  await catchUp();
  const timer = setInterval(compare, compareEveryMs);

  return {
    current,
    refresh,
    isCurrent: follower.isCurrent,
    async announce() {
      await refresh();
      await follower.waitForOthers(current.version);
    },
    onChange: (added) => {
      listeners.push(added);
    },
    async close() {
      isClosed = true;
      clearInterval(timer);
      clearTimeout(reconnectTimer);
      await listener?.end();
      await follower.leave();
    },
  };
}
