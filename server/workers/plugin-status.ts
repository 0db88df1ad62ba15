/** What there is to tell of transformers: how they are, why, and what they did so far. */

import { isAbsolute, relative } from "node:path";
import type { Transformer } from "../../plugins/transformer.ts";
import type { LoadedPlugin } from "./plugin-description.ts";
import { describeFault, type PluginState, type TransformOutcome } from "./plugin-host.ts";
import type { LoadFault, PluginEntry } from "./plugin-protocol.ts";
import { createRecentDurations, type RecentDurations } from "./recent-durations.ts";

export interface PluginHealth {
  health: "ok" | "failed" | "quarantined";
  /** Why it is not ok, with places in files; null if it is. */
  reason: string | null;
}

/** What a transformer did since this process started. */
export interface TransformerWork {
  payloadCount: number;
  skippedCount: number;
  errorCount: number;
  /** Of the latest 1,000 transforms, in milliseconds; null for our own, and before the first. */
  durationMs: { p50: number; p99: number } | null;
}

/** All of one transformer, or of a plugin that never loaded. */
export interface TransformerStatus extends PluginHealth, TransformerWork {
  /** Null if it never loaded. */
  transformer: Omit<Transformer, "transform"> | null;
  /** Of a plugin: its file or package, relative to the working directory where it lies in it. Null: it is our own. */
  file: string | null;
}

/** What is known of a plugin: it, or what it was when it loaded last; null if it never did. */
export function pluginOf(state: PluginState): LoadedPlugin | null {
  return state.kind === "loading" ? null : state.plugin;
}

/** Why deliveries wait for it, in words that tell tenants nothing of the operator's files; null = they need not. */
export function findPluginHold(state: PluginState): string | null {
  switch (state.kind) {
    case "refused":
      return "does not load any more; the gateway's operator sees why";
    case "quarantined":
      return `is quarantined: ${state.reason}`;
    default:
      return null;
  }
}

/** @param clash  who has its name, if somebody has */
export function healthOf(state: PluginState, clash: string | null): PluginHealth {
  if (clash !== null) return { health: "failed", reason: clash };
  switch (state.kind) {
    case "ready": {
      if (state.fault === null) return { health: "ok", reason: null };
      return { health: "failed", reason: `${showFault(state.fault)} (the code from before is still used)` };
    }
    case "refused":
      return { health: "failed", reason: showFault(state.fault) };
    case "quarantined":
      return { health: "quarantined", reason: state.reason };
    case "loading":
      return { health: "failed", reason: "it is being loaded" };
  }
}

export function showEntry(entry: PluginEntry): string {
  return entry.kind === "file" ? shorten(entry.path) : entry.name;
}

function showFault(fault: LoadFault): string {
  return describeFault({ ...fault, file: shorten(fault.file) });
}

/** As one would type it. */
function shorten(path: string): string {
  const short = relative(process.cwd(), path);
  return short === "" || short.startsWith("..") || isAbsolute(short) ? path : short;
}

export interface WorkCounts {
  note(transformer: string, outcome: Exclude<TransformOutcome, { kind: "held" }>): void;
  /** Counts an error of a transformer that ran elsewhere. */
  noteError(transformer: string): void;
  of(transformer: string): TransformerWork;
}

interface Counted extends Omit<TransformerWork, "durationMs"> {
  durations: RecentDurations;
}

/** Counts by name: a plugin that is loaded anew goes on where it was. */
export function createWorkCounts(): WorkCounts {
  const byName = new Map<string, Counted>();
  const countedOf = (name: string): Counted => {
    let counted = byName.get(name);
    if (counted === undefined) {
      counted = { payloadCount: 0, skippedCount: 0, errorCount: 0, durations: createRecentDurations() };
      byName.set(name, counted);
    }
    return counted;
  };

  return {
    note(transformer, outcome) {
      const counted = countedOf(transformer);
      counted.durations.add(outcome.durationMs);
      if (outcome.kind === "made") counted.payloadCount += 1;
      else if (outcome.kind === "skipped") counted.skippedCount += 1;
      else counted.errorCount += 1;
    },
    noteError(transformer) {
      countedOf(transformer).errorCount += 1;
    },
    of(transformer) {
      const { durations, ...counts } = byName.get(transformer) ?? nothing;
      const p50 = durations.percentile(0.5);
      const p99 = durations.percentile(0.99);
      return { ...counts, durationMs: p50 === null || p99 === null ? null : { p50, p99 } };
    },
  };
}

const nothing: Counted = {
  payloadCount: 0,
  skippedCount: 0,
  errorCount: 0,
  durations: createRecentDurations(),
};
