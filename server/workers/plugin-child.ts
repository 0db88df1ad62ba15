/**
 * One plugin process as the gateway sees it: started, loaded, given tasks, and gone one day. Each task is answered
 * exactly once, by its result or by how the process's end concerns it.
 */

import assert from "node:assert/strict";
import { type ChildProcess, fork } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { TransformTask } from "./job.ts";
import type {
  EndedTransform,
  LoadResult,
  PluginEntry,
  PluginLimits,
  ProcessMessage,
  ProcessRequest,
} from "./plugin-protocol.ts";

/**
 * How the end of the process concerns a task that it had. The `culprit` brought it about; one of the `suspect`s did, or
 * none; a `bystander` did not.
 */
export type TaskEnd =
  | ({ kind: "ended" } & EndedTransform)
  | { kind: "died"; role: "culprit" | "suspect" | "bystander"; reason: string };

export interface PluginChild {
  /** Settles when the plugin is loaded or refused; a process that ends or takes too long is refused too. Once only. */
  load(): Promise<LoadResult>;
  /** To be called while it has not ended. */
  transform(task: TransformTask): Promise<TaskEnd>;
  /** How it ended; null while it has not. */
  endReason(): string | null;
  /** Tasks without an answer. */
  underWayCount(): number;
  /** Ends the process once its tasks are answered, or after `graceMs`; settles when it is gone. May be called twice. */
  close(graceMs: number): Promise<void>;
}

export interface PluginChildParts {
  entry: PluginEntry;
  limits: PluginLimits;
  /** Called once when the process has ended by itself, after the tasks that it had were answered. */
  onEnded(reason: string): void;
  /** A line that the plugin wrote to its standard output or error. */
  onOutput(line: string): void;
  /** An error in the plugin that belongs to no task any more. */
  onLateFault(message: string): void;
}

/** Between the end of a process and its last words, which take another way. */
const lastWordsMaxMs = 500;
const lineCharactersMax = 500;
const watchEveryMs = 1_000;
/** A process whose main thread works ends a thread that is stuck long before. */
const silenceMaxMs = 10_000;

export function startPluginChild(parts: PluginChildParts): PluginChild {
  const { entry, limits } = parts;
  const loading = Promise.withResolvers<LoadResult>();
  const underWay = new Map<number, (end: TaskEnd) => void>();
  let lastId = 0;
  let unsent: { id: number; task: TransformTask }[] = [];
  let ending: { culpritId: number | null; reason: string } | null = null;
  let endReason: string | null = null;
  let isClosing = false;

  const child = startProcess(limits);
  const gone = watchEnd(child);
  void gone.then(settleAll);
  child.on("message", (message: ProcessMessage) => take(message));
  child.on("error", (error) => {
    ending ??= { culpritId: null, reason: `its process could not be started: ${error.message}` };
  });
  for (const stream of [child.stdout, child.stderr]) {
    if (stream === null) continue;
    createInterface({ input: stream }).on("line", (line) => parts.onOutput(line.slice(0, lineCharactersMax)));
  }
  let loadTimer: NodeJS.Timeout | undefined;
  /** Looks since the process was heard of: counted, so that a gateway that stood still itself blames nobody. */
  let silentLooks = 0;
  const watchTimer = setInterval(() => {
    silentLooks = underWay.size === 0 ? 0 : silentLooks + 1;
    if (silentLooks * watchEveryMs < silenceMaxMs + 4 * limits.budgetMs) return;
    ending ??= { culpritId: null, reason: "its process does not answer" };
    kill();
  }, watchEveryMs);

  return {
    load() {
      loadTimer = setTimeout(() => {
        ending ??= { culpritId: null, reason: `it took longer than ${limits.loadTimeoutMs} ms to load` };
        kill();
      }, limits.loadTimeoutMs);
      send({ kind: "load", entry });
      return loading.promise;
    },
    transform(task) {
      assert(endReason === null, "a process that has ended takes no tasks");
      const { promise, resolve } = Promise.withResolvers<TaskEnd>();
      // Numbers that fit the 32 bits in which the thread says what it is busy with; 0 means nothing.
      lastId = (lastId % 0x7fff_ffff) + 1;
      underWay.set(lastId, resolve);
      // What is asked for in one turn of the loop goes over in one message.
      if (unsent.push({ id: lastId, task }) === 1) setImmediate(flush);
      return promise;
    },
    endReason: () => endReason,
    underWayCount: () => underWay.size,
    async close(graceMs) {
      isClosing = true;
      const timer = setTimeout(kill, underWay.size === 0 ? 0 : graceMs);
      await gone;
      clearTimeout(timer);
    },
  };

  function kill(): void {
    child.kill("SIGKILL");
  }

  function flush(): void {
    const tasks = unsent;
    unsent = [];
    send({ kind: "transform", tasks });
  }

  function send(request: ProcessRequest): void {
    // It may end at any time; whatever it does not answer is settled by its end.
    if (child.connected) child.send(request, () => undefined);
  }

  function take(message: ProcessMessage): void {
    silentLooks = 0;
    switch (message.kind) {
      case "load":
        clearTimeout(loadTimer);
        loading.resolve(message.result);
        return;
      case "transform":
        for (const { id, ...ended } of message.ended) {
          const resolve = underWay.get(id);
          underWay.delete(id);
          resolve?.({ kind: "ended", ...ended });
        }
        if (isClosing && underWay.size === 0) kill();
        return;
      case "late_fault":
        parts.onLateFault(message.message);
        return;
      case "ending":
        ending ??= message;
    }
  }

  function settleAll(how: string): void {
    clearTimeout(loadTimer);
    clearInterval(watchTimer);
    const { culpritId, reason } = ending ?? { culpritId: null, reason: how };
    endReason = reason;
    const file = entry.kind === "file" ? entry.path : entry.name;
    const refused = { file, line: null, message: `${reason} (while it was loaded)` };
    loading.resolve({
      kind: "refused",
      fault: refused,
      files: entry.kind === "file" ? [entry.path] : [],
    });
    const isKnown = culpritId !== null && underWay.has(culpritId);
    const left = [...underWay];
    underWay.clear();
    for (const [id, resolve] of left) {
      const role = id === culpritId ? "culprit" : isKnown ? "bystander" : "suspect";
      resolve({ kind: "died", role, reason });
    }
    if (!isClosing) parts.onEnded(reason);
  }
}

function startProcess(limits: PluginLimits): ChildProcess {
  return fork(fileURLToPath(new URL("./plugin-process.ts", import.meta.url)), [JSON.stringify(limits)], {
    // Nothing of the gateway's environment, which holds its keys; none of its Node options either.
    env: {},
    execArgv: ["--disable-warning=ExperimentalWarning"],
    serialization: "advanced",
    stdio: ["ignore", "pipe", "pipe", "ipc"],
  });
}

/** Settles with how the process ended, once it is gone and what it had sent before was taken. */
function watchEnd(child: ChildProcess): Promise<string> {
  const gone = Promise.withResolvers<string>();
  const disconnected = new Promise<void>((resolve) => child.once("disconnect", resolve));
  child.once("error", () => {
    if (child.pid === undefined) gone.resolve("its process could not be started");
  });
  child.once("exit", async (code, signal) => {
    let timer: NodeJS.Timeout | undefined;
    const bound = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, lastWordsMaxMs);
    });
    await Promise.race([disconnected, bound]);
    clearTimeout(timer);
    // V8 ends a process whose heap cannot hold what is asked for at once.
    if (signal === "SIGABRT" || code === 134) gone.resolve("the transformer used more memory than it may");
    else gone.resolve(`the transformer ended its process (${signal ?? `exit code ${code}`})`);
  });
  return gone.promise;
}
