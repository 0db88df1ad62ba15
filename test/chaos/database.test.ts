import { afterAll, beforeAll, expect, test } from "vitest";
import { type DatabaseServer, startDatabaseServer } from "./database-server.ts";
import { pressBack } from "./scenarios/back-pressure.ts";
import { crashDatabase, pauseDatabase } from "./scenarios/database-faults.ts";
import { show } from "./show.ts";

let server: DatabaseServer;
beforeAll(async () => {
  server = await startDatabaseServer();
});
afterAll(() => server.close());

test("a database that crashes under load costs nothing that was acknowledged", async () => {
  const { url: databaseUrl } = await server.openDatabase();
  const outcome = await crashDatabase({ server, databaseUrl, seed: 11, ratePerSecond: 40, faultCount: 2 });
  show(outcome);
  expect(outcome.faults).toEqual([]);
  expect(outcome.lost).toBe(0);
  expect(outcome.acknowledged).toBeGreaterThan(40);
}, 180_000);

test("a database that stands still for 5 s costs nothing that was acknowledged", async () => {
  const { url: databaseUrl } = await server.openDatabase();
  const outcome = await pauseDatabase({ server, databaseUrl, seed: 12, ratePerSecond: 40, faultCount: 1 });
  show(outcome);
  expect(outcome.faults).toEqual([]);
  expect(outcome.lost).toBe(0);
  // Nobody was away: what was under way ends as it would have ended.
  expect(outcome.lostAttempts).toBe(0);
}, 180_000);

test("more than the database takes is refused with 503 and Retry-After, and all recovers by itself", async () => {
  const { url: databaseUrl } = await server.openDatabase();
  const outcome = await pressBack({ server, databaseUrl, ratePerSecond: 100, pauseMs: 6_000 });
  show(outcome);
  expect(outcome.faults).toEqual([]);
  expect(outcome.lost).toBe(0);
}, 180_000);
