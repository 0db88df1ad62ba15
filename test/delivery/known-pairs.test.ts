import { expect, test } from "vitest";
import { createKnownPairs } from "../../server/delivery/known-pairs.ts";

const asked = (phone: string, bsuid = "US.1", clientId = 1) => ({
  clientId,
  numberId: 1,
  phone,
  bsuid,
  profileName: null,
});

test("a pair is known for ten minutes after it was noted, to its client only", () => {
  let nowMs = 1_000;
  const pairs = createKnownPairs(() => nowMs);
  expect(pairs.has(asked("1"))).toBe(false);
  pairs.note(asked("1"));
  expect(pairs.has(asked("1"))).toBe(true);
  for (const other of [asked("2"), asked("1", "US.2"), asked("1", "US.1", 2)])
    expect(pairs.has(other)).toBe(false);
  nowMs += 599_999;
  expect(pairs.has(asked("1"))).toBe(true);
  nowMs += 1;
  expect(pairs.has(asked("1"))).toBe(false);
  pairs.note(asked("1"));
  expect(pairs.has(asked("1"))).toBe(true);
});

test("the pairs noted last are kept when there are too many", () => {
  const pairs = createKnownPairs(() => 0, 3);
  for (const phone of ["1", "2", "3", "1", "4"]) pairs.note(asked(phone));
  expect(["1", "2", "3", "4"].map((phone) => pairs.has(asked(phone)))).toEqual([true, false, true, true]);
});
