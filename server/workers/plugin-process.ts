/**
 * Entry of the process that one operator's plugin runs in: a pool of one thread for the plugin's code, and this main
 * thread, which runs none of it and so always answers.
 *
 * A process and not only a thread, because a thread that fills its heap with one large allocation (a growing Map, a long
 * text made flat) takes its whole process along, whatever its limits: V8 gives up there. Here that ends nobody else.
 *
 * When the thread is stuck, full or gone, this process tells who was to blame, and ends itself: what is left of a plugin
 * that went wrong is not worth keeping, and an end that the system makes cannot fail.
 */

import { setPriority } from "node:os";
import { Piscina } from "piscina";
import {
  busyWith,
  type EndedTransform,
  type LoadResult,
  type PluginEntry,
  type PluginLimits,
  type ProcessMessage,
  type ProcessRequest,
  type ThreadRequest,
  type ThreadSettings,
  turnCount,
} from "./plugin-protocol.ts";

const watchEveryMs = 25;
/** Beyond its budget a transform gets so long to find that out itself, on a machine that is busy with other things. */
const slackMs = 100;
/**
 * A thread that stands still and uses no processor waits for the system, or for its turn on a machine that is short of
 * cores, which is no fault of the plugin's: it gets at least so long.
 */
const blockedMaxMs = 2_000;
/** Where cores are short, the gateway goes first: one plugin's loop is not to slow down the deliveries of all others. */
const niceness = 5;
/** Errors of no transform that are told in a second. */
const lateFaultsMax = 5;
/** Thread options that the plugin's code must not inherit from how this process was started. */
const threadArguments = ["--disable-warning=ExperimentalWarning"];

const limits = JSON.parse(process.argv[2] ?? "") as PluginLimits;
// Before the thread is started, which inherits it.
setPriority(niceness);
const progress = new Int32Array(new SharedArrayBuffer(8));
const pool = new Piscina<ThreadRequest, unknown>({
  filename: new URL("./plugin-thread.ts", import.meta.url).href,
  minThreads: 1,
  maxThreads: 1,
  // A blocking wait would stop the plugin's own timers and requests between tasks.
  atomics: "disabled",
  // How many are under way is the gateway's business.
  concurrentTasksPerWorker: 1_000_000,
  maxQueue: 10_000,
  workerData: { budgetMs: limits.budgetMs, progress } satisfies ThreadSettings,
  env: {},
  argv: [],
  execArgv: threadArguments,
  resourceLimits: { maxOldGenerationSizeMb: limits.heapMaxMib, maxYoungGenerationSizeMb: 16 },
  recordTiming: false,
});

let underWayCount = 0;
/** Since the last second began; one event may begin thousands of timers. */
let lateFaultCount = 0;
let isLoading = false;
let isEnding = false;
/** Watchdog ticks without progress: counted rather than measured, so that a machine that stood still blames nobody. */
let stillTicks = 0;
let seen = "";
/** Processor time used when the thread last made progress. */
let usedAtStartMs = 0;

// They go to the whole group of a terminal. The gateway finishes its deliveries first, and then lets go of this process.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => undefined);
process.on("disconnect", () => process.exit(0));
process.on("message", (request: ProcessRequest) => {
  if (request.kind === "load") void load(request.entry);
  else for (const { id, task } of request.tasks) void transform({ kind: "transform", id, task });
});
pool.on("message", (message: ProcessMessage) => {
  // The plugin can reach this channel, too. All that it may say here is that it went wrong.
  if (message?.kind !== "late_fault" || lateFaultCount++ >= lateFaultsMax) return;
  send({ kind: "late_fault", message: String(message.message).slice(0, 300) });
});
pool.on("error", (error: Error) => end(describeEnd(error)));
// Later than what it was running is told, which knows more.
pool.on("workerDestroy", () => setImmediate(() => end("its thread ended")));
setInterval(watch, watchEveryMs);
setInterval(() => {
  lateFaultCount = 0;
}, 1_000);

async function load(entry: PluginEntry): Promise<void> {
  isLoading = true;
  try {
    const result = (await pool.run({ kind: "load", entry })) as LoadResult;
    send({ kind: "load", result });
  } catch (error) {
    end(describeEnd(error));
  } finally {
    isLoading = false;
  }
}

let results: ({ id: number } & EndedTransform)[] = [];

async function transform(request: Extract<ThreadRequest, { kind: "transform" }>): Promise<void> {
  underWayCount += 1;
  try {
    const ended = (await pool.run(request)) as EndedTransform;
    // What ends in one turn of the loop goes back in one message.
    if (results.push({ id: request.id, ...ended }) === 1) setImmediate(flush);
  } catch (error) {
    end(describeEnd(error));
  } finally {
    underWayCount -= 1;
  }
}

function flush(): void {
  const ended = results;
  results = [];
  send({ kind: "transform", ended });
}

function watch(): void {
  const now = `${progress[busyWith]} ${progress[turnCount]}`;
  const isStill = now === seen && !isLoading && underWayCount > 0;
  seen = now;
  stillTicks = isStill ? stillTicks + 1 : 0;
  const usedMs = cpuMs();
  if (!isStill) usedAtStartMs = usedMs;
  const stillMaxMs = limits.budgetMs + slackMs;
  const isLooping = stillTicks * watchEveryMs >= stillMaxMs && usedMs - usedAtStartMs >= stillMaxMs / 2;
  if (isLooping || stillTicks * watchEveryMs >= Math.max(blockedMaxMs, 4 * stillMaxMs)) {
    end(`the transformer took longer than ${limits.budgetMs} ms and did not stop`);
  }
  if (underWayCount > 0 && process.memoryUsage.rss() > limits.residentMaxMib * 1024 * 1024) {
    end(`the transformer used more than ${limits.residentMaxMib} MiB of memory`);
  }
}

/** Processor time that this process has used, nearly all of it in the plugin's thread. */
function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
}

function describeEnd(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === "ERR_WORKER_OUT_OF_MEMORY") {
    return `the transformer used more than ${limits.heapMaxMib} MiB of heap`;
  }
  const [, exitCode] = /exited with code: (\d+)/.exec(message) ?? [];
  return exitCode === undefined ? `its thread broke: ${message}` : "the transformer ended its thread";
}

/** Tells why, and ends the process: by a signal, since a thread that is stuck in the system cannot be waited for. */
function end(reason: string): void {
  if (isEnding) return;
  isEnding = true;
  if (results.length > 0) flush();
  const busy = progress[busyWith] ?? 0;
  const message: ProcessMessage = { kind: "ending", culpritId: busy === 0 ? null : busy, reason };
  const kill = () => process.kill(process.pid, "SIGKILL");
  process.send?.(message, kill);
  setTimeout(kill, 1_000);
}

function send(message: ProcessMessage): void {
  if (process.connected) process.send?.(message);
}
