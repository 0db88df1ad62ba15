/** Runs one program to its end, with a bound on time and output. */

import { type ChildProcess, spawn } from "node:child_process";
import { EmbeddedPostgresError } from "./error.ts";

export interface RunOptions {
  timeoutMs: number;
  /** Run as this user; null = as the present one. */
  user: { uid: number; gid: number } | null;
  cwd?: string;
  /** In a session of its own, out of reach of a Ctrl+C in our terminal. */
  isDetached?: boolean;
}

export interface RunResult {
  /** Null when a signal ended the program. */
  exitCode: number | null;
  signal: NodeJS.Signals | null;
  /** Standard output and error together; the last 16 KiB. */
  output: string;
}

const outputCharactersMax = 16_384;

/**
 * @throws EmbeddedPostgresError `process` if it outruns `timeoutMs` (it is killed then), `no_binaries` if it cannot
 *                               be executed at all
 */
export function run(program: string, args: readonly string[], options: RunOptions): Promise<RunResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd: options.cwd ?? "/",
      env: ownEnvironment(),
      stdio: ["ignore", "pipe", "pipe"],
      detached: options.isDetached ?? false,
      windowsHide: true,
      ...(options.user === null ? {} : { uid: options.user.uid, gid: options.user.gid }),
    });
    const output = collectOutput(child);
    const timer = setTimeout(() => {
      child.kill("SIGKILL");
      const seconds = Math.round(options.timeoutMs / 1000);
      reject(new EmbeddedPostgresError("process", `${program} did not end within ${seconds} s. ${output()}`));
    }, options.timeoutMs);
    child.once("error", (error) => {
      clearTimeout(timer);
      const message = `${program} cannot be executed (${error.message}). Is its file system mounted noexec?`;
      reject(new EmbeddedPostgresError("no_binaries", message, error));
    });
    child.once("close", (exitCode, signal) => {
      clearTimeout(timer);
      resolve({ exitCode, signal, output: output().trim() });
    });
  });
}

function collectOutput(child: ChildProcess): () => string {
  let text = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding("utf8").on("data", (chunk: string) => {
      text = (text + chunk).slice(-outputCharactersMax);
    });
  }
  return () => text;
}

/**
 * PostgreSQL lives longer than we may, under another user as root: our environment, which holds the gateway's keys,
 * is none of its business. The C locale keeps its messages in English.
 */
function ownEnvironment(): NodeJS.ProcessEnv {
  const environment: NodeJS.ProcessEnv = { LC_ALL: "C" };
  for (const name of ["PATH", "TMPDIR", "SystemRoot", "TEMP", "TMP"]) {
    if (process.env[name] !== undefined) environment[name] = process.env[name];
  }
  return environment;
}
