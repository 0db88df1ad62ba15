import { expect, test } from "vitest";
import { openTestDatabase } from "../helpers/database.ts";
import type { Delays } from "./delays.ts";
import { compareHealthy } from "./scenarios/fairness.ts";
import { compareTenants } from "./scenarios/tenants.ts";
import { show } from "./show.ts";

/** A busy machine makes both slow. What waits for an endpoint that hangs is late by its time-out of 10 s. */
const delayMsMax = (alone: Delays) => 1_000 + 3 * alone.p99Ms;

test("webhooks that hang, refuse or are slow hold up no other", async () => {
  const database = await openTestDatabase();
  try {
    const fairness = await compareHealthy({
      databaseUrl: database.url,
      ratePerSecond: 30,
      aloneMs: 2_000,
      besideMs: 6_000,
    });
    show(fairness.outcome);
    expect(fairness.outcome.faults).toEqual([]);
    expect(fairness.outcome.lost).toBe(0);
    // The others have work that waits, and nothing of it is seen.
    expect(fairness.backlogCount).toBeGreaterThan(100);
    expect(fairness.beside.p99Ms).toBeLessThan(delayMsMax(fairness.alone));
    // What a claim costs depends on what it finds, not on what waits for others.
    const { claim, look } = fairness;
    expect(claim.pageCount).toBeLessThan(200 + 30 * claim.rowCount);
    expect(look.pageCount).toBeLessThan(400);
  } finally {
    await database.close();
  }
}, 180_000);

test("a tenant that publishes a hundred times as much as another delays it by less than a second", async () => {
  const database = await openTestDatabase();
  try {
    const { outcome, alone, beside } = await compareTenants({
      databaseUrl: database.url,
      ratePerSecond: 3,
      openMax: 200,
      aloneMs: 2_000,
      besideMs: 5_000,
    });
    show(outcome);
    expect(outcome.faults).toEqual([]);
    expect(outcome.lost).toBe(0);
    expect(beside.count).toBeGreaterThan(10);
    expect(beside.p99Ms).toBeLessThan(delayMsMax(alone));
  } finally {
    await database.close();
  }
}, 180_000);
