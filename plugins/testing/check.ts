/** Holds a transformer to the promises of the contract, on every sample event. */

import { AssertionError } from "node:assert/strict";
import { performance } from "node:perf_hooks";
import { coversType } from "../../server/domain/event.ts";
import {
  contractVersion,
  contractVersionOf,
  type Transformer,
  type TransformerOptions,
} from "../transformer.ts";
import { withWatchedInput } from "./input.ts";
import { findOptionsFault } from "./options.ts";
import { budgetMs, type Result, transformSample } from "./run.ts";
import { type Sample, samples } from "./samples.ts";
import { createBodyCheck } from "./schema.ts";
import { atAnotherTime } from "./time.ts";

/** How a transformer is checked. */
export interface CheckSettings {
  /** Options of the webhook; default `{}`. */
  readonly options?: TransformerOptions;
  /** JSON Schema (draft 2020-12) that every body has to fit. */
  readonly bodySchema?: Readonly<Record<string, unknown>>;
  /** Events to run it on; default: one of every kind. Those that it does not handle are left out. */
  readonly samples?: readonly Sample[];
  /** Is called before each of them, for those who want to know where a transformer that never ends got stuck. */
  readonly onSample?: (sample: Sample) => void;
}

/** Repeats in one check, on all samples together: one that never answers must not make it last for ever. */
const repeatsMax = 5;

/**
 * Runs a transformer on every sample that it handles and says what is wrong with it:
 *
 * - it was not made by `defineTransformer`, or its schema refuses the options
 * - it throws, is too slow, or gives what the gateway does not send
 * - it says JSON and gives none, or a body that does not fit `bodySchema`
 * - it changes its input
 * - it says that it is `pure`, and the same input gives other bytes a day later
 *
 * @returns one sentence for each fault, the name of the first sample that shows it in front; `[]` if all is well
 */
export async function checkTransformer(
  transformer: Transformer,
  settings: CheckSettings = {},
): Promise<string[]> {
  const version = contractVersionOf(transformer);
  if (version !== contractVersion) {
    return [
      version === null
        ? "the transformer must be made by defineTransformer({ … }) of posthorn/plugin"
        : `the transformer was made by version ${version} of posthorn/plugin, this is version ${contractVersion}`,
    ];
  }
  const options = settings.options ?? {};
  const refusal = findOptionsFault(transformer, options);
  if (refusal !== null)
    return [`its optionsSchema refuses the options ${JSON.stringify(options)}: ${refusal}`];
  const handled = (settings.samples ?? samples()).filter(({ type }) =>
    transformer.handles.some((pattern) => coversType(pattern, type)),
  );
  if (handled.length === 0) return ['it handles none of the sample events: see "handles"'];
  const checkBody = settings.bodySchema === undefined ? null : createBodyCheck(settings.bodySchema);
  /** What is wrong, and on which samples. */
  const faults = new Map<string, string[]>();
  let madeCount = 0;
  const repeats = { left: repeatsMax };
  for (const sample of handled) {
    settings.onSample?.(sample);
    const { result, found } = await checkSample(transformer, sample, options, repeats);
    if (result.kind === "made") {
      madeCount++;
      found.push(...findBodyFaults(result, checkBody));
    }
    for (const fault of found) {
      faults.set(fault, [...(faults.get(fault) ?? []), `${sample.name} (${sample.type})`]);
    }
  }
  if (madeCount === 0 && faults.size === 0) {
    return ["it makes a payload of none of the sample events that it handles"];
  }
  return [...faults].map(([fault, [first, ...others]]) =>
    others.length === 0 ? `${first}: ${fault}` : `${first} and ${others.length} more: ${fault}`,
  );
}

/**
 * `checkTransformer` as an assertion.
 *
 * @throws AssertionError listing every fault
 */
export async function assertSound(transformer: Transformer, settings: CheckSettings = {}): Promise<void> {
  const faults = await checkTransformer(transformer, settings);
  if (faults.length === 0) return;
  throw new AssertionError({
    message: [`${transformer.name}:`, ...faults].join("\n  - "),
    stackStartFn: assertSound,
  });
}

/** The result, and what is wrong with the way it came about. */
async function checkSample(
  transformer: Transformer,
  sample: Sample,
  options: TransformerOptions,
  repeats: { left: number },
): Promise<{ result: Result; found: string[] }> {
  const found: string[] = [];
  const { result, tookMs, change } = await runWatched(transformer, sample, options, repeats);
  if (change !== null) found.push(`it changes its input, which other code may hold: ${change}`);
  else if (result.kind === "failed") found.push(`it fails: ${result.message}`);
  else if (tookMs > budgetMs) found.push(`it takes longer than the ${budgetMs} ms that the gateway gives it`);
  if (transformer.pure && result.kind !== "failed") {
    const again = await atAnotherTime(() => transformSample(transformer, sample, options));
    if (!isSame(result, again)) {
      found.push(
        'it says "pure": true, but the same input gives other bytes later: is there a clock or chance in it?',
      );
    }
  }
  return { result, found };
}

/** What takes too long is run again, now and then: once may be the fault of a busy machine. */
async function runWatched(
  transformer: Transformer,
  sample: Sample,
  options: TransformerOptions,
  repeats: { left: number },
) {
  for (;;) {
    const watched = withWatchedInput(transformer);
    const startedMs = performance.now();
    const result = await transformSample(watched.transformer, sample, options);
    const tookMs = performance.now() - startedMs;
    if (tookMs <= budgetMs || repeats.left-- <= 0) return { result, tookMs, change: watched.findChange() };
  }
}

function isSame(first: Result, second: Result): boolean {
  return JSON.stringify({ ...first, body: null }) === JSON.stringify({ ...second, body: null });
}

function findBodyFaults(
  { text, contentType }: Extract<Result, { kind: "made" }>,
  checkBody: ((value: unknown) => string | null) | null,
): string[] {
  const isJson = /^[^;]*[/+]json\s*(;|$)/i.test(contentType);
  if (!isJson) {
    return checkBody === null ? [] : [`its content type is ${contentType}: a bodySchema is for JSON`];
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return [`its content type is ${contentType}, but the body is no JSON: ${(error as Error).message}`];
  }
  const misfit = checkBody?.(value) ?? null;
  return misfit === null ? [] : [`the body does not fit the schema: ${misfit}`];
}
