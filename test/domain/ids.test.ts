import { randomFillSync } from "node:crypto";
import { describe, expect, test } from "vitest";
import { createIdSource, firstIdAt, isUuid, timeOfId } from "../../server/domain/ids.ts";

const atMs = Date.parse("2026-03-05T12:00:00.123Z");
const zeros = (bytes: Uint8Array) => void bytes.fill(0);
const ones = (bytes: Uint8Array) => void bytes.fill(0xff);
const random = (bytes: Uint8Array) => void randomFillSync(bytes);

describe("an id", () => {
  test.each([
    ["zeros", zeros],
    ["ones", ones],
    ["random bits", random],
  ])("is a UUID of version 7 and variant 10, in lower case (%s)", (_case, fill) => {
    const id = createIdSource(() => atMs, fill).next();
    expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(isUuid(id)).toBe(true);
  });

  test("starts with the 48 bits of its millisecond, which can be read back", () => {
    const id = createIdSource(() => atMs, random).next();
    expect(id.replaceAll("-", "").slice(0, 12)).toBe(atMs.toString(16).padStart(12, "0"));
    expect(timeOfId(id)).toBe(atMs);
  });

  test("ends in random bits: two processes do not make the same", () => {
    const one = createIdSource(() => atMs, random);
    const other = createIdSource(() => atMs, random);
    const ids = Array.from({ length: 1_000 }, () => [one.next(), other.next()]).flat();
    expect(new Set(ids).size).toBe(2_000);
  });
});

describe("ids of one source grow", () => {
  function expectGrowing(ids: string[]): void {
    const fault = ids.findIndex((id, index) => index > 0 && id <= ids[index - 1]!);
    expect(fault === -1 ? null : [ids[fault - 1], ids[fault]]).toBeNull();
  }

  test("within one millisecond, beyond what the counter holds", () => {
    const source = createIdSource(() => atMs, random);
    expectGrowing(Array.from({ length: 600_000 }, () => source.next()));
  });

  test("when the clock goes on, and when it steps back", () => {
    let now = atMs;
    const source = createIdSource(() => now, random);
    const ids: string[] = [];
    for (const step of [0, 1, 5, -1_000, 0, 1, 999, 1, 60_000, -60_001, 0, 120_000]) {
      now += step;
      ids.push(source.next(), source.next());
    }
    expectGrowing(ids);
    expect(timeOfId(ids.at(-1)!)).toBe(now);
  });
});

test("firstIdAt is a bound: at or below every id of its millisecond, above every one before", () => {
  const bound = firstIdAt(atMs);
  expect(timeOfId(bound)).toBe(atMs);
  expect(createIdSource(() => atMs, zeros).next() > bound).toBe(true);
  expect(createIdSource(() => atMs - 1, ones).next() < bound).toBe(true);
  expect(firstIdAt(0)).toBe("00000000-0000-0000-0000-000000000000");
  expect(firstIdAt(-5)).toBe("00000000-0000-0000-0000-000000000000");
});

test.each([
  ["0199c0de-0000-7000-8000-000000000001", true],
  ["0199C0DE-0000-7000-8000-00000000000A", true],
  ["0199c0de-0000-7000-8000-00000000000", false],
  ["0199c0de00007000800000000000000001", false],
  ["g199c0de-0000-7000-8000-000000000001", false],
  ["0199c0de-0000-7000-8000-000000000001\n", false],
  ["", false],
])("isUuid(%j) is %s", (text, expected) => {
  expect(isUuid(text)).toBe(expected);
});
