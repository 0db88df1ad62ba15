/**
 * Entry of the thread that runs one operator's plugin, inside the plugin's own process. It gets tasks and nothing else:
 * no secret, an empty environment. Whatever a transform does wrong becomes its own `transformer_error`; what cannot be
 * caught here (a loop, a full heap, an exit) ends the process, which tells who was busy.
 */

import { AsyncLocalStorage } from "node:async_hooks";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { parentPort, workerData } from "node:worker_threads";
import type { Transformer } from "../../plugins/transformer.ts";
import { transformerOf } from "./plugin-export.ts";
import { describeLoadFault, findThrowPlace } from "./plugin-fault.ts";
import { type ImportRecord, specifierOf, watchImports } from "./plugin-hooks.ts";
import {
  busyWith,
  type EndedTransform,
  type LoadResult,
  type PluginDescription,
  type PluginEntry,
  type PluginResult,
  type ProcessMessage,
  type ThreadRequest,
  type ThreadSettings,
  turnCount,
} from "./plugin-protocol.ts";
import { describeThrown, makePayload, messageMax } from "./transform.ts";

const { budgetMs, progress } = workerData as ThreadSettings;
const turnEveryMs = 50;
const schemaCharactersMax = 65_536;

/** The plugin, once it is loaded; keyed by its name as `makePayload` wants it. */
let loaded: ReadonlyMap<string, Transformer> = new Map();
/** Of the plugin; it grows with what it imports later. */
let ownFiles: ReadonlySet<string> = new Set();
/** Transforms under way, each with the way to end it from outside. */
const underWay = new Map<number, (result: PluginResult) => void>();
const current = new AsyncLocalStorage<number>();
let turning: NodeJS.Timeout | null = null;

// Without these an error in a timer, or a promise that nobody awaits, would end the thread with all that it has.
process.on("uncaughtException", noteStray);
process.on("unhandledRejection", noteStray);

export default async (request: ThreadRequest): Promise<LoadResult | EndedTransform> =>
  request.kind === "load" ? await load(request.entry) : await transform(request);

async function load(entry: PluginEntry): Promise<LoadResult> {
  const record = watchImports(entry, import.meta.url);
  ownFiles = record.files;
  try {
    const module = await import(specifierOf(entry));
    const transformer = transformerOf(module.default);
    const description = describe(transformer);
    loaded = new Map([[description.name, transformer]]);
    forbidNewProperties();
    return { kind: "loaded", description, files: [...record.files] };
  } catch (error) {
    const shown = entry.kind === "file" ? entry.path : entry.name;
    return { kind: "refused", fault: describeLoadFault(error, record, shown), files: filesOf(entry, record) };
  }
}

/** With a file that is there once a package is, so that its installation is noticed. */
function filesOf(entry: PluginEntry, { files }: ImportRecord): string[] {
  const first =
    entry.kind === "file" ? entry.path : join(entry.directory, "node_modules", entry.name, "package.json");
  return [...new Set([first, ...files])];
}

function describe(transformer: Transformer): PluginDescription {
  const { name, version, description, handles, signature, optionsSchema, history, pure } = transformer;
  const schemaText = optionsSchema && JSON.stringify(optionsSchema);
  if (schemaText !== undefined && schemaText.length > schemaCharactersMax) {
    throw new TypeError(
      `its optionsSchema has ${schemaText.length} characters as JSON, at most ${schemaCharactersMax} are taken`,
    );
  }
  return {
    name,
    version,
    description,
    handles: [...handles],
    ...(signature !== undefined && { signature }),
    ...(schemaText !== undefined && { optionsSchema: JSON.parse(schemaText) }),
    ...(history !== undefined && { history: typeof history === "number" ? history : { ...history } }),
    ...(pure !== undefined && { pure }),
  };
}

/**
 * From here on a transform that adds a property to what all objects inherit from throws, and fails for it, instead of
 * changing what later events look like. Not frozen: libraries that name a property of their own `toString` go on.
 */
function forbidNewProperties(): void {
  for (const shared of [Object, Array, Function, String, Number, Boolean, Date, RegExp, Promise, Map, Set]) {
    Object.preventExtensions(shared.prototype);
    Object.preventExtensions(shared);
  }
}

async function transform({ id, task }: Extract<ThreadRequest, { kind: "transform" }>) {
  const stopped = Promise.withResolvers<PluginResult>();
  underWay.set(id, stopped.resolve);
  // While something is under way its process watches that the loop of this thread turns.
  turning ??= setInterval(() => Atomics.add(progress, turnCount, 1), turnEveryMs);
  const startMs = performance.now();
  Atomics.store(progress, busyWith, id);
  const making = current.run(id, makePayload, task, loaded, budgetMs, describeWithPlace);
  const busyMs = performance.now() - startMs;
  Atomics.store(progress, busyWith, 0);
  if (busyMs > budgetMs) stopped.resolve(refuse(`the transformer took longer than ${budgetMs} ms`));
  let result = await Promise.race([stopped.promise, making]);
  const durationMs = performance.now() - startMs;
  // A promise that was left to itself is found out at the end of the turn in which it was rejected.
  await nextTurn();
  stopped.resolve(result);
  result = await stopped.promise;
  underWay.delete(id);
  if (underWay.size === 0 && turning !== null) {
    clearInterval(turning);
    turning = null;
  }
  return { result, durationMs };
}

/** An error that came out of no `transform`: of the one that it began in, while that is under way. */
function noteStray(error: unknown): void {
  const message = describeWithPlace(error);
  const stop = underWay.get(current.getStore() ?? 0);
  if (stop !== undefined) stop(refuse(`an error outside of what transform returns: ${message}`));
  else parentPort?.postMessage({ kind: "late_fault", message } satisfies ProcessMessage);
}

/** With the plugin's own line that it came from, where there is one: a long message makes room for it. */
function describeWithPlace(thrown: unknown): string {
  const place = findThrowPlace(thrown, ownFiles);
  const end = place === null ? "" : ` at ${place.slice(-100)}`;
  return `${describeThrown(thrown).slice(0, messageMax - end.length)}${end}`;
}

function refuse(message: string): PluginResult {
  return { kind: "transformer_error", message };
}
