/**
 * Attempts as they end, whichever process made them: read by the rows of `attempt-batches.ts`, on the connections that
 * the delivery of events never waits for.
 *
 * Transactions end in another order than they begin, so a number that grows would let a reader pass over one that is
 * still open. A reader remembers what it could see instead (a snapshot), and asks for what it could not.
 */

import type { Attempt } from "../domain/attempt.ts";
import type { WatchPosition } from "../domain/watch-position.ts";
import type { Owner } from "./access.ts";
import { plainArray } from "./array-literals.ts";
import {
  type AttemptColumns,
  attemptColumns,
  type DeliveryColumns,
  type DeliveryFilter,
  deliveryColumns,
  idRange,
  type LoggedDelivery,
  listWebhookIds,
  reading,
  toAttempt,
  toDelivery,
} from "./delivery-log.ts";
import type { Database } from "./orm.ts";

/** The names of an attempt, with the position of a reader that has seen it. */
export interface NamedAttempt {
  webhookId: number;
  deliveryId: string;
  number: number;
  position: WatchPosition;
}

export interface NewAttempts {
  /** Of the owner's webhooks only, in the order in which they were logged. */
  attempts: NamedAttempt[];
  /** Position of a reader that has seen all of them. */
  position: WatchPosition;
  /** True if there is more to read at once. */
  isMore: boolean;
  /** Age of the oldest that was read, in milliseconds, whoever's it was; 0 if there was none. */
  lagMs: number;
}

export interface WatchedAttempt {
  delivery: LoggedDelivery;
  attempt: Attempt;
}

const batchCountMax = 20;
const readTimeoutMs = 10_000;
const beforeAnyXid = "0";

/**
 * The position of a reader that wants what comes from now on.
 *
 * @throws GatewayError `not_found` if the webhook is not the owner's
 */
export async function openWatch(
  database: Database,
  owner: Owner,
  webhookId: number | null,
): Promise<WatchPosition> {
  return await reading(database, readTimeoutMs, async (client) => {
    await listWebhookIds(client, owner, webhookId);
    const found = await client.query<{ snapshot: string }>("SELECT pg_current_snapshot()::text AS snapshot");
    return startOf(found.rows[0]!.snapshot);
  });
}

/** What has been logged after a position: some twenty batches at most. */
export async function readNewAttempts(
  database: Database,
  owner: Owner,
  webhookId: number | null,
  position: WatchPosition,
): Promise<NewAttempts> {
  const { since, upTo } = position;
  const [, maxXid, openXids] = since.split(":");
  const rows = await reading(database, readTimeoutMs, async (client) => {
    const found = await client.query<BatchRow>(newBatchesText, [
      plainArray(openXids ? openXids.split(",") : []),
      maxXid,
      upTo,
      position.xid,
      batchCountMax,
      owner.tenantId,
      owner.clientId,
      webhookId,
    ]);
    return found.rows;
  });
  const snapshot = upTo ?? rows[0]!.snapshot;
  const batches = rows.filter((row) => row.xid !== null);
  const attempts = batches.flatMap((row) =>
    (row.names ?? []).map(({ w, d, n, i }) => ({
      webhookId: w,
      deliveryId: d,
      number: n,
      position: { since, upTo: snapshot, xid: row.xid!, index: i },
    })),
  );
  const last = batches.at(-1);
  const isMore = batches.length === batchCountMax;
  return {
    attempts: attempts.filter(
      ({ position: { xid, index } }) => xid !== position.xid || index > position.index,
    ),
    position: isMore
      ? { since, upTo: snapshot, xid: last!.xid!, index: last!.attempt_count }
      : startOf(snapshot),
    // What came after the old snapshot that a resumed reader worked up to is there at once.
    isMore: isMore || upTo !== null,
    lagMs: Math.max(0, batches[0]?.lag_ms ?? 0),
  };
}

/** True if the position can have been given by this database: nothing in it is yet to come. */
export async function isKnownPosition(
  database: Database,
  { since, upTo, xid }: WatchPosition,
): Promise<boolean> {
  return await reading(database, readTimeoutMs, async (client) => {
    const found = await client.query<{ is_known: boolean }>(
      `SELECT greatest(pg_snapshot_xmax($1::pg_snapshot), pg_snapshot_xmax($2::pg_snapshot), $3::xid8)
         <= pg_snapshot_xmax(pg_current_snapshot()) AS is_known`,
      [since, upTo ?? since, xid],
    );
    return found.rows[0]!.is_known;
  });
}

/**
 * Attempts with their deliveries as they are now, those that the filter lets through. What the log has dropped is left
 * out.
 *
 * @returns by the position in `named`
 */
export async function readWatched(
  database: Database,
  named: readonly NamedAttempt[],
  filter: DeliveryFilter,
): Promise<Map<number, WatchedAttempt>> {
  const { fromId, toId } = idRange(filter.since, filter.until);
  return await reading(database, readTimeoutMs, async (client) => {
    const found = await client.query<DeliveryColumns & AttemptColumns & { position: number }>(watchedText, [
      plainArray(named.map((one) => one.webhookId)),
      plainArray(named.map((one) => one.deliveryId)),
      plainArray(named.map((one) => one.number)),
      fromId,
      toId,
      filter.states.length === 0 ? null : filter.states,
      filter.eventType,
    ]);
    return new Map(
      found.rows.map((row) => [row.position - 1, { delivery: toDelivery(row), attempt: toAttempt(row) }]),
    );
  });
}

function startOf(snapshot: string): WatchPosition {
  return { since: snapshot, upTo: null, xid: beforeAnyXid, index: 0 };
}

interface BatchRow {
  snapshot: string;
  /** Null if there is nothing new. */
  xid: string | null;
  lag_ms: number;
  attempt_count: number;
  /** Webhook, delivery, number and place of the owner's attempts; null if it has none of them. */
  names: { w: number; d: string; n: number; i: number }[] | null;
}

const batchColumns = `xid, webhook_ids, delivery_ids, numbers,
  extract(epoch FROM clock_timestamp() - recorded_at)::float8 * 1000 AS lag_ms`;
/** What a restored database brought along bears numbers that are yet to come here; it is nobody's news. */
const isShown = `xid < pg_snapshot_xmax(pg_current_snapshot())
       AND ($3::pg_snapshot IS NULL OR pg_visible_in_snapshot(xid, $3::pg_snapshot))`;

/**
 * $1: transactions that were open in the reader's snapshot; $2: those from here on had not begun. All of them that show
 * now are new, and they are two stretches of one index.
 */
const newBatchesText = `
  SELECT pg_current_snapshot()::text AS snapshot, b.xid::text, b.lag_ms, b.attempt_count, b.names
  FROM (SELECT 1) AS once LEFT JOIN LATERAL (
    SELECT found.xid, found.lag_ms, cardinality(found.numbers) AS attempt_count, (
      SELECT json_agg(json_build_object('w', u.w, 'd', u.d, 'n', u.n, 'i', u.i) ORDER BY u.i)
      FROM unnest(found.webhook_ids, found.delivery_ids, found.numbers) WITH ORDINALITY AS u(w, d, n, i)
      JOIN webhook h ON h.id = u.w AND h.tenant_id = $6 AND ($7::int IS NULL OR h.client_id = $7)
        AND ($8::int IS NULL OR h.id = $8)) AS names
    FROM (
      (SELECT ${batchColumns} FROM attempt_batch
       WHERE xid = ANY($1::xid8[]) AND xid >= $4::xid8 AND ${isShown} ORDER BY xid LIMIT $5)
      UNION ALL
      (SELECT ${batchColumns} FROM attempt_batch
       WHERE xid >= $2::xid8 AND xid >= $4::xid8 AND ${isShown} ORDER BY xid LIMIT $5)
    ) AS found ORDER BY found.xid LIMIT $5) AS b ON true`;

const watchedText = `
  SELECT u.position::int, d.*, a.* FROM unnest($1::int[], $2::uuid[], $3::int[])
    WITH ORDINALITY AS u(asked_webhook_id, asked_id, asked_number, position)
  CROSS JOIN LATERAL (
    SELECT ${deliveryColumns} FROM delivery
    WHERE webhook_id = u.asked_webhook_id AND id = u.asked_id AND id >= $4::uuid AND id < $5::uuid
      AND ($6::text[] IS NULL OR state = ANY($6)) AND ($7::text IS NULL OR event_type = $7)) AS d
  CROSS JOIN LATERAL (
    SELECT ${attemptColumns} FROM attempt WHERE delivery_id = u.asked_id AND number = u.asked_number) AS a
  ORDER BY u.position`;
