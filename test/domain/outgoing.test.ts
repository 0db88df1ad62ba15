import { expect, test } from "vitest";
import { isWindowOpen } from "../../server/domain/outgoing.ts";

const wroteAt = new Date("2026-03-05T12:00:00Z");

test.for([
  ["2026-03-05T12:00:00.000Z", true],
  ["2026-03-06T11:59:59.999Z", true],
  ["2026-03-06T12:00:00.000Z", false],
  ["2026-03-06T12:00:00.001Z", false],
] as [string, boolean][])("of a user who wrote at 12:00 the window at %s is open: %s", ([now, isOpen]) => {
  expect(isWindowOpen(wroteAt, new Date(now))).toBe(isOpen);
});

test("the window of a user who never wrote is closed", () => {
  expect(isWindowOpen(null, wroteAt)).toBe(false);
});
