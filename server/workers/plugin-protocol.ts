/**
 * What crosses the borders of an operator's plugin: gateway ⇄ plugin process ⇄ plugin thread. Plain data; a task holds
 * the input of one transform and nothing else.
 */

import type { MadePayload } from "../domain/attempt-report.ts";
import type { TransformTask } from "./job.ts";

export interface PluginLimits {
  /** How long a transform may take, in milliseconds. */
  budgetMs: number;
  /** How long the plugin's code may take to load, in milliseconds. */
  loadTimeoutMs: number;
  /** JavaScript heap of the plugin's thread, in MiB. */
  heapMaxMib: number;
  /** Memory of its process in all, in MiB: buffers lie outside the heap. */
  residentMaxMib: number;
}

/** What is loaded: a file by its absolute path, or a package by its name, as the directory sees it. */
export type PluginEntry =
  | { kind: "file"; path: string }
  | { kind: "package"; name: string; directory: string };

/** What a transformer says of itself, its schema as data. */
export interface PluginDescription {
  name: string;
  version: string;
  description: string;
  handles: string[];
  signature?: "intelli" | "insights";
  optionsSchema?: Record<string, unknown>;
  history?: number | { option: string; default: number };
  pure?: boolean;
}

/** Why a plugin does not load. */
export interface LoadFault {
  /** The file at fault, or what was to be loaded. */
  file: string;
  line: number | null;
  /** What is wrong, and what mends it. */
  message: string;
}

export type LoadResult = (
  | { kind: "loaded"; description: PluginDescription }
  | { kind: "refused"; fault: LoadFault }
) & {
  /** The plugin's own files, as far as they were looked for: a change of one of them is a change of the plugin. */
  files: string[];
};

/** How one transform ended. */
export type PluginResult =
  | { kind: "made"; payload: MadePayload }
  | { kind: "skipped" }
  | { kind: "transformer_error"; message: string };

/** A transform that came to an end, with the time that it took. */
export interface EndedTransform {
  result: PluginResult;
  durationMs: number;
}

export type ProcessRequest =
  | { kind: "load"; entry: PluginEntry }
  | { kind: "transform"; tasks: { id: number; task: TransformTask }[] };

export type ProcessMessage =
  | { kind: "load"; result: LoadResult }
  | { kind: "transform"; ended: ({ id: number } & EndedTransform)[] }
  /** Something went wrong in the plugin after the transform that began it had ended. */
  | { kind: "late_fault"; message: string }
  /** The process ends itself. `culpritId` names the transform that is to blame; null = nobody knows. */
  | { kind: "ending"; culpritId: number | null; reason: string };

export type ThreadRequest =
  | { kind: "load"; entry: PluginEntry }
  | { kind: "transform"; id: number; task: TransformTask };

/** Told to the thread at its start. */
export interface ThreadSettings {
  budgetMs: number;
  /** Two numbers that outlive the thread: which transform it is busy with (0 = none), and how often its loop turned. */
  progress: Int32Array<SharedArrayBuffer>;
}

/** Places in `ThreadSettings.progress`. */
export const busyWith = 0;
export const turnCount = 1;
