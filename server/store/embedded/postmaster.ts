/** The running PostgreSQL of a cluster: whether it runs and where, start, stop. All of it by `pg_ctl`. */

import { existsSync, readFileSync, unlinkSync } from "node:fs";
import { readFile, readlink, realpath, rename, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import type { Cluster } from "./cluster.ts";
import { EmbeddedPostgresError, explainFileErrors } from "./error.ts";
import { run } from "./run.ts";
import { formatSettings, settingsFile } from "./settings.ts";

export type Postmaster =
  | { state: "absent" }
  /** `isReady` is false while it starts, recovers or stops; the port is unknown for a moment at its start. */
  | { state: "running"; pid: number; port: number | null; isReady: boolean };

export type StartResult =
  | { outcome: "started" }
  /** Another process took the port meanwhile. */
  | { outcome: "port_taken" }
  | { outcome: "failed"; reason: string };

const logBytesMax = 4 * 1024 * 1024;
const emptyPidFileAgeMs = 5_000;

/**
 * Reads `postmaster.pid`. One that a crash left behind is removed: PostgreSQL itself refuses to start when another
 * process of the same user has got the old process id, which is common in containers.
 */
export async function findPostmaster(cluster: Cluster): Promise<Postmaster> {
  const file = join(cluster.pgDataDir, "postmaster.pid");
  const text = await readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return null;
    throw error;
  });
  if (text === null) return { state: "absent" };
  // Process id, data directory, start time, port, socket directory, address, shared memory key, state.
  const lines = text.split("\n");
  const pid = Number(lines[0]);
  if (!Number.isInteger(pid) || pid <= 0) {
    const age = Date.now() - (await stat(file).catch(() => ({ mtimeMs: Date.now() }))).mtimeMs;
    if (age < emptyPidFileAgeMs) return { state: "running", pid: 0, port: null, isReady: false };
  } else if (await isPostmasterOf(cluster, pid)) {
    const port = Number(lines[3]);
    return {
      state: "running",
      pid,
      port: Number.isInteger(port) && port > 0 ? port : null,
      isReady: lines[7]?.trim() === "ready",
    };
  }
  removeIfUnchanged(file, text);
  return { state: "absent" };
}

/**
 * Starts the server and waits until it answers. In a session of its own, so that Ctrl+C in the gateway's terminal
 * does not reach it before the gateway has finished.
 *
 * @param timeoutMs  a recovery after a crash counts, too
 */
export async function startPostmaster(
  cluster: Cluster,
  port: number,
  changes: Record<string, string>,
  timeoutMs: number,
): Promise<StartResult> {
  await explainFileErrors(cluster.homeDir, async () => {
    await replaceFile(join(cluster.homeDir, settingsFile), formatSettings(changes));
    await replaceFile(join(cluster.homeDir, "port"), `${port}\n`);
    const log = await stat(cluster.logFile).catch(() => null);
    if (log !== null && log.size > logBytesMax) await rename(cluster.logFile, `${cluster.logFile}.1`);
  });
  const logStart = (await stat(cluster.logFile).catch(() => ({ size: 0 }))).size;
  const seconds = Math.max(1, Math.ceil(timeoutMs / 1000));
  // The paths are relative to the working directory: pg_ctl puts them into a shell command.
  const args = ["start", "-D", "data", "-l", join("data", "server.log"), "-w", "-t", String(seconds)];
  const result = await run(cluster.binaries.pgCtl, [...args, "-o", `-p ${port}`], {
    user: cluster.user,
    cwd: cluster.homeDir,
    isDetached: true,
    timeoutMs: timeoutMs + 5_000,
  });
  if (result.exitCode === 0) return { outcome: "started" };
  const log = await readLogFrom(cluster.logFile, logStart);
  if (/could not bind|Address already in use|could not create any TCP\/IP sockets/.test(log)) {
    return { outcome: "port_taken" };
  }
  return { outcome: "failed", reason: `${result.output}\n${log}`.trim() };
}

/**
 * Ends all connections and stops; returns at once if nothing runs. What does not stop in time is stopped the hard
 * way, which loses nothing: the next start recovers.
 *
 * @throws EmbeddedPostgresError `process` if it runs on even so
 */
export async function stopPostmaster(cluster: Cluster, timeoutMs: number): Promise<void> {
  const seconds = Math.max(1, Math.ceil(timeoutMs / 1000));
  for (const mode of ["fast", "immediate"]) {
    if ((await findPostmaster(cluster)).state === "absent") return;
    const args = ["stop", "-D", "data", "-m", mode, "-w", "-t", String(seconds)];
    await run(cluster.binaries.pgCtl, args, {
      user: cluster.user,
      cwd: cluster.homeDir,
      isDetached: true,
      timeoutMs: timeoutMs + 5_000,
    });
  }
  const left = await findPostmaster(cluster);
  if (left.state === "absent") return;
  const message = `PostgreSQL (process ${left.pid}) in ${cluster.pgDataDir} did not stop within ${2 * seconds} s.`;
  throw new EmbeddedPostgresError("process", message);
}

/** A free port of 127.0.0.1: the one of the last start if possible, so that saved connections of people go on working. */
export async function choosePort(cluster: Cluster, mayBeOld: boolean): Promise<number> {
  const old = Number(await readFile(join(cluster.homeDir, "port"), "utf8").catch(() => "0"));
  if (mayBeOld && Number.isInteger(old) && old > 0 && old < 65_536) {
    const port = await tryPort(old).catch(() => null);
    if (port !== null) return port;
  }
  return tryPort(0);
}

function tryPort(wanted: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(wanted, "127.0.0.1", () => {
      const address = server.address();
      const port = address !== null && typeof address === "object" ? address.port : 0;
      server.close(() => resolve(port));
    });
  });
}

/**
 * Whether the process is there and may be this cluster's. Where the system tells (Linux, to root or the same user), a
 * PostgreSQL is told from one of another data directory by its working directory; the login settles the rest.
 */
async function isPostmasterOf(cluster: Cluster, pid: number): Promise<boolean> {
  try {
    process.kill(pid, 0);
  } catch (error) {
    // Not permitted: it belongs to another user, as whom the server of this directory does not run.
    return (error as NodeJS.ErrnoException).code === "EPERM" && process.platform === "win32";
  }
  if (process.platform === "linux" && existsSync("/proc/self/stat")) {
    // "<pid> (<name>) <state> …". Z is a dead process that nobody has asked after: in a container whose first process is
    // the gateway it stays for ever.
    const [, name, state] =
      /^\d+ \((.*)\) (\S)/s.exec(await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "")) ?? [];
    if (name !== "postgres" || state === "Z" || state === "X") return false;
    const directory = await readlink(`/proc/${pid}/cwd`).catch(() => null);
    return directory === null || directory === (await realpath(cluster.pgDataDir));
  }
  if (process.platform === "darwin") {
    const answer = await run("/bin/ps", ["-p", String(pid), "-o", "comm="], { user: null, timeoutMs: 5_000 });
    return answer.output.endsWith("postgres");
  }
  return true;
}

/** Reads and removes without a pause in between: a server that starts just now has written a file of its own. */
function removeIfUnchanged(file: string, text: string): void {
  try {
    if (readFileSync(file, "utf8") === text) unlinkSync(file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}

async function replaceFile(file: string, content: string): Promise<void> {
  const draft = `${file}.${process.pid}`;
  await writeFile(draft, content, { mode: 0o644 });
  await rename(draft, file);
}

async function readLogFrom(file: string, start: number): Promise<string> {
  const bytes = await readFile(file).catch(() => Buffer.alloc(0));
  return bytes
    .subarray(start <= bytes.length ? start : 0)
    .subarray(-4_096)
    .toString("utf8");
}
