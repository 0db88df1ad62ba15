/**
 * The process in which commands run a plugin: what it does there (a loop, an exit, a full heap) ends it and not the
 * command. It gets one order and tells what comes of it; its own output goes where the command's errors go.
 */

import "./plugin-imports.ts";
import { builtinTransformers } from "../../plugins/builtin.ts";
import {
  type Cost,
  checkTransformer,
  measure,
  readSamples,
  type Sample,
  transformSample,
} from "../../plugins/testing.ts";
import type { Transformer, TransformerOptions } from "../../plugins/transformer.ts";
import { coversType } from "../domain/event.ts";
import type { LoadFault, PluginEntry } from "../workers/plugin-protocol.ts";
import { loadPlugin } from "./plugin-load.ts";

export type PluginOrder = {
  /** An operator's plugin, or the name of a transformer of ours. */
  plugin: PluginEntry | { kind: "builtin"; name: string };
  options: TransformerOptions;
} & (
  | { kind: "check" }
  /** `json`: a body of a WhatsApp webhook or one item, as text. */
  | { kind: "transform"; json: string }
  /** Only loads it. */
  | { kind: "load" }
);

export interface PluginFacts {
  name: string;
  version: string;
  handles: readonly string[];
  isPure: boolean;
}

/** What was made of one event. */
export type Transformed =
  | { kind: "made"; type: string; body: Uint8Array; contentType: string; headers: Record<string, string> }
  | { kind: "skipped"; type: string }
  | { kind: "not_handled"; type: string }
  | { kind: "failed"; type: string; message: string };

export type PluginNews =
  | { kind: "loaded"; facts: PluginFacts }
  | { kind: "refused"; faults: LoadFault[] }
  /** It runs on this sample from now on. */
  | { kind: "sample"; name: string }
  | { kind: "checked"; faults: string[]; sampleCount: number; cost: Cost | null }
  | { kind: "transformed"; events: Transformed[] }
  /** What was asked for is no use: options or input. */
  | { kind: "misused"; message: string };

process.once("message", (order: PluginOrder) => {
  follow(order).catch((error: Error) => tell({ kind: "misused", message: error.message }));
});

async function follow(order: PluginOrder): Promise<void> {
  const transformer = await find(order.plugin);
  if (transformer === null) return;
  const { name, version, handles, pure = false } = transformer;
  tell({ kind: "loaded", facts: { name, version, handles, isPure: pure } });
  if (order.kind === "check") await check(transformer, order.options);
  if (order.kind === "transform") await transform(transformer, order.options, order.json);
}

async function find(plugin: PluginOrder["plugin"]): Promise<Transformer | null> {
  if (plugin.kind === "builtin") {
    return builtinTransformers.find(({ name }) => name === plugin.name) ?? null;
  }
  const loaded = await loadPlugin(plugin);
  if (loaded.kind === "loaded") return loaded.transformer;
  tell(loaded);
  return null;
}

async function check(transformer: Transformer, options: TransformerOptions): Promise<void> {
  const names = new Set<string>();
  const onSample = ({ name }: Sample) => {
    names.add(name);
    tell({ kind: "sample", name });
  };
  const faults = await checkTransformer(transformer, { options, onSample });
  const cost = faults.length === 0 ? await measure(transformer, { options, onSample }) : null;
  tell({ kind: "checked", faults, sampleCount: names.size, cost });
}

async function transform(transformer: Transformer, options: TransformerOptions, json: string): Promise<void> {
  const events: Transformed[] = [];
  for (const sample of readSamples(json, { receivedAt: new Date() })) {
    events.push(await transformOne(transformer, sample, options));
  }
  tell({ kind: "transformed", events });
}

async function transformOne(
  transformer: Transformer,
  sample: Sample,
  options: TransformerOptions,
): Promise<Transformed> {
  const { type } = sample;
  if (!transformer.handles.some((pattern) => coversType(pattern, type))) return { kind: "not_handled", type };
  const result = await transformSample(transformer, sample, options);
  if (result.kind !== "made") return { ...result, type };
  const { body, contentType, headers } = result;
  return { kind: "made", type, body, contentType, headers: { ...headers } };
}

function tell(news: PluginNews): void {
  process.send!(news);
}
