import { expect, test } from "vitest";
import { openTestDatabase } from "../helpers/database.ts";
import { jumpClock } from "./scenarios/clock-jumps.ts";
import { breakThreads } from "./scenarios/thread-faults.ts";
import { show } from "./show.ts";

test("worker threads that exit, throw or hang cost nothing that was acknowledged", async () => {
  const database = await openTestDatabase();
  try {
    const faults = ["exits", "throws", "hangs"] as const;
    const outcome = await breakThreads({ databaseUrl: database.url, ratePerSecond: 40, faults });
    show(outcome);
    expect(outcome.faults).toEqual([]);
    expect(outcome.lost).toBe(0);
    expect(outcome.lostAttempts).toBeGreaterThan(0);
  } finally {
    await database.close();
  }
}, 180_000);

test("a clock that jumps by an hour, back and forth, costs nothing and makes nothing happen twice", async () => {
  const database = await openTestDatabase();
  try {
    const outcome = await jumpClock({
      databaseUrl: database.url,
      seed: 22,
      ratePerSecond: 40,
      roundCount: 1,
    });
    show(outcome);
    expect(outcome.faults).toEqual([]);
    expect(outcome.lost).toBe(0);
    expect(outcome.duplicates).toBe(0);
  } finally {
    await database.close();
  }
}, 180_000);
