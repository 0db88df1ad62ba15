import { performance } from "node:perf_hooks";
import { coversType } from "../../server/domain/event.ts";
import type { Transformer } from "../transformer.ts";
import type { CheckSettings } from "./check.ts";
import { transformSample } from "./run.ts";
import { samples } from "./samples.ts";

/** What a transformer costs. */
export interface Cost {
  /** Microseconds for one event, the gateway's own handling of input and payload included. */
  readonly medianUs: number;
  readonly p99Us: number;
  /** The sample that cost most, by its median. */
  readonly slowest: { readonly name: string; readonly medianUs: number };
  readonly runCount: number;
}

/** A slow transformer is run less often, so that its measure ends. */
const perSampleMaxMs = 100;
const roundsDefault = 200;

/**
 * What a transformer costs. The figure is of this machine in this moment: compare it with that of another
 * transformer, such as our `raw`, rather than with a number from elsewhere.
 *
 * @param settings.rounds  how often each sample that it handles is run at most, after a tenth of that to warm up;
 *                         default 200
 * @throws Error if it handles no sample
 */
export async function measure(
  transformer: Transformer,
  settings: Omit<CheckSettings, "bodySchema"> & { readonly rounds?: number } = {},
): Promise<Cost> {
  const handled = (settings.samples ?? samples()).filter(({ type }) =>
    transformer.handles.some((pattern) => coversType(pattern, type)),
  );
  if (handled.length === 0) throw new Error(`transformer ${transformer.name} handles none of the samples`);
  const all: number[] = [];
  let slowest = { name: "", medianUs: -1 };
  for (const sample of handled) {
    settings.onSample?.(sample);
    const run = () => transformSample(transformer, sample, settings.options);
    const timesUs = await timeRuns(run, settings.rounds ?? roundsDefault);
    const medianUs = quantile(timesUs, 0.5);
    if (medianUs > slowest.medianUs) slowest = { name: sample.name, medianUs };
    all.push(...timesUs);
  }
  return { medianUs: quantile(all, 0.5), p99Us: quantile(all, 0.99), slowest, runCount: all.length };
}

/** At least one time, in microseconds. */
async function timeRuns(run: () => Promise<unknown>, rounds: number): Promise<number[]> {
  const endMs = performance.now() + perSampleMaxMs;
  for (let left = Math.ceil(rounds / 10); left > 0 && performance.now() < endMs; left--) await run();
  const timesUs: number[] = [];
  do {
    const startedMs = performance.now();
    await run();
    timesUs.push((performance.now() - startedMs) * 1_000);
  } while (timesUs.length < rounds && performance.now() < endMs);
  return timesUs;
}

function quantile(values: readonly number[], part: number): number {
  const sorted = values.toSorted((first, second) => first - second);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))]!;
}
