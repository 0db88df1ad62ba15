/**
 * Every transformer that this gateway has: its own, which the sending threads run, and operators' plugins, each in a
 * process of its own. Gives names away, tells what is wrong with what does not load, and follows changes of the files.
 */

import { stat } from "node:fs/promises";
import type { Logger } from "pino";
import type { Transformer } from "../../plugins/transformer.ts";
import type { Clock } from "../clock.ts";
import type { TransformerFacts as RuleFacts } from "../domain/webhook-rules.ts";
import { describeTransformer, type TransformerFacts } from "./catalog.ts";
import type { TransformTask } from "./job.ts";
import {
  createPluginHost,
  describeFault,
  type PluginHost,
  type PluginQuarantine,
  type TransformOutcome,
} from "./plugin-host.ts";
import { createPreviews } from "./plugin-preview.ts";
import type { LoadFault, PluginEntry, PluginLimits } from "./plugin-protocol.ts";
import { findPlugins, type SourceSettings } from "./plugin-sources.ts";
import {
  createWorkCounts,
  findPluginHold,
  healthOf,
  pluginOf,
  showEntry,
  type TransformerStatus,
} from "./plugin-status.ts";

export interface PluginPool {
  /** All that have loaded, by name; it changes with the plugins. */
  readonly transformers: ReadonlyMap<string, RuleFacts>;
  factsOf(name: string): TransformerFacts | undefined;
  /** True if the payload is made here and not by the sending threads. */
  isPlugin(name: string): boolean;
  /** Lets the plugin that the task names make the payload. Never rejects. */
  transform(task: TransformTask): Promise<TransformOutcome>;
  /** The same for any transformer, in a process that no delivery depends on. @throws GatewayError `over_limit` */
  preview(task: TransformTask): Promise<TransformOutcome>;
  /** Counts an error of one of our own, which ran elsewhere. */
  noteError(name: string): void;
  /** Ours first, then plugins, by name; what never loaded at the end. */
  list(): TransformerStatus[];
  /** Looks for plugins anew and loads all of them as their files are now. Tasks under way end on the code from before. */
  reload(): Promise<void>;
  /** `listener` is called when a plugin came, went, or can or cannot run any more. */
  onChange(listener: () => void): void;
  close(): Promise<void>;
}

export interface PluginPoolParts {
  /** Our own transformers. */
  builtin: readonly Transformer[];
  clock: Clock;
  log: Pick<Logger, "info" | "warn">;
}

export interface PluginPoolSettings {
  sources: SourceSettings;
  limits: PluginLimits;
  quarantine: PluginQuarantine;
  /** How often files are looked at for changes; null = only `reload` looks. */
  watchMs: number | null;
}

/** Each takes a good part of a second of a core. */
const loadsTogetherMax = 4;

interface Kept {
  entry: PluginEntry;
  host: PluginHost;
  /** Of its files as they were loaded. */
  fingerprint: string;
  /** Of its files as they were seen last: a change counts once they have stayed the same for one look. */
  seen: string;
  /** Who has its name, if somebody has. */
  clash: string | null;
  /** What the log was told last. */
  told: string;
}

/** Finds and loads all plugins; those that do not load are in the list and the log, and nothing waits for them. */
export async function openPluginPool(
  parts: PluginPoolParts,
  settings: PluginPoolSettings,
): Promise<PluginPool> {
  const { builtin, clock, log } = parts;
  /** In the order in which names are given away. */
  let kept: Kept[] = [];
  const keptByName = new Map<string, Kept>();
  const rules = new Map<string, RuleFacts>();
  const facts = new Map<string, TransformerFacts>();
  let sourceFaults: LoadFault[] = [];
  let foundKeys = "";
  const counts = createWorkCounts();
  const previews = createPreviews(builtin, settings.limits);
  const listeners: (() => void)[] = [];
  const stop = new AbortController();
  let reloading: Promise<void> = Promise.resolve();

  await findAndLoad(true);
  const watching = settings.watchMs === null ? null : watch(settings.watchMs);

  /** @param isForced  load those, too, whose files are the same */
  async function findAndLoad(isForced: boolean): Promise<void> {
    const found = await findPlugins(settings.sources);
    foundKeys = keysOf(found.entries);
    tellFaults(found.faults);
    const before = new Map(kept.map((one) => [keyOf(one.entry), one]));
    kept = found.entries.map((entry) => before.get(keyOf(entry)) ?? keep(entry));
    for (const one of kept) before.delete(keyOf(one.entry));
    await Promise.all([...before.values()].map(({ host }) => host.close()));
    const rest = kept.values();
    const loadRest = async () => {
      for (const one of rest) await loadOne(one, isForced);
    };
    await Promise.all(Array.from({ length: loadsTogetherMax }, loadRest));
    giveNames();
  }

  function keep(entry: PluginEntry): Kept {
    const { limits, quarantine } = settings;
    const host = createPluginHost({ entry, limits, quarantine, onState: giveNames, clock, log });
    return { entry, host, fingerprint: "", seen: "", clash: null, told: "" };
  }

  async function loadOne(one: Kept, isForced: boolean): Promise<void> {
    if (stop.signal.aborted) return;
    const { files } = one.host;
    const before = await fingerprintOf(files);
    const isSame = one.fingerprint !== "" && before === one.fingerprint;
    // What went wrong too often goes wrong again, whoever asks for it to be loaded.
    if (isSame && (!isForced || one.host.state.kind === "quarantined")) return;
    const { fingerprint, told } = one;
    await one.host.load();
    // What changed while it was loaded shows as a difference at the next look.
    const isOfSameFiles = one.host.files.join() === files.join();
    one.fingerprint = isOfSameFiles ? before : await fingerprintOf(one.host.files);
    // Changed files are told of even if all that the log shows of them is as it was.
    if (fingerprint !== "" && fingerprint !== one.fingerprint && told === one.told) one.told = "";
  }

  /** Our own first, then in the order in which the plugins were found. */
  function giveNames(): void {
    keptByName.clear();
    rules.clear();
    facts.clear();
    for (const one of builtin) {
      rules.set(one.name, one);
      facts.set(one.name, describeTransformer(one));
    }
    for (const one of kept) {
      const plugin = pluginOf(one.host.state);
      const name = plugin?.transformer.name ?? "";
      one.clash = plugin !== null && facts.has(name) ? describeClash(name) : null;
      if (plugin !== null && one.clash === null) {
        const { handles, optionsSchema } = plugin.transformer;
        const hold = findPluginHold(one.host.state);
        rules.set(name, { handles, ...(optionsSchema && { optionsSchema }), hold });
        facts.set(name, plugin.facts);
        keptByName.set(name, one);
      }
      tell(one);
    }
    for (const listener of listeners) listener();
  }

  function describeClash(name: string): string {
    const other = keptByName.get(name);
    const whose = other === undefined ? "a transformer of the gateway itself" : showEntry(other.entry);
    return `the name ${JSON.stringify(name)} is taken by ${whose}: give this one another name`;
  }

  /** For the log, once a change. */
  function tell(one: Kept): void {
    const { state } = one.host;
    if (state.kind === "loading") return;
    const { health, reason } = healthOf(state, one.clash);
    const { name, version } = pluginOf(state)?.transformer ?? {};
    const told = [health, reason, name, version].join();
    if (told === one.told) return;
    one.told = told;
    const fields = { file: showEntry(one.entry), transformer: name, version };
    if (reason === null) log.info(fields, "a plugin is loaded");
    else
      log.warn({ ...fields, reason }, `a plugin is ${health === "quarantined" ? "quarantined" : "at fault"}`);
  }

  function tellFaults(faults: LoadFault[]): void {
    const known = new Set(sourceFaults.map(describeFault));
    for (const reason of faults.map(describeFault)) {
      if (!known.has(reason)) log.warn({ reason }, "a plugin was not found");
    }
    sourceFaults = faults;
  }

  /** One after the other: the last one sees the files as they are when it is asked for, or later. */
  function reload(isForced: boolean): Promise<void> {
    const next = reloading.then(() => (stop.signal.aborted ? undefined : findAndLoad(isForced)));
    reloading = next.catch((error: unknown) => log.warn({ err: error }, "plugins could not be loaded anew"));
    return next;
  }

  async function watch(everyMs: number): Promise<void> {
    let seenKeys = foundKeys;
    while (!stop.signal.aborted) {
      await clock.sleep(everyMs, stop.signal);
      try {
        const keys = keysOf((await findPlugins(settings.sources)).entries);
        let isChanged = keys !== foundKeys && keys === seenKeys;
        seenKeys = keys;
        for (const one of kept) {
          const now = await fingerprintOf(one.host.files);
          if (now !== one.fingerprint && now === one.seen) isChanged = true;
          one.seen = now;
        }
        if (isChanged) await reload(false);
      } catch (error) {
        log.warn({ err: error }, "plugins could not be looked at");
      }
    }
  }

  function list(): TransformerStatus[] {
    const named = [...keptByName].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, one]) => one);
    const nameless = kept.filter((one) => !named.includes(one) && one.host.state.kind !== "loading");
    const ofPlugin = (one: Kept, transformer: TransformerStatus["transformer"]) => ({
      transformer,
      file: showEntry(one.entry),
      ...healthOf(one.host.state, one.clash),
      ...counts.of(transformer?.name ?? ""),
    });
    return [
      ...builtin.map((transformer) => ({
        transformer,
        file: null,
        health: "ok" as const,
        reason: null,
        ...counts.of(transformer.name),
      })),
      ...named.map((one) => ofPlugin(one, pluginOf(one.host.state)?.transformer ?? null)),
      ...nameless.map((one) => ofPlugin(one, null)),
      ...sourceFaults.map(({ file, message }) => ({
        transformer: null,
        file,
        health: "failed" as const,
        reason: message,
        ...counts.of(""),
      })),
    ];
  }

  return {
    transformers: rules,
    factsOf: (name) => facts.get(name),
    isPlugin: (name) => keptByName.has(name),
    async transform(task) {
      const one = keptByName.get(task.transformer);
      if (one === undefined) return { kind: "held", reason: `transformer ${task.transformer} is not loaded` };
      const outcome = await one.host.transform(task);
      if (outcome.kind !== "held") counts.note(task.transformer, outcome);
      return outcome;
    },
    preview: (task) => previews.run(task, keptByName.get(task.transformer)?.entry ?? null),
    noteError: counts.noteError,
    list,
    reload: () => reload(true),
    onChange(listener) {
      listeners.push(listener);
    },
    async close() {
      stop.abort();
      // What is being loaded is let go of; that ends the loading, and with it the looking.
      const closeHosts = () => Promise.all(kept.map(({ host }) => host.close()));
      await Promise.all([previews.close(), closeHosts(), reloading, watching]);
      await closeHosts();
    },
  };
}

function keyOf(entry: PluginEntry): string {
  return entry.kind === "file" ? entry.path : `package ${entry.name}`;
}

function keysOf(entries: readonly PluginEntry[]): string {
  return entries.map(keyOf).join("\n");
}

/** Changes when one of the files does, appears or goes. */
async function fingerprintOf(files: readonly string[]): Promise<string> {
  const marks = files.map(async (file) => {
    const found = await stat(file).catch(() => null);
    return found === null ? `${file} -` : `${file} ${found.mtimeMs} ${found.size} ${found.ino}`;
  });
  return (await Promise.all(marks)).join("\n");
}
