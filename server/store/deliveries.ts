/**
 * Deliveries while they are work: claimed under a lease, settled, rescued, canceled, asked for again.
 * (As a log they are read by `delivery-log.ts`.)
 *
 * `due_at` and `leased_until` are the queue; `state` is what a user sees. Every claim raises `attempt_number`, and a
 * settlement counts only if that number is still the one it was claimed with: whoever comes late changes nothing.
 */

import type pg from "pg";
import type { AttemptReport, MadePayload } from "../domain/attempt-report.ts";
import type { DeliveryState, GivenUpReason, Settlement } from "../domain/delivery.ts";
import { GatewayError } from "../domain/errors.ts";
import { isUuid } from "../domain/ids.ts";
import type { Owner } from "./access.ts";
import { bytesArray, instantArray, plainArray, textArray } from "./arrays.ts";
import { isRepeatable } from "./faults.ts";
import type { Database } from "./orm.ts";

/**
 * Says that an attempt is in flight, in statements that are given ids. In these words the planner does not see that the
 * index of leases would do: good while there are few leases, its plan is kept and goes through all of them for each id.
 */
const isLeased = "num_nonnulls(d.leased_until) = 1";

/** A delivery whose attempt `attemptNumber` this process may make until the lease ends. */
export interface ClaimedDelivery {
  id: string;
  webhookId: number;
  tenantId: number;
  eventId: string;
  attemptNumber: number;
  roundAttemptCount: number;
  isResend: boolean;
  /** Null when no attempt has made the payload yet. */
  payload: { body: Uint8Array; contentType: string; headers: Record<string, string> } | null;
}

export interface Claimed {
  deliveries: ClaimedDelivery[];
  /** The configuration that the claim saw; what is older must not start an attempt. */
  configurationVersion: bigint;
}

const claimDueText = `
  WITH due AS MATERIALIZED (
    SELECT d.webhook_id, d.id
    FROM unnest($1::int[], $2::int[]) AS asked(webhook_id, room)
    JOIN webhook w ON w.id = asked.webhook_id AND w.is_enabled AND NOT w.is_paused
    CROSS JOIN LATERAL (
      SELECT webhook_id, id FROM delivery
      WHERE webhook_id = asked.webhook_id AND due_at <= $3
      ORDER BY due_at LIMIT asked.room
      FOR UPDATE SKIP LOCKED) AS d)
  UPDATE delivery d
  SET state = CASE WHEN d.state = 'pending' THEN 'delivering' ELSE d.state END,
    attempt_number = d.attempt_number + 1, due_at = NULL, leased_until = $4
  FROM due WHERE d.webhook_id = due.webhook_id AND d.id = due.id
  RETURNING d.id, d.webhook_id, d.tenant_id, d.event_id, d.attempt_number, d.round_attempt_count, d.state,
    d.body, d.content_type, d.payload_headers, (SELECT version FROM configuration) AS version`;

/**
 * Claims due deliveries of the given webhooks for this process, oldest due first.
 * Safe to call from several processes: rows that another one is claiming are skipped, not waited for. The rows of each
 * webhook are found by their own range of one index, so another webhook's backlog costs nothing. Webhooks that were
 * turned off or paused meanwhile give nothing.
 *
 * @param asked        webhook ids with the number of deliveries wanted of each
 * @param leasedUntil  later than the attempt can last
 * @returns no deliveries when nothing is due
 */
export async function claimDue(
  pool: pg.Pool,
  asked: readonly { webhookId: number; room: number }[],
  now: Date,
  leasedUntil: Date,
): Promise<Claimed> {
  const claimed = await pool.query({
    name: "claim-due",
    text: claimDueText,
    values: [
      plainArray(asked.map((one) => one.webhookId)),
      plainArray(asked.map((one) => one.room)),
      now,
      leasedUntil,
    ],
  });
  return {
    configurationVersion: claimed.rows.length > 0 ? BigInt(claimed.rows[0].version) : 0n,
    deliveries: claimed.rows.map((row) => ({
      id: row.id,
      webhookId: row.webhook_id,
      tenantId: row.tenant_id,
      eventId: row.event_id,
      attemptNumber: row.attempt_number,
      roundAttemptCount: row.round_attempt_count,
      isResend: row.state === "delivered",
      payload: row.body && {
        body: row.body,
        contentType: row.content_type,
        headers: row.payload_headers ? JSON.parse(row.payload_headers) : {},
      },
    })),
  };
}

/**
 * For each webhook with waiting deliveries, when the first of them is due. Costs one index probe a webhook,
 * however many deliveries wait.
 */
export async function listDueWebhooks(pool: pg.Pool): Promise<{ webhookId: number; dueAt: Date }[]> {
  const found = await pool.query({
    name: "list-due-webhooks",
    text: `WITH RECURSIVE waiting AS (
        (SELECT webhook_id, due_at FROM delivery WHERE due_at IS NOT NULL ORDER BY webhook_id, due_at LIMIT 1)
        UNION ALL
        SELECT next.webhook_id, next.due_at FROM waiting CROSS JOIN LATERAL (
          SELECT webhook_id, due_at FROM delivery
          WHERE due_at IS NOT NULL AND webhook_id > waiting.webhook_id
          ORDER BY webhook_id, due_at LIMIT 1) AS next)
      SELECT webhook_id, due_at FROM waiting`,
    values: [],
  });
  return found.rows.map((row) => ({ webhookId: row.webhook_id, dueAt: row.due_at }));
}

/** A reported attempt with the state that follows it. */
export interface SettledAttempt {
  report: AttemptReport;
  settlement: Settlement;
  /** Transformer of the payload, when this attempt made it. */
  transformer: string | null;
}

/**
 * Records attempts and the states that follow, all in one statement. An attempt whose lease was taken over meanwhile
 * leaves no trace. A delivery that was canceled while its attempt ran becomes `delivered` on success and stays
 * canceled otherwise.
 *
 * @returns ids of the deliveries whose attempt counted
 */
export async function settleAttempts(
  pool: pg.Pool,
  settled: readonly SettledAttempt[],
  now: Date,
): Promise<Set<string>> {
  const payloads = settled.map(({ report }) => ("payload" in report ? report.payload : null));
  const responses = settled.map(({ report }) => ("response" in report ? report.response : null));
  const isRequest = settled.map(({ report }) => report.kind === "succeeded" || report.kind === "failed");
  const result = await pool.query<{ id: string }>({
    name: "settle-attempts",
    text: settleAttemptsText,
    values: [
      plainArray(settled.map(({ report }) => report.webhookId)),
      plainArray(settled.map(({ report }) => report.deliveryId)),
      plainArray(settled.map(({ report }) => report.attemptNumber)),
      plainArray(isRequest.map((is) => (is ? 1 : 0))),
      textArray(settled.map(({ settlement }) => settlement.state)),
      instantArray(settled.map(({ settlement }) => ("dueAt" in settlement ? settlement.dueAt : null))),
      textArray(settled.map(({ settlement }) => ("reason" in settlement ? settlement.reason : null))),
      textArray(settled.map(({ settlement }) => ("detail" in settlement ? settlement.detail : null))),
      textArray(settled.map(({ transformer }, index) => (payloads[index] ? transformer : null))),
      textArray(payloads.map((payload) => payload?.transformerVersion ?? null)),
      textArray(payloads.map((payload) => payload?.contentType ?? null)),
      textArray(payloads.map(headersText)),
      bytesArray(payloads.map((payload) => payload?.body ?? null)),
      plainArray(settled.map(({ report }) => report.startedAtMs)),
      plainArray(settled.map(({ report }) => Math.max(0, Math.round(report.durationMs)))),
      textArray(settled.map(({ report }) => (report.kind === "succeeded" ? "succeeded" : "failed"))),
      textArray(settled.map(({ report }) => (report.kind === "failed" ? report.errorKind : null))),
      textArray(settled.map(({ report }) => (report.kind === "failed" ? report.errorMessage : null))),
      plainArray(responses.map((response) => response?.status ?? null)),
      textArray(responses.map((response) => response && JSON.stringify(response.headers))),
      bytesArray(responses.map((response) => response?.body ?? null)),
      now,
    ],
  });
  return new Set(result.rows.map((row) => row.id));
}

const settleAttemptsText = `
  WITH u AS (
    SELECT * FROM unnest($1::int[], $2::uuid[], $3::int[], $4::int[], $5::text[], $6::float8[], $7::text[], $8::text[],
      $9::text[], $10::text[], $11::text[], $12::text[], $13::bytea[], $14::float8[], $15::int[], $16::text[],
      $17::text[], $18::text[], $19::int[], $20::text[], $21::bytea[])
      AS u(webhook_id, id, attempt_number, request_count, state, due_ms, reason, detail, transformer,
        transformer_version, content_type, payload_headers, body, started_ms, duration_ms, outcome, error_kind,
        error_message, response_status, response_headers, response_body)),
  counted AS (
    UPDATE delivery d SET
      state = CASE WHEN d.state = 'canceled' AND u.state <> 'delivered' THEN 'canceled' ELSE u.state END,
      due_at = CASE WHEN d.state = 'canceled' THEN NULL ELSE to_timestamp(u.due_ms / 1000) END,
      leased_until = NULL,
      finished_at = CASE
        WHEN d.state IN ('canceled', 'delivered') AND (u.state <> 'delivered' OR d.state = 'delivered')
          THEN d.finished_at
        WHEN u.state = 'pending' THEN NULL ELSE $22::timestamptz END,
      reason = CASE WHEN d.state = 'canceled' AND u.state <> 'delivered' THEN d.reason ELSE u.reason END,
      reason_detail = CASE WHEN d.state = 'canceled' AND u.state <> 'delivered' THEN d.reason_detail ELSE u.detail END,
      attempt_number = d.attempt_number - 1 + u.request_count,
      round_attempt_count = d.round_attempt_count + u.request_count,
      lost_in_a_row = 0,
      transformer = coalesce(u.transformer, d.transformer),
      transformer_version = coalesce(u.transformer_version, d.transformer_version),
      content_type = coalesce(u.content_type, d.content_type),
      payload_headers = coalesce(u.payload_headers, d.payload_headers),
      body = coalesce(u.body, d.body)
    FROM u
    WHERE d.webhook_id = u.webhook_id AND d.id = u.id
      AND d.attempt_number = u.attempt_number AND ${isLeased}
    RETURNING d.id, u.attempt_number, u.request_count, u.started_ms, u.duration_ms, u.outcome, u.error_kind,
      u.error_message, u.response_status, u.response_headers, u.response_body),
  logged AS (
    INSERT INTO attempt (delivery_id, number, started_at, duration_ms, outcome, error_kind, error_message,
      response_status, response_headers, response_body)
    SELECT id, attempt_number, to_timestamp(started_ms / 1000), duration_ms, outcome, error_kind, error_message,
      response_status, response_headers, response_body
    FROM counted WHERE request_count = 1)
  SELECT id FROM counted`;

function headersText(payload: MadePayload | null): string | null {
  return payload && Object.keys(payload.headers).length > 0 ? JSON.stringify(payload.headers) : null;
}

/** A lease that its holder did not end. */
export interface BrokenLease {
  id: string;
  webhookId: number;
  attemptNumber: number;
  isResend: boolean;
  lostInARow: number;
  leasedUntil: Date;
}

/** Leases that ran out before `now`, the oldest first. */
export async function listExpiredLeases(pool: pg.Pool, now: Date, limit: number): Promise<BrokenLease[]> {
  const found = await pool.query({
    name: "list-expired-leases",
    text: `SELECT ${brokenLeaseColumns} FROM delivery WHERE leased_until < $1 ORDER BY leased_until LIMIT $2`,
    values: [now, limit],
  });
  return found.rows.map(toBrokenLease);
}

/** The leases that these attempts still hold; for a thread that died with them. */
export async function listLeases(
  pool: pg.Pool,
  held: readonly { id: string; webhookId: number; attemptNumber: number }[],
): Promise<BrokenLease[]> {
  const found = await pool.query({
    name: "list-leases",
    text: `SELECT ${brokenLeaseColumns} FROM unnest($1::int[], $2::uuid[], $3::int[]) AS u(webhook_id, id, number)
      JOIN delivery d USING (webhook_id, id) WHERE d.attempt_number = u.number AND ${isLeased}`,
    values: [
      plainArray(held.map((one) => one.webhookId)),
      plainArray(held.map((one) => one.id)),
      plainArray(held.map((one) => one.attemptNumber)),
    ],
  });
  return found.rows.map(toBrokenLease);
}

const brokenLeaseColumns = "id, webhook_id, attempt_number, state, lost_in_a_row, leased_until";

// biome-ignore lint/suspicious/noExplicitAny: a row of the statements above
function toBrokenLease(row: any): BrokenLease {
  return {
    id: row.id,
    webhookId: row.webhook_id,
    attemptNumber: row.attempt_number,
    isResend: row.state === "delivered",
    lostInARow: row.lost_in_a_row,
    leasedUntil: row.leased_until,
  };
}

/**
 * Ends broken leases: logs each attempt as `lost`, which keeps its number and is not one of the round's attempts, and
 * sets the state that follows. Leases that were ended or renewed meanwhile are left alone.
 *
 * @returns how many were ended
 */
export async function loseAttempts(
  pool: pg.Pool,
  lost: readonly { lease: BrokenLease; settlement: Settlement; startedAt: Date }[],
  now: Date,
): Promise<number> {
  const result = await pool.query({
    name: "lose-attempts",
    text: `WITH u AS (
        SELECT * FROM unnest($1::int[], $2::uuid[], $3::int[], $4::float8[], $5::text[], $6::float8[], $7::text[],
          $8::float8[])
          AS u(webhook_id, id, attempt_number, leased_ms, state, due_ms, reason, started_ms)),
      counted AS (
        UPDATE delivery d SET
          state = CASE WHEN d.state = 'canceled' THEN d.state ELSE u.state END,
          due_at = CASE WHEN d.state = 'canceled' THEN NULL ELSE to_timestamp(u.due_ms / 1000) END,
          leased_until = NULL,
          finished_at = CASE WHEN u.state = 'pending' AND d.state <> 'canceled' THEN NULL
            ELSE coalesce(d.finished_at, $9) END,
          reason = CASE WHEN d.state = 'canceled' THEN d.reason ELSE u.reason END,
          lost_in_a_row = d.lost_in_a_row + 1
        FROM u
        WHERE d.webhook_id = u.webhook_id AND d.id = u.id AND d.attempt_number = u.attempt_number
          AND d.leased_until = to_timestamp(u.leased_ms / 1000)
        RETURNING d.id)
      INSERT INTO attempt (delivery_id, number, started_at, duration_ms, outcome)
      SELECT u.id, u.attempt_number, to_timestamp(u.started_ms / 1000), 0, 'lost' FROM u JOIN counted USING (id)`,
    values: [
      plainArray(lost.map(({ lease }) => lease.webhookId)),
      plainArray(lost.map(({ lease }) => lease.id)),
      plainArray(lost.map(({ lease }) => lease.attemptNumber)),
      instantArray(lost.map(({ lease }) => lease.leasedUntil)),
      textArray(lost.map(({ settlement }) => settlement.state)),
      instantArray(lost.map(({ settlement }) => ("dueAt" in settlement ? settlement.dueAt : null))),
      textArray(lost.map(({ settlement }) => ("reason" in settlement ? settlement.reason : null))),
      instantArray(lost.map(({ startedAt }) => startedAt)),
      now,
    ],
  });
  return result.rowCount ?? 0;
}

/** Leases of deliveries that this process has in hand, by the number of the attempt that they were claimed for. */
export type HeldDelivery = Pick<ClaimedDelivery, "id" | "webhookId" | "attemptNumber">;

/** Gives leases more time: their attempts are still under way here, or wait to be recorded. */
export async function renewLeases(
  pool: pg.Pool,
  held: readonly HeldDelivery[],
  leasedUntil: Date,
): Promise<void> {
  await pool.query({
    name: "renew-leases",
    text: `UPDATE delivery d SET leased_until = $4
      FROM unnest($1::int[], $2::uuid[], $3::int[]) AS u(webhook_id, id, attempt_number)
      WHERE d.webhook_id = u.webhook_id AND d.id = u.id AND d.attempt_number = u.attempt_number
        AND ${isLeased}`,
    values: [
      plainArray(held.map((one) => one.webhookId)),
      plainArray(held.map((one) => one.id)),
      plainArray(held.map((one) => one.attemptNumber)),
      leasedUntil,
    ],
  });
}

/** Gives deliveries back whose attempt never started: they are due again, and the attempt's number is free. */
export async function releaseLeases(pool: pg.Pool, held: readonly HeldDelivery[], now: Date): Promise<void> {
  await pool.query({
    name: "release-leases",
    text: `UPDATE delivery d SET
        state = CASE WHEN d.state = 'delivering' THEN 'pending' ELSE d.state END,
        due_at = CASE WHEN d.state IN ('delivering', 'delivered') THEN $4::timestamptz END,
        leased_until = NULL, attempt_number = d.attempt_number - 1
      FROM unnest($1::int[], $2::uuid[], $3::int[]) AS u(webhook_id, id, attempt_number)
      WHERE d.webhook_id = u.webhook_id AND d.id = u.id AND d.attempt_number = u.attempt_number
        AND ${isLeased}`,
    values: [
      plainArray(held.map((one) => one.webhookId)),
      plainArray(held.map((one) => one.id)),
      plainArray(held.map((one) => one.attemptNumber)),
      now,
    ],
  });
}

const cancelBatchMax = 5_000;

/**
 * Cancels what a webhook has not finished, in batches, until nothing is left. Attempts in flight run on: one that
 * succeeds still gives `delivered`. Deliveries that are sent once more stay `delivered` and are not sent. Of a webhook
 * that is on, nothing is canceled: a process that has not heard yet that it was turned on again may ask for that.
 *
 * @returns how many deliveries were canceled
 */
export async function cancelUnfinished(
  database: Database,
  webhookId: number,
  reason: GivenUpReason,
  now: Date,
): Promise<number> {
  let canceledCount = 0;
  let failureCount = 0;
  for (;;) {
    try {
      const result = await database.pool.query({
        name: "cancel-unfinished",
        text: cancelUnfinishedText,
        values: [webhookId, reason, now, cancelBatchMax],
      });
      const count = result.rowCount ?? 0;
      canceledCount += count;
      if (count === 0) return canceledCount;
    } catch (error) {
      // Attempts that are recorded at the same time lock the same rows, in another order.
      failureCount += 1;
      if (!isRepeatable(error) || failureCount === cancelFailuresMax) throw error;
    }
  }
}

const cancelFailuresMax = 5;

const cancelUnfinishedText = `
  WITH off AS (SELECT id FROM webhook WHERE id = $1 AND NOT is_enabled),
  waiting AS (
    SELECT webhook_id, id FROM delivery
    WHERE webhook_id = (SELECT id FROM off) AND due_at IS NOT NULL LIMIT $4 FOR UPDATE),
  under_way AS (
    SELECT webhook_id, id FROM delivery
    WHERE leased_until IS NOT NULL AND webhook_id = (SELECT id FROM off) AND state = 'delivering' LIMIT $4 FOR UPDATE)
  UPDATE delivery d SET
    state = CASE WHEN d.state = 'delivered' THEN d.state ELSE 'canceled' END,
    reason = CASE WHEN d.state = 'delivered' THEN d.reason ELSE $2 END,
    finished_at = coalesce(d.finished_at, $3), due_at = NULL
  FROM (SELECT * FROM waiting UNION SELECT * FROM under_way) AS unfinished
  WHERE d.webhook_id = unfinished.webhook_id AND d.id = unfinished.id`;

/**
 * Asks for a delivery to be sent again, with its own id and bytes: from `failed` or `canceled` as a new round of
 * attempts whose numbers go on, from `delivered` as one attempt that leaves the state alone.
 *
 * @throws GatewayError `not_found`, or `wrong_state` if it is still under way or was skipped, or if its webhook is
 *         off or gone
 */
export async function retryDelivery(
  database: Database,
  owner: Owner,
  deliveryId: string,
  now: Date,
): Promise<void> {
  const missing = () =>
    new GatewayError("not_found", `delivery ${deliveryId} does not exist`, { field: "id" });
  if (!isUuid(deliveryId)) throw missing();
  const updated = await database.pool.query({
    name: "retry-delivery",
    text: `UPDATE delivery d SET
        state = CASE WHEN d.state = 'delivered' THEN d.state ELSE 'pending' END,
        due_at = $3, round_attempt_count = 0, lost_in_a_row = 0,
        finished_at = CASE WHEN d.state = 'delivered' THEN d.finished_at END, reason = NULL, reason_detail = NULL
      FROM webhook w
      WHERE w.tenant_id = $1 AND ($4::int IS NULL OR w.client_id = $4) AND d.webhook_id = w.id AND w.is_enabled
        AND d.id = $2 AND d.state IN ('failed', 'canceled', 'delivered')
        AND d.due_at IS NULL AND d.leased_until IS NULL`,
    values: [owner.tenantId, deliveryId, now, owner.clientId],
  });
  if ((updated.rowCount ?? 0) > 0) return;
  const found = await database.pool.query<{ state: DeliveryState; is_enabled: boolean; is_deleted: boolean }>(
    {
      name: "retry-delivery-refused",
      text: `SELECT d.state, w.is_enabled, w.deleted_at IS NOT NULL AS is_deleted
      FROM webhook w JOIN delivery d ON d.webhook_id = w.id
      WHERE w.tenant_id = $1 AND ($3::int IS NULL OR w.client_id = $3) AND d.id = $2`,
      values: [owner.tenantId, deliveryId, owner.clientId],
    },
  );
  const row = found.rows[0];
  if (!row) throw missing();
  throw new GatewayError("wrong_state", whyNoRetry(row.state, row), { field: "id" });
}

function whyNoRetry(state: DeliveryState, webhook: { is_enabled: boolean; is_deleted: boolean }): string {
  if (webhook.is_deleted) return "the webhook of this delivery is deleted: it can get nothing any more";
  if (!webhook.is_enabled) return "the webhook of this delivery is off: turn it on first (status: true)";
  if (state === "skipped") return "this delivery was skipped: its transformer had nothing to send";
  return `this delivery is ${state === "delivered" ? "being sent once more" : state}: wait until its attempts have ended`;
}
