/**
 * Every fault on purpose, in its long form: `npm run chaos`, or `npm run chaos -- clock threads` for some of them. Prints
 * a table and ends with exit code 1 if anything that was acknowledged is lost, or happened twice. `CHAOS_SEED` repeats
 * the random moments of an earlier run.
 */

import { availableParallelism } from "node:os";
import { type DatabaseServer, startDatabaseServer } from "./database-server.ts";
import { pressBack } from "./scenarios/back-pressure.ts";
import { meetBadEndpoints } from "./scenarios/bad-endpoints.ts";
import { jumpClock } from "./scenarios/clock-jumps.ts";
import { crashDatabase, pauseDatabase } from "./scenarios/database-faults.ts";
import { compareHealthy } from "./scenarios/fairness.ts";
import { killGateway } from "./scenarios/gateway-killed.ts";
import { compareTenants } from "./scenarios/tenants.ts";
import { breakThreads } from "./scenarios/thread-faults.ts";
import { loseOneOfTwo } from "./scenarios/two-gateways.ts";
import type { Outcome } from "./scene.ts";
import { tableHead, tableLine } from "./show.ts";

interface Parts {
  server: DatabaseServer;
  databaseUrl: string;
  seed: number;
}

const scenarios: Record<string, (parts: Parts) => Promise<Outcome>> = {
  kill: (parts) => killGateway({ ...parts, killCount: 12, ratePerSecond: 200, lifeMsMax: 4_000 }),
  "kill-young": (parts) => killGateway({ ...parts, killCount: 15, ratePerSecond: 100, lifeMsMax: 300 }),
  crash: (parts) => crashDatabase({ ...parts, ratePerSecond: 200, faultCount: 8 }),
  pause: (parts) => pauseDatabase({ ...parts, ratePerSecond: 200, faultCount: 4 }),
  threads: (parts) =>
    breakThreads({
      ...parts,
      ratePerSecond: 200,
      faults: ["exits", "throws", "fills its heap", "hangs", "exits", "hangs", "throws"],
    }),
  endpoints: (parts) => meetBadEndpoints({ ...parts, eventCount: 50, ratePerSecond: 100 }),
  clock: (parts) => jumpClock({ ...parts, ratePerSecond: 200, roundCount: 4 }),
  two: (parts) => loseOneOfTwo({ ...parts, ratePerSecond: 200, fault: "killed" }),
  "two-paused": (parts) => loseOneOfTwo({ ...parts, ratePerSecond: 200, fault: "paused" }),
  pressure: (parts) => pressBack({ ...parts, ratePerSecond: 300, pauseMs: 15_000 }),
  fairness: async (parts) => {
    const options = { ratePerSecond: 500, aloneMs: 10_000, besideMs: 30_000 };
    return (await compareHealthy({ ...parts, ...options })).outcome;
  },
  tenants: async (parts) => {
    const options = { ratePerSecond: 10, openMax: 3_000, aloneMs: 5_000, besideMs: 15_000 };
    return (await compareTenants({ ...parts, ...options })).outcome;
  },
};

const seed = Number(process.env.CHAOS_SEED ?? Date.now() % 1_000_000);
const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => !(name in scenarios));
if (unknown.length > 0) {
  process.stderr.write(
    `There is no scenario ${unknown.join(", ")}; there are ${Object.keys(scenarios).join(", ")}.\n`,
  );
  process.exit(64);
}

const print = (text: string) => process.stdout.write(`${text}\n`);
print(`Node ${process.version}, ${availableParallelism()} cores, CHAOS_SEED=${seed}\n`);
print(tableHead());
const server = await startDatabaseServer();
let faultCount = 0;
try {
  for (const name of wanted.length > 0 ? wanted : Object.keys(scenarios)) {
    const database = await server.openDatabase();
    try {
      const outcome = await scenarios[name]!({ server, databaseUrl: database.url, seed });
      print(tableLine(outcome));
      faultCount += outcome.lost + outcome.faults.length;
    } catch (error) {
      faultCount += 1;
      print(`${name}: did not come to its end: ${error instanceof Error ? error.message : error}`);
    }
    await database.close();
  }
} finally {
  await server.close();
}
print(faultCount === 0 ? "\nNothing was lost." : `\n${faultCount} faults.`);
process.exit(faultCount === 0 ? 0 : 1);
