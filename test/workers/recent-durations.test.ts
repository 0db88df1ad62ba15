import { expect, test } from "vitest";
import { createRecentDurations } from "../../server/workers/recent-durations.ts";

test("without a sample there is no percentile", () => {
  expect(createRecentDurations().percentile(0.5)).toBeNull();
});

test("a percentile is the value that the share of the samples does not exceed, in whatever order they came", () => {
  const durations = createRecentDurations();
  for (const value of [30, 10, 20, 40]) durations.add(value);
  expect([0, 0.25, 0.5, 0.75, 0.99, 1].map(durations.percentile)).toEqual([10, 10, 20, 30, 40, 40]);
});

test("the latest thousand count", () => {
  const durations = createRecentDurations();
  for (let index = 0; index < 5_000; index++) durations.add(1_000);
  for (let index = 1; index <= 1_000; index++) durations.add(index / 10);
  expect(durations.percentile(1)).toBe(100);
  expect(durations.percentile(0.99)).toBe(99);
});
