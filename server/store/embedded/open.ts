/**
 * The embedded PostgreSQL: what the gateway uses when no `DATABASE_URL` is set.
 *
 *   files made once (cluster.ts) ──► server started, or adopted if it runs (postmaster.ts) ──► presence (presence.ts)
 *
 * After `kill -9` of the gateway the server lives on, and the next start adopts it. Several gateways may share one data
 * directory: the first starts the server, the others adopt it, the last to close stops it. If the server dies while a
 * gateway is open, the gateway starts it again at the same address.
 */

import { setTimeout as sleep } from "node:timers/promises";
import { findBinaries } from "./binaries.ts";
import { type Cluster, prepareCluster } from "./cluster.ts";
import { diskFullHint, EmbeddedPostgresError } from "./error.ts";
import { choosePort, findPostmaster, startPostmaster, stopPostmaster } from "./postmaster.ts";
import { databaseUrl, enterCluster, type Presence, whenAlone } from "./presence.ts";

/** The part of the gateway's logger that is used here. */
export interface EmbeddedPostgresLog {
  info(fields: Record<string, unknown>, message: string): void;
  warn(fields: Record<string, unknown>, message: string): void;
}

export interface EmbeddedPostgresOptions {
  /** The gateway's data directory; PostgreSQL gets the folder `postgres` in it. Made if it is not there. */
  dataDir: string;
  log: EmbeddedPostgresLog;
  /** Single settings of PostgreSQL other than ours, such as `{ fsync: "off" }` in tests. An adopted server keeps its own. */
  settings?: Record<string, string>;
  /** Bound on start or adoption, recovery after a crash included (not on making the files). Default two minutes. */
  startTimeoutMs?: number;
  /** Bound on the stop before it is forced. Default one minute. */
  stopTimeoutMs?: number;
  /** For root: where to put what the server's user cannot reach otherwise. Default `/var/lib/posthorn`. */
  stateDir?: string;
}

export interface EmbeddedPostgres {
  /** With the password: never to be logged. Valid until `close`. */
  url: string;
  /** Stops the server unless another gateway uses it. May be called twice; settles when the server is down. */
  close(): Promise<void>;
}

const pollMs = 20;
const reviveAfterMs = 500;
const startTriesMax = 5;

/**
 * Refusals that pass by themselves: another process was faster, and the next look finds its server; or processes of a
 * server that was killed have not all noticed yet.
 */
const isPassing = /lock file|pre-existing shared memory block/;

/**
 * Starts or adopts the PostgreSQL in `dataDir`. As root it runs as the owner of the data: `postgres` or `nobody`.
 * Of two calls at the same instant, from two processes or one, one starts it and the other adopts.
 *
 * @returns the address of an empty or earlier filled database, on 127.0.0.1
 * @throws EmbeddedPostgresError with what to do about it
 */
export async function openEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const { log, settings = {}, startTimeoutMs = 120_000, stopTimeoutMs = 60_000 } = options;
  const stateDir = options.stateDir ?? "/var/lib/posthorn";
  const cluster = await prepareCluster(options.dataDir, stateDir, await findBinaries());
  const first = await startOrAdopt(cluster, settings, startTimeoutMs);
  const { port } = first;
  const directory = cluster.homeDir;
  log.info({ directory, port, wasRunning: first.wasRunning }, "embedded PostgreSQL is ready");
  if (cluster.isElsewhere) {
    log.info(
      { directory },
      "the data directory cannot be reached by PostgreSQL's user: its data is kept elsewhere",
    );
  }

  const closing = new AbortController();
  let presence: Presence | null = first.presence;
  const watch = (async () => {
    while (!closing.signal.aborted) {
      await presence?.lost;
      if (closing.signal.aborted) return;
      presence = null;
      log.warn({ directory, port }, "lost embedded PostgreSQL; starting it again unless it runs");
      while (presence === null && !closing.signal.aborted) {
        await sleep(reviveAfterMs, undefined, { signal: closing.signal }).catch(() => {});
        if (closing.signal.aborted) return;
        presence = await revive(cluster, port, settings, startTimeoutMs).catch((error: unknown) => {
          log.warn({ directory, error: String(error) }, "embedded PostgreSQL did not start; trying again");
          return null;
        });
      }
    }
  })();

  let closed: Promise<void> | null = null;
  const close = async () => {
    closing.abort();
    // A revival in progress ends by itself, within its bound.
    await presence?.leave();
    await watch;
    await presence?.leave();
    const hasStopped = await whenAlone(cluster, port, () => stopPostmaster(cluster, stopTimeoutMs));
    log.info(
      { directory },
      hasStopped ? "embedded PostgreSQL stopped" : "embedded PostgreSQL stays up for another gateway",
    );
  };
  return {
    url: databaseUrl(cluster, port),
    close() {
      closed ??= close();
      return closed;
    },
  };
}

interface Entered {
  presence: Presence;
  port: number;
  wasRunning: boolean;
}

async function startOrAdopt(
  cluster: Cluster,
  settings: Record<string, string>,
  timeoutMs: number,
  onlyPort?: number,
): Promise<Entered> {
  const deadlineMs = performance.now() + timeoutMs;
  let wasRunning = true;
  let startCount = 0;
  let lastFailure = "";
  while (performance.now() < deadlineMs) {
    const postmaster = await findPostmaster(cluster);
    if (postmaster.state === "running") {
      const presence =
        postmaster.isReady && postmaster.port !== null ? await enterCluster(cluster, postmaster.port) : null;
      if (presence !== null) return { presence, port: postmaster.port!, wasRunning };
      await sleep(pollMs);
      continue;
    }
    if (startCount === startTriesMax) break;
    const port = onlyPort ?? (await choosePort(cluster, startCount === 0));
    startCount += 1;
    const result = await startPostmaster(cluster, port, settings, deadlineMs - performance.now());
    if (result.outcome === "started") wasRunning = false;
    if (result.outcome === "port_taken") lastFailure = `port ${port} was taken`;
    if (result.outcome === "failed") {
      lastFailure = result.reason;
      if (!isPassing.test(lastFailure)) break;
      startCount -= 1;
      await sleep(pollMs);
    }
  }
  throw new EmbeddedPostgresError("process", describeFailure(cluster, startCount, timeoutMs, lastFailure));
}

/** Other parts hold the old URL, so the port must be the old one. */
async function revive(cluster: Cluster, port: number, settings: Record<string, string>, timeoutMs: number) {
  const entered = await startOrAdopt(cluster, settings, timeoutMs, port);
  if (entered.port === port) return entered.presence;
  await entered.presence.leave();
  throw new EmbeddedPostgresError(
    "process",
    `It listens on port ${entered.port} now, not on ${port}: restart this gateway.`,
  );
}

function describeFailure(
  cluster: Cluster,
  startCount: number,
  timeoutMs: number,
  lastFailure: string,
): string {
  const what =
    startCount === 0
      ? `The PostgreSQL that runs in ${cluster.pgDataDir} did not answer within ${Math.round(timeoutMs / 1000)} s.`
      : `PostgreSQL did not start in ${cluster.pgDataDir}.`;
  return `${what}${diskFullHint(lastFailure)} Its log is ${cluster.logFile}.${lastFailure === "" ? "" : `\n${lastFailure}`}`;
}
