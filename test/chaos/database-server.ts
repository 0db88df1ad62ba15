/** A PostgreSQL server of its own, so that it can be crashed and paused while gateways use it. */

import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chmod, mkdtemp, realpath, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findBinaries } from "../../server/store/embedded/binaries.ts";
import { type Cluster, prepareCluster } from "../../server/store/embedded/cluster.ts";
import {
  choosePort,
  findPostmaster,
  startPostmaster,
  stopPostmaster,
} from "../../server/store/embedded/postmaster.ts";
import { databaseUrl } from "../../server/store/embedded/presence.ts";
import { run } from "../../server/store/embedded/run.ts";
import { queryRows } from "../helpers/query-rows.ts";

export interface DatabaseServer {
  /** Makes an empty database; a gateway brings it up to date when it starts. */
  openDatabase(): Promise<{ url: string; close(): Promise<void> }>;
  /** `pg_ctl -m immediate stop`: nothing is finished or written down, as in a crash. */
  crash(): Promise<void>;
  /** Starts it again at the same address; settles when it has recovered. */
  start(): Promise<void>;
  /** Stops all its processes where they stand (SIGSTOP): connections stay open and nobody answers. */
  pause(): Promise<void>;
  resume(): void;
  close(): Promise<void>;
}

const startTimeoutMs = 60_000;
/** As users run it: what is acknowledged is on disk. */
const settings = { max_connections: "100" };

export async function startDatabaseServer(): Promise<DatabaseServer> {
  const dataDir = await mkdtemp(join(tmpdir(), "posthorn-chaos-"));
  await chmod(dataDir, 0o711); // As root PostgreSQL runs as another user, who must get in.
  const cluster = await prepareCluster(dataDir, "/var/lib/posthorn", await findBinaries());
  const port = await choosePort(cluster, false);
  const paused = new Set<number>();

  async function start(): Promise<void> {
    const result = await startPostmaster(cluster, port, settings, startTimeoutMs);
    if (result.outcome !== "started") throw new Error(`PostgreSQL does not start: ${JSON.stringify(result)}`);
  }

  function resume(): void {
    for (const pid of paused) signal(pid, "SIGCONT");
    paused.clear();
  }

  await start();
  const execute = queryRows(databaseUrl(cluster, port, "postgres"));
  return {
    async openDatabase() {
      const name = `chaos_${randomBytes(6).toString("hex")}`;
      await execute(`CREATE DATABASE ${name}`);
      return {
        url: databaseUrl(cluster, port, name),
        async close() {
          await execute(`DROP DATABASE ${name} WITH (FORCE)`);
        },
      };
    },
    async crash() {
      await stopImmediately(cluster);
    },
    start,
    async pause() {
      const postmaster = await findPostmaster(cluster);
      if (postmaster.state !== "running") throw new Error("there is no server to pause");
      // The parent first: from then on it starts no process that the list would lack.
      for (const pid of [postmaster.pid, ...childrenOf(postmaster.pid)]) {
        paused.add(pid);
        signal(pid, "SIGSTOP");
      }
      for (const pid of childrenOf(postmaster.pid)) {
        paused.add(pid);
        signal(pid, "SIGSTOP");
      }
    },
    resume,
    async close() {
      resume();
      await stopPostmaster(cluster, 20_000);
      // A link to elsewhere if the temporary directory is closed to PostgreSQL's user.
      await rm(await realpath(join(dataDir, "postgres")), { recursive: true, force: true });
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

async function stopImmediately(cluster: Cluster): Promise<void> {
  const args = ["stop", "-D", "data", "-m", "immediate", "-w", "-t", "20"];
  const result = await run(cluster.binaries.pgCtl, args, {
    user: cluster.user,
    cwd: cluster.homeDir,
    isDetached: true,
    timeoutMs: 30_000,
  });
  if (result.exitCode !== 0) throw new Error(`PostgreSQL does not stop: ${result.output}`);
}

function childrenOf(parentId: number): number[] {
  return spawnSync("ps", ["-A", "-o", "pid=,ppid="], { encoding: "utf8" })
    .stdout.split("\n")
    .map((line) => line.trim().split(/\s+/).map(Number))
    .filter(([, ppid]) => ppid === parentId)
    .map(([pid]) => pid!);
}

/** A process that has ended meanwhile needs no signal. */
function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}
