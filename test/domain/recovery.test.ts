import { describe, expect, test } from "vitest";
import { isTurnDue, nextTurnAt, turnSize } from "../../server/domain/recovery.ts";

const start = new Date("2026-03-05T12:00:00Z");
const at = (ms: number) => new Date(start.getTime() + ms);

describe("the pace of a recovery", () => {
  test.each([1, 3, 50, 1_000])("at %d a second is that, whatever late turns cost", (rate) => {
    let nowMs = 0;
    let nextAt = start;
    let count = 0;
    // Ten seconds of looks every 7 ms.
    for (; nowMs <= 10_000; nowMs += 7) {
      if (!isTurnDue(nextAt, at(nowMs))) continue;
      count += turnSize(rate);
      nextAt = nextTurnAt(nextAt, at(nowMs), turnSize(rate), rate);
    }
    expect(count).toBeGreaterThanOrEqual(rate * 9.5);
    expect(count).toBeLessThanOrEqual(rate * 10 + turnSize(rate));
  });

  test("is not made up for after a pause: one turn at most comes early", () => {
    const hour = 3_600_000;
    const second = nextTurnAt(start, at(hour), 13, 50);
    expect(isTurnDue(second, at(hour))).toBe(true);
    const third = nextTurnAt(second, at(hour), 13, 50);
    expect(third).toEqual(at(hour + 260));
  });

  test("does not wait for a clock that has been set back", () => {
    expect(isTurnDue(at(1_000), start)).toBe(false);
    expect(isTurnDue(at(3_600_000), start)).toBe(true);
    expect(nextTurnAt(at(3_600_000), start, 13, 50)).toEqual(at(260));
  });
});
