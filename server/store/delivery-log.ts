/**
 * Deliveries and attempts as a log. Rows lie in day partitions by the time inside their id, under the webhook that they
 * go to: every question names webhooks and a range of ids, so it reads a stretch of one index for each webhook and only
 * the days in question. It runs on the connections of `em()`, which the delivery of events never waits for.
 */

import type pg from "pg";
import type { Attempt, AttemptOutcome, ErrorKind } from "../domain/attempt.ts";
import type { DeliveryState, GivenUpReason } from "../domain/delivery.ts";
import { GatewayError } from "../domain/errors.ts";
import { firstIdAt, timeOfId } from "../domain/ids.ts";
import type { Owner } from "./access.ts";
import type { Database } from "./orm.ts";

export interface LoggedDelivery {
  id: string;
  webhookId: number;
  eventId: string;
  eventType: string;
  state: DeliveryState;
  /** Set in `failed` and `canceled`. */
  reason: GivenUpReason | null;
  reasonDetail: string | null;
  /** Attempts that were started, the one in flight included. */
  attemptCount: number;
  createdAt: Date;
  /** When the next attempt is due; null if none is planned. */
  dueAt: Date | null;
  finishedAt: Date | null;
  /** Null while no payload was made. */
  transformer: string | null;
  transformerVersion: string | null;
}

export interface DeliveryDetails {
  delivery: LoggedDelivery;
  /** Oldest first; the latest 500 at most. */
  attempts: Attempt[];
  /** The exact body that is sent; null while none was made. */
  payload: { contentType: string; body: Uint8Array } | null;
}

export interface DeliveryFilter {
  /** Null = every webhook of the owner, deleted ones included. */
  webhookId: number | null;
  /** Empty = any. */
  states: readonly DeliveryState[];
  eventType: string | null;
  /** Made at this time or later. */
  since: Date | null;
  /** Made before this time. */
  until: Date | null;
}

const attemptCountMax = 500;
const searchTimeoutDefaultMs = 10_000;

/**
 * Deliveries of an owner, newest first; `[]` if none match.
 *
 * @param page.limit     how many at most
 * @param page.beforeId  only those made before this one; null = from the newest
 * @throws GatewayError `not_found` if the webhook is not the owner's, `over_limit` if the search takes too long
 */
export async function listDeliveries(
  database: Database,
  owner: Owner,
  filter: DeliveryFilter,
  page: { limit: number; beforeId: string | null },
  searchTimeoutMs = searchTimeoutDefaultMs,
): Promise<LoggedDelivery[]> {
  const { fromId, toId } = idRange(filter.since, filter.until);
  const endId = page.beforeId !== null && page.beforeId < toId ? page.beforeId : toId;
  return await reading(database, searchTimeoutMs, async (client) => {
    const webhookIds = await listWebhookIds(client, owner, filter.webhookId);
    const found = await client.query<DeliveryColumns>(listText, [
      webhookIds,
      fromId,
      endId,
      filter.states.length === 0 ? null : filter.states,
      filter.eventType,
      page.limit,
    ]);
    return found.rows.map(toDelivery);
  });
}

/** @throws GatewayError `not_found` if the owner has no such delivery, or it is gone from the log */
export async function getDelivery(database: Database, owner: Owner, id: string): Promise<DeliveryDetails> {
  return await reading(database, searchTimeoutDefaultMs, async (client) => {
    const webhookIds = await listWebhookIds(client, owner, null);
    const found = await client.query<DeliveryColumns & { content_type: string | null; body: Buffer | null }>(
      `SELECT ${deliveryColumns}, content_type, body FROM delivery WHERE webhook_id = ANY($1::int[]) AND id = $2`,
      [webhookIds, id],
    );
    const row = found.rows[0];
    if (row === undefined) {
      throw new GatewayError("not_found", `delivery ${id} does not exist`, { field: "id" });
    }
    const attempts = await client.query<AttemptColumns>(attemptsText, [id, attemptCountMax]);
    return {
      delivery: toDelivery(row),
      attempts: attempts.rows.map(toAttempt).reverse(),
      payload: row.body === null ? null : { contentType: row.content_type ?? "", body: row.body },
    };
  });
}

/** Instants as Unix milliseconds: the ORM's connections give them as text otherwise. */
export const deliveryColumns = `id, webhook_id, event_id, event_type, state, reason, reason_detail, attempt_number,
  extract(epoch FROM due_at)::float8 * 1000 AS due_ms, extract(epoch FROM finished_at)::float8 * 1000 AS finished_ms,
  transformer, transformer_version`;

/** Takes the newest of each webhook, then the newest of those. */
const listText = `
  SELECT d.* FROM unnest($1::int[]) AS asked(webhook_id)
  CROSS JOIN LATERAL (
    SELECT ${deliveryColumns} FROM delivery
    WHERE webhook_id = asked.webhook_id AND id >= $2::uuid AND id < $3::uuid
      AND ($4::text[] IS NULL OR state = ANY($4)) AND ($5::text IS NULL OR event_type = $5)
    ORDER BY id DESC LIMIT $6) AS d
  ORDER BY d.id DESC LIMIT $6`;

export const attemptColumns = `delivery_id, number, extract(epoch FROM started_at)::float8 * 1000 AS started_ms,
  duration_ms, outcome, error_kind, error_message, response_status, response_headers, response_body, reply_fault`;

const attemptsText = `
  SELECT ${attemptColumns}
  FROM attempt WHERE delivery_id = $1 ORDER BY number DESC LIMIT $2`;

export interface DeliveryColumns {
  id: string;
  webhook_id: number;
  event_id: string;
  event_type: string;
  state: DeliveryState;
  reason: GivenUpReason | null;
  reason_detail: string | null;
  attempt_number: number;
  due_ms: number | null;
  finished_ms: number | null;
  transformer: string | null;
  transformer_version: string | null;
}

export interface AttemptColumns {
  delivery_id: string;
  number: number;
  started_ms: number;
  duration_ms: number;
  outcome: AttemptOutcome;
  error_kind: ErrorKind | null;
  error_message: string | null;
  response_status: number | null;
  response_headers: string | null;
  response_body: Buffer | null;
  reply_fault: string | null;
}

/** Deleted webhooks count: their log is still there. */
export async function listWebhookIds(
  client: pg.PoolClient,
  owner: Owner,
  webhookId: number | null,
): Promise<number[]> {
  const found = await client.query<{ id: number }>(
    `SELECT id FROM webhook
     WHERE tenant_id = $1 AND ($2::int IS NULL OR client_id = $2) AND ($3::int IS NULL OR id = $3)`,
    [owner.tenantId, owner.clientId, webhookId],
  );
  if (webhookId !== null && found.rows.length === 0) {
    throw new GatewayError("not_found", `webhook ${webhookId} does not exist`, { field: "webhook_id" });
  }
  return found.rows.map((row) => row.id);
}

/**
 * One snapshot and one bound on the time of a search. Without statistics of a new day the planner might prefer to read
 * a whole partition, so it is told not to.
 */
export async function reading<T>(
  database: Database,
  timeoutMs: number,
  read: (client: pg.PoolClient) => Promise<T>,
): Promise<T> {
  const pool: pg.Pool = await database.em().getConnection().getNativeClient();
  const client = await pool.connect();
  let fault: Error | undefined;
  try {
    await client.query(
      `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = ${timeoutMs};
       SET LOCAL enable_seqscan = off; SET LOCAL jit = off`,
    );
    return await read(client);
  } catch (error) {
    if ((error as { code?: unknown }).code !== "57014") throw error;
    throw new GatewayError(
      "over_limit",
      "the search took too long: narrow the time range, or name a webhook",
      {
        cause: error,
      },
    );
  } finally {
    // A connection whose transaction cannot be ended is not given back.
    await client.query("ROLLBACK").catch((error: Error) => {
      fault = error;
    });
    client.release(fault);
  }
}

export function toDelivery(row: DeliveryColumns): LoggedDelivery {
  return {
    id: row.id,
    webhookId: row.webhook_id,
    eventId: row.event_id,
    eventType: row.event_type,
    state: row.state,
    reason: row.reason,
    reasonDetail: row.reason_detail,
    attemptCount: row.attempt_number,
    createdAt: new Date(timeOfId(row.id)),
    dueAt: toDate(row.due_ms),
    finishedAt: toDate(row.finished_ms),
    transformer: row.transformer,
    transformerVersion: row.transformer_version,
  };
}

export function toAttempt(row: AttemptColumns): Attempt {
  return {
    deliveryId: row.delivery_id,
    number: row.number,
    startedAt: new Date(Math.round(row.started_ms)),
    durationMs: row.duration_ms,
    outcome: row.outcome,
    errorKind: row.error_kind,
    errorMessage: row.error_message,
    response:
      row.response_status === null
        ? null
        : {
            status: row.response_status,
            headers: JSON.parse(row.response_headers ?? "{}") as Record<string, string>,
            body: row.response_body ?? new Uint8Array(),
          },
    replyFault: row.reply_fault,
  };
}

function toDate(unixMs: number | null): Date | null {
  return unixMs === null ? null : new Date(Math.round(unixMs));
}

/** The time a delivery was made, as bounds of its id. */
export function idRange(from: Date | null, to: Date | null): { fromId: string; toId: string } {
  return {
    fromId: firstIdAt(from?.getTime() ?? 0),
    toId: to ? firstIdAt(to.getTime()) : "ffffffff-ffff-ffff-ffff-ffffffffffff",
  };
}
