/** The command's side of the process that runs a plugin. */

import { fork } from "node:child_process";
import { relative } from "node:path";
import { fileURLToPath } from "node:url";
import type { LoadFault } from "../workers/plugin-protocol.ts";
import { CommandFault, exitCodes } from "./fault.ts";
import type { PluginNews, PluginOrder } from "./plugin-child.ts";

const childFile = fileURLToPath(new URL("./plugin-child.ts", import.meta.url));
/** The gateway is quicker to give up; here a debugger or a loaded machine may be at work. */
const silenceMaxMs = 20_000;
const heapMaxMib = 256;

/**
 * Runs a plugin in a process of its own, with an empty environment as in the gateway. Ends by itself: a plugin that
 * tells nothing for 20 seconds is stopped.
 *
 * @param onNews  is told what comes, in its order
 *                What it throws ends the run.
 * @throws CommandFault if the plugin ends the process or never ends, naming the sample that it was busy with
 */
export async function runPlugin(order: PluginOrder, onNews: (news: PluginNews) => void): Promise<void> {
  const child = fork(childFile, [], {
    env: {},
    execArgv: [`--max-old-space-size=${heapMaxMib}`],
    serialization: "advanced",
    // What a plugin prints must not get between what the command prints.
    stdio: ["ignore", 2, 2, "ipc"],
  });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let busyWith = "while it was loaded";
  let isDone = false;
  let timer: NodeJS.Timeout | undefined;
  const listen = () => {
    clearTimeout(timer);
    timer = setTimeout(
      () =>
        reject(
          failure(`it did not end within ${silenceMaxMs / 1_000} s ${busyWith}: is there an endless loop?`),
        ),
      silenceMaxMs,
    );
  };
  child.on("message", (news: PluginNews) => {
    listen();
    if (news.kind === "loaded") busyWith = "after it was loaded";
    if (news.kind === "sample") busyWith = `on the sample ${JSON.stringify(news.name)}`;
    if (["refused", "checked", "transformed", "misused"].includes(news.kind)) isDone = true;
    if (news.kind === "loaded" && order.kind === "load") isDone = true;
    try {
      onNews(news);
    } catch (error) {
      reject(error);
    }
    if (isDone) resolve();
  });
  child.once("error", reject);
  child.once("exit", (code, signal) => {
    reject(failure(`it ended its process (${signal ?? `exit code ${code}`}) ${busyWith}`));
  });
  listen();
  child.send(order);
  try {
    await promise;
  } finally {
    clearTimeout(timer);
    // With a timer or socket of the plugin's open it would stay for ever.
    child.kill("SIGKILL");
  }
}

/** `plugins/my-format/transformer.ts:7: …`, the path as seen from the working directory. */
export function showLoadFault({ file, line, message }: LoadFault): string {
  return `${showPath(file)}${line === null ? "" : `:${line}`}: ${message}`;
}

/** As seen from the working directory, if it lies in it. */
export function showPath(path: string): string {
  const short = relative(process.cwd(), path);
  return short === "" || short.startsWith("..") ? path : short;
}

function failure(message: string): CommandFault {
  return new CommandFault(message, exitCodes.failed);
}
