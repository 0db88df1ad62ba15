/**
 * What it costs to claim deliveries that are due, in a small table and in a large one. The gateway's own statements, on
 * databases of their own beside the gateway's, with rows of which most wait for a retry or are done.
 */

import type pg from "pg";
import { claimDue, listDueWebhooks } from "../../server/store/delivery-claims.ts";
import { type Database, openDatabase } from "../../server/store/orm.ts";
import { createPartitions } from "../../server/store/partitions.ts";
import { median, ratioOf, spreadOf } from "./figures.ts";
import type { Lab } from "./lab.ts";
import { roundCount } from "./peak.ts";
import type { Measure, Section, Unit } from "./section.ts";

const sizes = [10_000, 1_000_000];
const claimsPerRound = 20;
const room = 32;
const dueCount = roundCount * claimsPerRound * room;
const webhookCount = 10;
/** Done deliveries are spread over so many days, a partition each: as many as are kept by default. */
const dayCount = 30;
const dayMs = 86_400_000;
const leaseMs = 30_000;

export async function measureClaim(lab: Lab): Promise<Section> {
  const [smallCount, largeCount] = sizes.map((size) => Math.max(2 * dueCount, Math.ceil(size * lab.scale)));
  const small = await openFilled(lab, "bench_claim_small", smallCount!);
  try {
    const large = await openFilled(lab, "bench_claim_large", largeCount!);
    try {
      // The first change of a page after a checkpoint costs more; both tables start from the same state.
      await small.pool.query("CHECKPOINT");
      const costs = { small: noCosts(), large: noCosts() };
      for (let round = 1; round <= roundCount; round++) {
        addRound(costs.small, await measureRound(small.pool));
        addRound(costs.large, await measureRound(large.pool));
      }
      return describe(smallCount!, costs.small, largeCount!, costs.large);
    } finally {
      await large.close();
    }
  } finally {
    await small.close();
  }
}

/** By round. */
interface Costs {
  claimMs: number[];
  findMs: number[];
  pages: number[];
}

function noCosts(): Costs {
  return { claimMs: [], findMs: [], pages: [] };
}

function addRound(costs: Costs, round: { claimMs: number; findMs: number; pages: number }): void {
  for (const name of ["claimMs", "findMs", "pages"] as const) costs[name].push(round[name]);
}

function describe(smallCount: number, small: Costs, largeCount: number, large: Costs): Section {
  const growth = ratioOf(spreadOf(large.claimMs), spreadOf(small.claimMs));
  const line = (what: string, unit: Unit, name: keyof Costs): Measure[] => [
    {
      label: `${what}, ${smallCount.toLocaleString("en-US")} deliveries`,
      unit,
      gateway: spreadOf(small[name]),
    },
    {
      label: `${what}, ${largeCount.toLocaleString("en-US")} deliveries`,
      unit,
      gateway: spreadOf(large[name]),
    },
  ];
  return {
    name: "Claim",
    title: "Cost of a claim, small and large table",
    notes: [
      `${dueCount.toLocaleString("en-US")} deliveries of one webhook are due; half of the others wait for a retry, for ${webhookCount} webhooks, half are done, over ${dayCount} days. Medians of ${claimsPerRound} claims a round; the tables take turns.`,
    ],
    measures: [
      ...line(`claim of ${room}`, "ms", "claimMs"),
      {
        label: "claim, large table to small one",
        unit: "times",
        gateway: growth,
        bar: { text: "≤ 1.5 times", isMet: growth.median <= 1.5 },
      },
      ...line("pages it touches", "pages", "pages"),
      ...line("finding who has due ones", "ms", "findMs"),
    ],
  };
}

/** A database beside the gateway's, with so many deliveries. */
async function openFilled(lab: Lab, name: string, count: number): Promise<Database> {
  await lab.database.pool.query(`CREATE DATABASE ${name}`);
  const url = new URL(lab.database.url);
  url.pathname = `/${name}`;
  const database = await openDatabase(url.href, { onConnectionError: () => undefined });
  try {
    const partitions = createPartitions(database.pool);
    // Around midnight some of the rows would be tomorrow's.
    for (let day = -1; day < dayCount; day++) {
      await partitions.ensureDay(new Date(Date.now() - day * dayMs));
    }
    await fillTable(database.pool, count);
    return database;
  } catch (error) {
    await database.close();
    throw error;
  }
}

async function fillTable(pool: pg.Pool, count: number): Promise<void> {
  await addWebhooks(pool);
  const restCount = count - dueCount;
  const waitingCount = Math.floor(restCount / 2);
  await addWaiting(pool, waitingCount, "now() + interval '1 hour' * (0.5 + random())", webhookCount);
  await addDone(pool, restCount - waitingCount);
  await addWaiting(pool, dueCount, "now() - interval '1 minute' * random()", 1);
  await pool.query("VACUUM (ANALYZE) delivery");
}

async function measureRound(pool: pg.Pool) {
  const claimTimes: number[] = [];
  const findTimes: number[] = [];
  const pagesBefore = await countPages(pool);
  for (let index = 0; index < claimsPerRound; index++) {
    const now = new Date();
    const startMs = performance.now();
    const { deliveries } = await claimDue(
      pool,
      [{ webhookId: 1, room }],
      now,
      new Date(now.getTime() + leaseMs),
    );
    claimTimes.push(performance.now() - startMs);
    if (deliveries.length !== room) throw new Error(`${deliveries.length} were claimed, not ${room}`);
  }
  const pages = ((await countPages(pool)) - pagesBefore) / claimsPerRound;
  for (let index = 0; index < claimsPerRound; index++) {
    const startMs = performance.now();
    await listDueWebhooks(pool);
    findTimes.push(performance.now() - startMs);
  }
  return { claimMs: median(claimTimes), findMs: median(findTimes), pages };
}

/** Pages of deliveries and their indexes that statements have looked at so far: no noise of the machine is in it. */
async function countPages(pool: pg.Pool): Promise<number> {
  await pool.query("SELECT pg_stat_force_next_flush()");
  const { rows } = await pool.query(
    `SELECT sum(heap_blks_hit + heap_blks_read + coalesce(idx_blks_hit, 0) + coalesce(idx_blks_read, 0))::float8 AS pages
     FROM pg_statio_user_tables WHERE relname LIKE 'delivery\\_%'`,
  );
  return rows[0].pages;
}

async function addWebhooks(pool: pg.Pool): Promise<void> {
  await pool.query(
    `INSERT INTO webhook (tenant_id, url, url_digest, is_enabled, is_paused, incoming, outgoing, schedule_activity,
       waiting_duration_seconds, is_signed, transformer, event_types, max_in_flight, description, version, created_at,
       updated_at)
     SELECT 1, 'http://127.0.0.1/' || n, sha256(n::text::bytea), true, false, true, false, false, 0, false, 'raw', '{}',
       256, '', 1, now(), now() FROM generate_series(1, $1) AS n`,
    [webhookCount],
  );
}

/** @param dueAt  SQL of the time at which each is due */
async function addWaiting(pool: pg.Pool, count: number, dueAt: string, webhooks: number): Promise<void> {
  await pool.query(
    `INSERT INTO delivery (webhook_id, id, tenant_id, event_id, event_type, state, attempt_number,
       round_attempt_count, due_at)
     SELECT 1 + n % $2, uuidv7(), 1, uuidv7(), 'message.received', 'pending', 1, 1, ${dueAt}
     FROM generate_series(1, $1) AS n`,
    [count, webhooks],
  );
}

async function addDone(pool: pg.Pool, count: number): Promise<void> {
  await pool.query(
    `INSERT INTO delivery (webhook_id, id, tenant_id, event_id, event_type, state, attempt_number,
       round_attempt_count, finished_at)
     SELECT 1 + n % $2, uuidv7(interval '-1 day' * ((n - 1) * $3::int / $1::int)), 1, uuidv7(), 'message.received', 'delivered', 1, 1,
       now()
     FROM generate_series(1, $1) AS n`,
    [count, webhookCount, dayCount],
  );
}
