/** The program as users run it, in a directory of its own, against a gateway that really runs. */

import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { operatorKey } from "../helpers/gateway.ts";

const entry = fileURLToPath(new URL("../../server/entry.js", import.meta.url));
const endsWithinMs = 20_000;

export interface CommandResult {
  code: number | null;
  stdout: string;
  stderr: string;
  /** `stdout` read as JSON; throws if it is none. */
  // biome-ignore lint/suspicious/noExplicitAny: tests look at whatever JSON came
  json: any;
}

export interface CommandOptions {
  /** Added to the environment, which holds the gateway's address and the operator key. */
  env?: Record<string, string>;
  /** What it reads from standard input. */
  input?: string;
}

export type Posthorn = Awaited<ReturnType<typeof openPosthorn>>;

/** @param url  of the gateway */
export async function openPosthorn(url: () => string) {
  const directory = await mkdtemp(join(tmpdir(), "posthorn-cli-"));

  function start(args: string[], { env = {} }: CommandOptions = {}): ChildProcess {
    return spawn(process.execPath, [entry, ...args], {
      cwd: directory,
      env: { PATH: process.env.PATH, POSTHORN_URL: url(), POSTHORN_KEY: operatorKey, ...env },
      timeout: endsWithinMs,
      killSignal: "SIGKILL",
    });
  }

  return {
    directory,
    /** Starts a command that does not end by itself. */
    start,
    /** Runs a command to its end. */
    async run(args: string[], options: CommandOptions = {}): Promise<CommandResult> {
      const child = start(args, options);
      let stdout = "";
      let stderr = "";
      child.stdout!.on("data", (chunk) => {
        stdout += chunk;
      });
      child.stderr!.on("data", (chunk) => {
        stderr += chunk;
      });
      child.stdin!.end(options.input ?? "");
      const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
      return {
        code,
        stdout,
        stderr,
        get json() {
          return JSON.parse(stdout);
        },
      };
    },
    close: () => rm(directory, { recursive: true, force: true }),
  };
}
