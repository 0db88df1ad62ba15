import { describe, expect, test } from "vitest";
import { median, percentilesOf, ratioOf, spreadOf } from "./figures.ts";

describe("percentiles", () => {
  test("are values that were measured, by nearest rank, whatever the order", () => {
    const values = Float64Array.from({ length: 1_000 }, (_, index) => 1_000 - index);
    expect(percentilesOf(values)).toEqual({ p50: 500, p90: 900, p99: 990, p999: 999 });
  });

  test("of few values never miss the worst one", () => {
    expect(percentilesOf(Float64Array.of(7, 1, 3))).toEqual({ p50: 3, p90: 7, p99: 7, p999: 7 });
  });

  test("leave the values as they were", () => {
    const values = Float64Array.of(3, 1, 2);
    percentilesOf(values);
    expect([...values]).toEqual([3, 1, 2]);
  });

  test("of nothing are refused", () => {
    expect(() => percentilesOf(new Float64Array(0))).toThrow(RangeError);
  });
});

describe("the spread of rounds", () => {
  test("shows least, middle and most, and keeps the rounds in their order", () => {
    expect(spreadOf([30, 4, 200])).toEqual({ min: 4, median: 30, max: 200, rounds: [30, 4, 200] });
  });

  test("takes the mean of the two in the middle when their number is even", () => {
    expect(median([1, 10, 4, 2])).toBe(3);
  });

  test("compares what was measured in the same round, not the medians", () => {
    const ratio = ratioOf(spreadOf([10, 40, 90]), spreadOf([100, 100, 100]));
    expect(ratio.rounds).toEqual([0.1, 0.4, 0.9]);
    expect(ratioOf(spreadOf([1, 2, 9]), spreadOf([10, 2, 3])).median).toBe(1);
  });

  test("of no rounds, or of rounds that do not pair up, is refused", () => {
    expect(() => spreadOf([])).toThrow(RangeError);
    expect(() => ratioOf(spreadOf([1]), spreadOf([1, 2]))).toThrow(RangeError);
  });
});
