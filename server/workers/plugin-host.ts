/**
 * Keeps one operator's plugin running: a process for it, another one when that ends, and a new one with the new code
 * when its files change.
 *
 *   loading ──► ready ◄──── process ended: a new one is started, and the tasks that it had run again
 *      │          │
 *      │          └──────► quarantined   its process ended too often; until its files change
 *      └──► refused                      its code does not load; if it did before, the code from before goes on
 *
 * Promises: a task that ends the process fails alone. When it is not known which of several did it, each of them runs
 * again by itself, so that only the one that does it again is to blame.
 */

import type { Logger } from "pino";
import type { Clock } from "../clock.ts";
import type { TransformTask } from "./job.ts";
import { type PluginChild, startPluginChild, type TaskEnd } from "./plugin-child.ts";
import { type LoadedPlugin, readDescription } from "./plugin-description.ts";
import type {
  EndedTransform,
  LoadFault,
  LoadResult,
  PluginEntry,
  PluginLimits,
  PluginResult,
} from "./plugin-protocol.ts";
import { checkPayload } from "./transform.ts";

/** What became of a task: `held` was not run, because the plugin cannot run for now. */
export type TransformOutcome =
  | (PluginResult & { durationMs: number; isPure: boolean })
  | { kind: "held"; reason: string };

export type PluginState =
  | { kind: "loading" }
  | { kind: "ready"; plugin: LoadedPlugin /** Why its newest code is not used. */; fault: LoadFault | null }
  | { kind: "refused"; fault: LoadFault /** What it was before. */; plugin: LoadedPlugin | null }
  | { kind: "quarantined"; reason: string; plugin: LoadedPlugin };

export interface PluginHost {
  readonly state: PluginState;
  /** Files of the code that was loaded last, whether it is used or not. */
  readonly files: readonly string[];
  /** Loads the plugin's files as they are now, and uses them from then on if they load. */
  load(): Promise<void>;
  transform(task: TransformTask): Promise<TransformOutcome>;
  /** Ends its process; tasks that are left are held. */
  close(): Promise<void>;
}

/** When a plugin that keeps ending its process runs no more. */
export interface PluginQuarantine {
  /** So many ends within so long; its files have to change then. */
  endsMax: number;
  withinMs: number;
  /** From the second end on, before it is started again. */
  pauseMs: number;
}

export interface PluginHostParts {
  entry: PluginEntry;
  limits: PluginLimits;
  quarantine: PluginQuarantine;
  /** Called after each change of `state`. */
  onState(): void;
  clock: Clock;
  log: Pick<Logger, "info" | "warn">;
}

interface Waiting {
  task: TransformTask;
  resolve(outcome: TransformOutcome): void;
  /** True for one that may have ended a process: nothing runs beside it. */
  isAlone: boolean;
}

/** Beyond their budget tasks get so long to end before their process is ended. */
const retireGraceMs = 1_000;
/** Tasks that a process has at once: enough for a plugin that waits for something, and few to run again. */
const underWayMax = 64;
/** Lines of output and late errors that reach the log in a minute. */
const linesPerMinuteMax = 100;

export function createPluginHost(parts: PluginHostParts): PluginHost {
  const { entry, limits, quarantine, clock, log } = parts;
  const shown = entry.kind === "file" ? entry.path : entry.name;
  let state: PluginState = { kind: "loading" };
  let files: readonly string[] = [];
  /** The process that tasks go to, with what it loaded. */
  let current: { child: PluginChild; plugin: LoadedPlugin } | null = null;
  /** One that loads; whether it is used is not known yet. */
  let starting: PluginChild | null = null;
  const closing = new Set<Promise<void>>();
  const waiting: Waiting[] = [];
  /** The one that runs by itself, while it does. */
  let alone: Waiting | null = null;
  let endTimes: number[] = [];
  let loading: Promise<void> | null = null;
  const stop = new AbortController();
  const countLine = createLineCount(clock);

  async function loadOnce(): Promise<void> {
    const next = startPluginChild({
      entry,
      limits,
      onEnded: (reason) => onEnded(next, reason),
      onOutput(output) {
        if (countLine()) log.info({ plugin: shown, output }, "a plugin wrote");
      },
      onLateFault(fault) {
        if (countLine())
          log.warn({ plugin: shown, fault }, "an error in a plugin that no transform ended with");
      },
    });
    starting = next;
    const result = readResult(await next.load());
    starting = null;
    files = result.files;
    if (stop.signal.aborted || result.kind === "refused") {
      await next.close(0);
      if (result.kind === "refused" && !stop.signal.aborted) refuse(result.fault);
      return;
    }
    // What the former process has is finished on the code that it has.
    if (current !== null) retire(current.child);
    current = { child: next, plugin: result.plugin };
    enter({ kind: "ready", plugin: result.plugin, fault: null });
    // It may have ended since it told that it is loaded.
    const endReason = next.endReason();
    if (endReason !== null) onEnded(next, endReason);
    pump();
  }

  function refuse(fault: LoadFault): void {
    if (current !== null && state.kind === "ready") {
      enter({ ...state, fault });
      return;
    }
    // What is known of the plugin stays known: webhooks that name it are still told by its name.
    const plugin = state.kind === "loading" ? null : state.plugin;
    enter({ kind: "refused", fault, plugin });
    holdAll(describeFault(fault));
  }

  function retire(former: PluginChild): void {
    const closed = former.close(limits.budgetMs + retireGraceMs).finally(() => closing.delete(closed));
    closing.add(closed);
  }

  function onEnded(ended: PluginChild, reason: string): void {
    if (current?.child !== ended || state.kind !== "ready") return;
    current = null;
    const now = clock.now().getTime();
    endTimes = [...endTimes.filter((at) => at > now - quarantine.withinMs), now];
    log.warn({ plugin: shown, reason, endCount: endTimes.length }, "a plugin ended its process");
    if (endTimes.length >= quarantine.endsMax) {
      const minutes = Math.round(quarantine.withinMs / 60_000);
      const why = `it ended its process ${endTimes.length} times within ${minutes} minutes, at last because ${reason}; its files have to change`;
      enter({ kind: "quarantined", plugin: state.plugin, reason: why });
      holdAll(`it is quarantined: ${why}`);
      return;
    }
    // At once the first time; then with a pause, so that a plugin that goes on like this takes little of the machine.
    void clock.sleep(endTimes.length === 1 ? 0 : quarantine.pauseMs, stop.signal).then(load);
  }

  /** Also after the process ended: the files as they are now are all that there is. */
  function load(): Promise<void> {
    // One at a time: the second load sees what changed while the first one ran.
    const next = (loading ?? Promise.resolve()).then(() => (stop.signal.aborted ? undefined : loadOnce()));
    loading = next.catch((error: unknown) =>
      log.warn({ plugin: shown, err: error }, "a plugin was not loaded"),
    );
    return loading;
  }

  function pump(): void {
    while (current !== null && alone === null && waiting.length > 0) {
      const next = waiting[0]!;
      const underWayCount = current.child.underWayCount();
      if (underWayCount >= underWayMax || (next.isAlone && underWayCount > 0)) return;
      waiting.shift();
      if (next.isAlone) alone = next;
      void run(current, next);
    }
  }

  async function run({ child, plugin }: NonNullable<typeof current>, one: Waiting): Promise<void> {
    if (one.task.transformer !== plugin.transformer.name) {
      // It has another name since its files changed.
      one.resolve({ kind: "held", reason: `transformer ${one.task.transformer} is not loaded` });
    } else {
      const end = await child.transform(one.task);
      settle(one, end, plugin.transformer);
    }
    if (alone === one) alone = null;
    pump();
  }

  function settle(one: Waiting, end: TaskEnd, { version, pure }: LoadedPlugin["transformer"]): void {
    const isPure = pure === true;
    const hold = findHold();
    if (end.kind === "ended") one.resolve({ ...readEnd(end, version), isPure });
    else if (end.role === "culprit" || (end.role === "suspect" && one.isAlone)) {
      const failed = { kind: "transformer_error", message: cleanText(end.reason) } as const;
      one.resolve({ ...failed, durationMs: limits.budgetMs, isPure });
    } else if (hold !== null) one.resolve({ kind: "held", reason: hold });
    else waiting.unshift({ ...one, isAlone: one.isAlone || end.role === "suspect" });
  }

  function findHold(): string | null {
    if (stop.signal.aborted) return "the gateway stops";
    if (state.kind === "quarantined") return `it is quarantined: ${state.reason}`;
    return state.kind === "refused" ? describeFault(state.fault) : null;
  }

  function holdAll(reason: string): void {
    for (const one of waiting.splice(0)) one.resolve({ kind: "held", reason });
  }

  function enter(next: PluginState): void {
    state = next;
    parts.onState();
  }

  return {
    get state() {
      return state;
    },
    get files() {
      return files;
    },
    load() {
      // Other code may behave: what is held against the code from before does not count for it.
      endTimes = [];
      return load();
    },
    transform(task) {
      const hold = findHold();
      if (hold !== null) return Promise.resolve({ kind: "held", reason: hold });
      return new Promise((resolve) => {
        waiting.push({ task, resolve, isAlone: false });
        pump();
      });
    },
    async close() {
      stop.abort();
      holdAll("the gateway stops");
      if (current !== null) retire(current.child);
      current = null;
      await Promise.all([starting?.close(0), loading, ...closing]);
    },
  };
}

/** `file:line: what is wrong and what mends it`. */
export function describeFault({ file, line, message }: LoadFault): string {
  return `${file}${line === null ? "" : `:${line}`}: ${message}`;
}

type ReadResult =
  | { kind: "loaded"; plugin: LoadedPlugin; files: string[] }
  | (Extract<LoadResult, { kind: "refused" }> & { files: string[] });

/** What a plugin says of itself is checked on this side too: on its own side it could change the checks. */
function readResult(result: LoadResult): ReadResult {
  if (result.kind === "refused") return result;
  const { files } = result;
  try {
    return { kind: "loaded", plugin: readDescription(result.description), files };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return { kind: "refused", files, fault: { file: files[0] ?? "", line: null, message } };
  }
}

/** What comes from a plugin's process is read as what comes from outside. */
export function readEnd(
  { result, durationMs }: EndedTransform,
  version: string,
): PluginResult & { durationMs: number } {
  const spent = { durationMs: Math.max(0, Number(durationMs)) };
  switch (result.kind) {
    case "made":
      return { ...checkPayload(result.payload, version), ...spent };
    case "skipped":
      return { kind: "skipped", ...spent };
    default:
      return { kind: "transformer_error", message: cleanText(result.message), ...spent };
  }
}

/** The database takes no U+0000 in a text, and a log line is one line. */
function cleanText(text: unknown): string {
  return String(text)
    .replace(/[\s\p{Cc}]+/gu, " ")
    .slice(0, 300)
    .toWellFormed();
}

/** True as long as this minute's lines are not used up. */
function createLineCount(clock: Pick<Clock, "now">): () => boolean {
  let minute = 0;
  let count = 0;
  return () => {
    const now = Math.floor(clock.now().getTime() / 60_000);
    if (now !== minute) count = 0;
    minute = now;
    count += 1;
    return count <= linesPerMinuteMax;
  };
}
