/**
 * Holds the ledger against the rows of the database, after the dust has settled: what was acknowledged must have been
 * delivered, or have failed with its real attempts in the log, and nothing may have happened twice.
 */

import type pg from "pg";
import { queryRows } from "../helpers/query-rows.ts";
import { waitFor } from "../helpers/wait.ts";
import type { Arrivals, Ledger } from "./ledger.ts";

/** A webhook that is meant to get every event that was acknowledged. */
export interface JudgedWebhook {
  id: number;
  /** Its name at the endpoint. */
  endpoint: string;
}

export interface Verdict {
  /** Events whose post was answered with 200. */
  acknowledged: number;
  /** Deliveries that ended well. */
  delivered: number;
  /** Deliveries that failed with all their attempts in the log. */
  failed: number;
  /** Requests that came although an earlier one of the same delivery had been answered with 2xx. */
  duplicates: number;
  /** Attempts that the log calls lost: their process, their thread or their commit went away. */
  lostAttempts: number;
  /** Deliveries of acknowledged events that are missing, or whose end is not what their log says. */
  lost: number;
  /** From the acknowledgement to the first good arrival; 0 if nothing arrived. */
  longestDelayMs: number;
  /** In words, the first twenty; empty if all is well. */
  faults: string[];
}

export interface JudgeOptions {
  /** Four, unless the gateway was told otherwise. */
  attemptsPerRound?: number;
  /** Accept deliveries that still wait: their endpoint cannot keep up, or they are due much later. */
  mayBePending?: boolean;
  /** Accept deliveries that were canceled. */
  mayBeCanceled?: boolean;
}

/** Settles when no delivery of these webhooks waits or is under way. */
export async function waitForEnds(
  databaseUrl: string,
  webhooks: readonly JudgedWebhook[],
  boundMs: number,
): Promise<void> {
  const query = queryRows(databaseUrl);
  const ids = webhooks.map(({ id }) => id);
  await waitFor(
    "end of every delivery",
    async () =>
      await query(
        `SELECT webhook_id, state, count(*)::int AS count, min(due_at) AS due_at, min(leased_until) AS leased_until
         FROM delivery WHERE webhook_id = ANY($1) AND (due_at IS NOT NULL OR leased_until IS NOT NULL)
         GROUP BY 1, 2`,
        [ids],
      ),
    (rows) => rows.length === 0,
    boundMs,
  );
}

export async function judge(
  databaseUrl: string,
  ledger: Ledger,
  webhooks: readonly JudgedWebhook[],
  options: JudgeOptions = {},
): Promise<Verdict> {
  const rows = await readRows(databaseUrl);
  const faults: string[] = [];
  const total: Verdict = {
    acknowledged: ledger.acknowledged.size,
    delivered: 0,
    failed: 0,
    duplicates: 0,
    lostAttempts: 0,
    lost: 0,
    longestDelayMs: 0,
    faults,
  };
  for (const [wamid, count] of await readRepeatedEvents(databaseUrl)) {
    faults.push(`${wamid} is stored ${count} times`);
  }
  for (const webhook of webhooks) {
    const ownRows = rows.filter((row) => row.webhook_id === webhook.id);
    const own = new Map(ownRows.map((row) => [row.wamid, row]));
    if (own.size < ownRows.length) faults.push(`${webhook.endpoint} has two deliveries of one event`);
    const arrivals = ledger.arrivalsAt(webhook.endpoint);
    const ids = new Set([...own.values()].map((row) => row.id));
    for (const [id, { wamid }] of arrivals) {
      if (!ids.has(id)) faults.push(`${webhook.endpoint} got ${wamid} as ${id}, which is not stored`);
    }
    for (const row of own.values()) {
      const arrived = arrivals.get(row.id);
      for (const fault of faultsOf(row, arrived, options)) {
        faults.push(
          `${webhook.endpoint}, ${row.wamid}, ${row.id}: ${fault} [${row.numbers} ${row.outcomes}]`,
        );
      }
      if (row.state === "delivered") total.delivered += 1;
      if (row.state === "failed") total.failed += 1;
      total.lostAttempts += row.outcomes.filter((outcome) => outcome === "lost").length;
      total.duplicates += Math.max(0, (arrived?.takenCount ?? 0) - 1);
    }
    for (const [wamid, acknowledgedAtMs] of ledger.acknowledged) {
      const row = own.get(wamid);
      const arrived = row && arrivals.get(row.id);
      if (!row || !isAccountedFor(row, arrived, options)) {
        total.lost += 1;
        faults.push(`${webhook.endpoint}: ${wamid} was acknowledged and is ${row?.state ?? "nowhere"}`);
      }
      const delayMs = (arrived?.firstTakenAtMs ?? acknowledgedAtMs) - acknowledgedAtMs;
      total.longestDelayMs = Math.max(total.longestDelayMs, Math.round(delayMs));
    }
  }
  faults.splice(20);
  return total;
}

interface Row {
  id: string;
  webhook_id: number;
  state: string;
  reason: string | null;
  attempt_number: number;
  wamid: string;
  body_digest: string | null;
  numbers: number[];
  outcomes: string[];
}

async function readRows(databaseUrl: string): Promise<Row[]> {
  return (await queryRows(databaseUrl)(
    `SELECT d.id, d.webhook_id, d.state, d.reason, d.attempt_number,
       substring(convert_from(e.item, 'UTF8') FROM '"id":"([^"]+)"') AS wamid, encode(sha256(d.body), 'hex') AS body_digest,
       coalesce(a.numbers, '{}') AS numbers, coalesce(a.outcomes, '{}') AS outcomes
     FROM delivery d JOIN event e ON e.tenant_id = d.tenant_id AND e.id = d.event_id
     LEFT JOIN (SELECT delivery_id, array_agg(number ORDER BY number) AS numbers,
         array_agg(outcome ORDER BY number) AS outcomes FROM attempt GROUP BY delivery_id) a ON a.delivery_id = d.id`,
  )) as (Row & pg.QueryResultRow)[];
}

async function readRepeatedEvents(databaseUrl: string): Promise<[string, number][]> {
  const rows = await queryRows(databaseUrl)(
    `SELECT tenant_id, substring(convert_from(item, 'UTF8') FROM '"id":"([^"]+)"') AS wamid, count(*)::int AS count
     FROM event GROUP BY 1, 2 HAVING count(*) > 1`,
  );
  return rows.map((row) => [row.wamid, row.count]);
}

/** Rules that every delivery keeps, acknowledged or not. */
function faultsOf(row: Row, arrived: Arrivals | undefined, options: JudgeOptions): string[] {
  const faults: string[] = [];
  const endedCount = row.state === "delivering" ? row.attempt_number - 1 : row.attempt_number;
  if (row.numbers.some((number, index) => number !== index + 1) || row.numbers.length !== endedCount) {
    faults.push(`the log has not exactly the attempts 1 to ${endedCount}`);
  }
  const succeeded = row.outcomes.indexOf("succeeded");
  if (succeeded !== -1 && succeeded !== row.outcomes.length - 1)
    faults.push("attempts went on after a success");
  if ((succeeded !== -1) !== (row.state === "delivered")) faults.push(`is ${row.state}`);
  if (row.state === "delivered" && !arrived?.takenCount) faults.push("was delivered and did not arrive");
  if (row.state === "failed" && !hasFailed(row, options))
    faults.push(`failed (${row.reason}) before its time`);
  if (arrived && arrived.bodyDigests.size > 1) faults.push("came with other bytes the second time");
  if (arrived && arrived.wamid !== row.wamid) faults.push(`came as ${arrived.wamid}`);
  const [digest] = arrived?.bodyDigests ?? [];
  if (digest !== undefined && row.body_digest !== null && digest !== row.body_digest) {
    faults.push("came with other bytes than are stored");
  }
  if (["delivered", "failed"].includes(row.state) && row.body_digest === null && row.reason === null) {
    faults.push("its bytes are not stored");
  }
  return faults;
}

function isAccountedFor(row: Row, arrived: Arrivals | undefined, options: JudgeOptions): boolean {
  switch (row.state) {
    case "delivered":
      return (arrived?.takenCount ?? 0) > 0;
    case "failed":
      return hasFailed(row, options);
    case "canceled":
      return options.mayBeCanceled === true;
    case "skipped":
      return false;
    default:
      return options.mayBePending === true;
  }
}

function hasFailed({ reason, outcomes }: Row, { attemptsPerRound = 4 }: JudgeOptions): boolean {
  const failedCount = outcomes.filter((outcome) => outcome === "failed").length;
  if (reason === "attempts_exhausted") return failedCount === attemptsPerRound;
  return reason === "lost_repeatedly" && outcomes.slice(-5).every((outcome) => outcome === "lost");
}
