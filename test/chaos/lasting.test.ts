import { describe } from "vitest";
import { openTestDatabase } from "../helpers/database.ts";
import { meetBadEndpoints } from "./scenarios/bad-endpoints.ts";
import { killGateway } from "./scenarios/gateway-killed.ts";
import { loseOneOfTwo } from "./scenarios/two-gateways.ts";
import type { Outcome } from "./scene.ts";
import { show } from "./show.ts";

// Most of their time they wait for leases and time-outs, so they wait together.
describe.concurrent("what was acknowledged is not lost, and happens once, when", (it) => {
  it("the gateway is killed at random moments", async ({ expect }) => {
    const outcome = await onDatabase((databaseUrl) =>
      killGateway({ databaseUrl, seed: 21, killCount: 3, ratePerSecond: 20, lifeMsMax: 1_500 }),
    );
    expect(outcome.faults).toEqual([]);
    expect(outcome.lost).toBe(0);
    expect(outcome.acknowledged).toBeGreaterThan(20);
    expect(outcome.lostAttempts).toBeGreaterThan(0);
  }, 180_000);

  it("one of two gateways is killed: the other has its leases within 30 s", async ({ expect }) => {
    const outcome = await onDatabase((databaseUrl) =>
      loseOneOfTwo({ databaseUrl, ratePerSecond: 20, fault: "killed" }),
    );
    expect(outcome.faults).toEqual([]);
    expect(outcome.lost).toBe(0);
    expect(outcome.lostAttempts).toBeGreaterThan(0);
  }, 180_000);

  it("one of two gateways freezes in a transaction and comes back: the other goes on without it", async ({
    expect,
  }) => {
    const outcome = await onDatabase((databaseUrl) =>
      loseOneOfTwo({ databaseUrl, ratePerSecond: 40, fault: "paused" }),
    );
    // Whether it held a lease when it froze is up to chance.
    expect(outcome.faults).toEqual([]);
    expect(outcome.lost).toBe(0);
    expect(outcome.acknowledged).toBeGreaterThan(40);
  }, 180_000);

  it("endpoints reset, break off, drip, never end or never answer: each ends in its bounds", async ({
    expect,
  }) => {
    const outcome = await onDatabase((databaseUrl) =>
      meetBadEndpoints({ databaseUrl, eventCount: 5, ratePerSecond: 20 }),
    );
    expect(outcome.faults).toEqual([]);
    expect(outcome.lost).toBe(0);
    expect(outcome.failed).toBe(5 * 10);
    expect(outcome.lostAttempts).toBe(0);
  }, 180_000);
});

async function onDatabase(run: (databaseUrl: string) => Promise<Outcome>): Promise<Outcome> {
  const database = await openTestDatabase();
  try {
    const outcome = await run(database.url);
    show(outcome);
    return outcome;
  } finally {
    await database.close();
  }
}
