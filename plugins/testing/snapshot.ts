/** Keeps what a transformer makes in a file, so that a change of a single byte is seen. */

import { AssertionError } from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { coversType } from "../../server/domain/event.ts";
import type { Transformer } from "../transformer.ts";
import type { CheckSettings } from "./check.ts";
import { type Result, transformSample } from "./run.ts";
import { samples } from "./samples.ts";

/**
 * What a transformer makes of every sample that it handles, as text to read and compare: a heading for each sample,
 * below it content type, headers and body.
 */
export async function printResults(
  transformer: Transformer,
  settings: Omit<CheckSettings, "bodySchema"> = {},
): Promise<string> {
  const parts: string[] = [];
  for (const sample of settings.samples ?? samples()) {
    if (!transformer.handles.some((pattern) => coversType(pattern, sample.type))) continue;
    const result = await transformSample(transformer, sample, settings.options);
    parts.push(`=== ${sample.name} (${sample.type})\n${print(result)}\n`);
  }
  return parts.join("\n");
}

/**
 * Compares `printResults` with a file. The first run writes it; so does every run with `UPDATE_SNAPSHOTS=1` in the
 * environment. Keep the file beside the tests and look at what changes in it. Where `CI` is set, a missing file fails.
 *
 * @param file  where the results are kept, such as `new URL("./results.txt", import.meta.url)`
 * @throws AssertionError naming the first line that differs
 */
export async function assertSnapshot(
  transformer: Transformer,
  file: string | URL,
  settings: Omit<CheckSettings, "bodySchema"> = {},
): Promise<void> {
  const actual = await printResults(transformer, settings);
  const isMissing = !existsSync(file);
  if (process.env.UPDATE_SNAPSHOTS === "1" || (isMissing && !process.env.CI)) {
    writeFileSync(file, actual);
    return;
  }
  const expected = isMissing ? "" : readFileSync(file, "utf8").replaceAll("\r\n", "\n");
  if (actual === expected) return;
  throw new AssertionError({
    message: isMissing
      ? `${file} is missing: run once with UPDATE_SNAPSHOTS=1`
      : `${describeDifference(actual, expected)}\nIf this is meant, run with UPDATE_SNAPSHOTS=1`,
    actual,
    expected,
    stackStartFn: assertSnapshot,
  });
}

function print(result: Result): string {
  if (result.kind === "skipped") return "skipped";
  if (result.kind === "failed") return `failed: ${result.message}`;
  const headers = Object.entries(result.headers).map(([name, value]) => `${name}: ${value}\n`);
  return `${result.contentType}\n${headers.join("")}\n${result.text}`;
}

function describeDifference(actual: string, expected: string): string {
  const actualLines = actual.split("\n");
  const expectedLines = expected.split("\n");
  const index = actualLines.findIndex((line, position) => line !== expectedLines[position]);
  const at = index === -1 ? actualLines.length : index;
  const heading = actualLines.slice(0, at + 1).findLast((line) => line.startsWith("=== ")) ?? "";
  return `${heading}, line ${at + 1}\n  was: ${expectedLines[at] ?? "(nothing)"}\n  is:  ${actualLines[at] ?? "(nothing)"}`;
}
