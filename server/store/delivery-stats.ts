/** What became of the deliveries of a time range, counted from the log. */

import type pg from "pg";
import type { AttemptOutcome, ErrorKind } from "../domain/attempt.ts";
import { type DeliveryState, deliveryStates } from "../domain/delivery.ts";
import { firstIdAt } from "../domain/ids.ts";
import type { Owner } from "./access.ts";
import { listWebhookIds, reading } from "./delivery-log.ts";
import type { Database } from "./orm.ts";

/** In milliseconds. */
export interface Percentiles {
  p50: number;
  p90: number;
  p99: number;
}

export interface DeliveryStats {
  /** Every state and outcome is there. */
  deliveriesByState: Record<DeliveryState, number>;
  attemptsByOutcome: Record<AttemptOutcome, number>;
  failuresByKind: Partial<Record<ErrorKind, number>>;
  /** Of attempts that succeeded; null if none did. */
  attemptDuration: Percentiles | null;
  /** From the event to the first success; null if there was none. */
  deliveryLatency: Percentiles | null;
}

export interface StatsRange {
  /** Null = every webhook of the owner, deleted ones included. */
  webhookId: number | null;
  /** Deliveries made at this time or later. */
  since: Date;
  /** And before this time. */
  until: Date;
}

const countTimeoutDefaultMs = 10_000;

/**
 * Reads every delivery of the range, and its attempts, by the index of each webhook.
 *
 * @throws GatewayError `not_found` if the webhook is not the owner's, `over_limit` if it takes too long
 */
export async function countDeliveries(
  database: Database,
  owner: Owner,
  range: StatsRange,
  countTimeoutMs = countTimeoutDefaultMs,
): Promise<DeliveryStats> {
  return await reading(database, countTimeoutMs, async (client) => {
    const webhookIds = await listWebhookIds(client, owner, range.webhookId);
    const values = [webhookIds, firstIdAt(range.since.getTime()), firstIdAt(range.until.getTime())];
    const states = await client.query<{ state: DeliveryState; count: number }>(statesText, values);
    const attempts = await client.query<AttemptCount>(attemptsText, values);
    const latency = await client.query<{ percentiles: number[] | null }>(latencyText, values);
    return toStats(states, attempts, latency.rows[0]?.percentiles ?? null);
  });
}

interface AttemptCount {
  outcome: AttemptOutcome;
  error_kind: ErrorKind | null;
  count: number;
  percentiles: number[] | null;
}

function toStats(
  states: pg.QueryResult<{ state: DeliveryState; count: number }>,
  attempts: pg.QueryResult<AttemptCount>,
  latency: number[] | null,
): DeliveryStats {
  const deliveriesByState = Object.fromEntries(deliveryStates.map((state) => [state, 0])) as Record<
    DeliveryState,
    number
  >;
  for (const { state, count } of states.rows) deliveriesByState[state] = count;
  const attemptsByOutcome: Record<AttemptOutcome, number> = { succeeded: 0, failed: 0, lost: 0 };
  const failuresByKind: Partial<Record<ErrorKind, number>> = {};
  let duration: number[] | null = null;
  for (const { outcome, error_kind: kind, count, percentiles } of attempts.rows) {
    attemptsByOutcome[outcome] += count;
    if (kind) failuresByKind[kind] = count;
    if (outcome === "succeeded") duration = percentiles;
  }
  return {
    deliveriesByState,
    attemptsByOutcome,
    failuresByKind,
    attemptDuration: toPercentiles(duration),
    deliveryLatency: toPercentiles(latency),
  };
}

function toPercentiles(values: number[] | null): Percentiles | null {
  if (values === null) return null;
  const [p50, p90, p99] = values.map((value) => Math.max(0, Math.round(value))) as [number, number, number];
  return { p50, p90, p99 };
}

const inRange = "d.webhook_id = ANY($1::int[]) AND d.id >= $2::uuid AND d.id < $3::uuid";
const shares = "ARRAY[0.5, 0.9, 0.99]";

const statesText = `SELECT d.state, count(*)::int AS count FROM delivery d WHERE ${inRange} GROUP BY 1`;

/** The attempts of a delivery lie in its day: the range is said of both, so that other days are not looked at. */
const attemptsText = `
  SELECT a.outcome, a.error_kind, count(*)::int AS count,
    percentile_disc(${shares}) WITHIN GROUP (ORDER BY a.duration_ms)
      FILTER (WHERE a.outcome = 'succeeded')::float8[] AS percentiles
  FROM delivery d JOIN attempt a ON a.delivery_id = d.id AND a.delivery_id >= $2::uuid AND a.delivery_id < $3::uuid
  WHERE ${inRange} GROUP BY 1, 2`;

/** An event's id is made when it is accepted; its first 48 bits are that time in Unix milliseconds. */
const eventMs = "('x' || lpad(replace(left(d.event_id::text, 13), '-', ''), 16, '0'))::bit(64)::bigint";
const latencyText = `
  SELECT percentile_disc(${shares}) WITHIN GROUP (ORDER BY extract(epoch FROM d.finished_at)::float8 * 1000 - ${eventMs})
    AS percentiles
  FROM delivery d WHERE ${inRange} AND d.state = 'delivered'`;
