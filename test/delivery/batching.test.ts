import { describe, expect, test } from "vitest";
import { takeBatch } from "../../server/delivery/batching.ts";

interface One {
  source: string;
  number: number;
  call?: number;
  bytes?: number;
}
const many = (source: string, count: number): One[] =>
  Array.from({ length: count }, (_, number) => ({ source, number }));
const take = (queue: One[], countMax: number, bytesMax = 1_000_000) =>
  takeBatch(queue, {
    countMax,
    bytesMax,
    bytesOf: ({ bytes = 1 }) => bytes,
    sourceOf: ({ source }) => source,
    isJoined: (before, after) => before.call !== undefined && before.call === after.call,
  });
const numbersOf = (batch: One[], source: string) =>
  batch.filter((one) => one.source === source).map((one) => one.number);

describe("a batch", () => {
  test("is all that waits while that fits", () => {
    const queue = [...many("large", 4), ...many("small", 1)];
    expect(take(queue, 5)).toHaveLength(5);
    expect(queue).toEqual([]);
  });

  test("holds what the one who sends little has sent, however much the other sent before", () => {
    const queue = [...many("large", 10_000), ...many("small", 3)];
    const batch = take(queue, 500);
    expect(batch).toHaveLength(500);
    expect(numbersOf(batch, "small")).toEqual([0, 1, 2]);
    expect(numbersOf(batch, "large")).toEqual(Array.from({ length: 497 }, (_, number) => number));
    expect(queue).toHaveLength(9_503);
  });

  test("keeps the order of each source, batch after batch", () => {
    const queue = [...many("a", 700), ...many("b", 300), ...many("c", 5)];
    const taken: One[] = [];
    while (queue.length > 0) taken.push(...take(queue, 100));
    for (const [source, count] of [
      ["a", 700],
      ["b", 300],
      ["c", 5],
    ] as const) {
      expect(numbersOf(taken, source)).toEqual(Array.from({ length: count }, (_, number) => number));
    }
  });

  test("never parts what belongs together, even beyond its size", () => {
    const call = many("a", 30).map((one) => ({ ...one, call: 1 }));
    const queue = [...many("b", 2), ...call, ...many("b", 2)];
    const batch = take(queue, 10);
    expect(numbersOf(batch, "a")).toHaveLength(30);
    expect(queue.every(({ source }) => source === "b")).toBe(true);
  });

  test("takes one of each when there are more sources than places, the oldest", () => {
    const queue = Array.from({ length: 8 }, (_, index) => many(`source-${index}`, 2)).flat();
    expect(take(queue, 4).map(({ source }) => source)).toEqual([
      "source-0",
      "source-1",
      "source-2",
      "source-3",
    ]);
  });

  test("ends with what makes it large, and holds one even if that alone is too large", () => {
    const queue = many("a", 5).map((one) => ({ ...one, bytes: 40 }));
    expect(numbersOf(take(queue, 500, 100), "a")).toEqual([0, 1, 2]);
    expect(numbersOf(take(queue, 500, 10), "a")).toEqual([3]);
    expect(numbersOf(take(queue, 500, 10), "a")).toEqual([4]);
  });
});
