/** Ends of claimed deliveries: their attempts with the states that follow. */

import type pg from "pg";
import type { AttemptReport, MadePayload } from "../domain/attempt-report.ts";
import type { SettledAttempt } from "../domain/delivery-claim.ts";
import { notingAttempts } from "./attempt-batches.ts";
import { bytesArray, instantArray, intArray, numberArray, textArray, uuidArray } from "./binary-arrays.ts";
import { isLeased } from "./delivery-leases.ts";
import { notingFailures } from "./gateway-notices.ts";

/**
 * Records attempts and the states that follow, all in one statement. An attempt whose lease was taken over meanwhile
 * leaves no trace. A delivery that was canceled while its attempt ran becomes `delivered` on success and stays
 * canceled otherwise. What an answer schedules is stored by the same statement, so that it is neither lost nor scheduled
 * twice.
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
  const replies = settled.flatMap(newReplies);
  const hasReplies = replies.length > 0;
  const toldTenantIds = [...new Set(settled.map(({ toldTenantId }) => toldTenantId ?? 0))].filter(
    (id) => id > 0,
  );
  const isTold = toldTenantIds.length > 0;
  const result = await pool.query<{ ids: string[] | null }>({
    // Several statements: the plan of the one that nearly all batches need is not to know of events and contacts, nor of
    // notices.
    name: `settle-attempts${hasReplies ? "-with-replies" : ""}${isTold ? "-with-notices" : ""}`,
    text: hasReplies || isTold ? settleText(hasReplies, isTold) : settleAttemptsText,
    values: [
      intArray(settled.map(({ report }) => report.webhookId)),
      uuidArray(settled.map(({ report }) => report.deliveryId)),
      intArray(settled.map(({ report }) => report.attemptNumber)),
      intArray(isRequest.map((is) => (is ? 1 : 0))),
      textArray(settled.map(({ settlement }) => settlement.state)),
      instantArray(settled.map(({ settlement }) => ("dueAt" in settlement ? settlement.dueAt : null))),
      textArray(settled.map(({ settlement }) => ("reason" in settlement ? settlement.reason : null))),
      textArray(settled.map(({ settlement }) => ("detail" in settlement ? settlement.detail : null))),
      textArray(settled.map(({ transformer }, index) => (payloads[index] ? transformer : null))),
      textArray(payloads.map((payload) => payload?.transformerVersion ?? null)),
      textArray(payloads.map((payload) => payload?.contentType ?? null)),
      textArray(payloads.map(headersText)),
      bytesArray(payloads.map((payload) => payload?.body ?? null)),
      numberArray(settled.map(({ report }) => report.startedAtMs)),
      intArray(settled.map(({ report }) => Math.max(0, Math.round(report.durationMs)))),
      textArray(settled.map(({ report }) => (report.kind === "succeeded" ? "succeeded" : "failed"))),
      textArray(settled.map(({ report }) => (report.kind === "failed" ? report.errorKind : null))),
      textArray(settled.map(({ report }) => (report.kind === "failed" ? report.errorMessage : null))),
      intArray(responses.map((response) => response?.status ?? null)),
      textArray(responses.map((response) => response && JSON.stringify(response.headers))),
      bytesArray(responses.map((response) => response?.body ?? null)),
      now,
      textArray(settled.map(({ report }) => replyFault(report))),
      ...(hasReplies
        ? [
            uuidArray(replies.map((reply) => reply.id)),
            uuidArray(replies.map((reply) => reply.deliveryId)),
            intArray(replies.map((reply) => reply.position)),
            textArray(replies.map((reply) => reply.content)),
            instantArray(replies.map((reply) => reply.dueAt)),
          ]
        : []),
      ...(isTold ? [intArray(toldTenantIds)] : []),
    ],
  });
  return new Set(result.rows[0]!.ids ?? settled.map(({ report }) => report.deliveryId));
}

interface NewReply {
  id: string;
  deliveryId: string;
  position: number;
  content: string;
  dueAt: Date;
}

function newReplies({ report, replyIds }: SettledAttempt): NewReply[] {
  if (report.kind !== "succeeded" || report.replies?.kind !== "parsed" || !replyIds) return [];
  const { texts, answeredAtMs } = report.replies;
  return texts.map(({ text, delayMs }, position) => ({
    id: replyIds[position]!,
    deliveryId: report.deliveryId,
    position,
    content: JSON.stringify({ text: { body: text, preview_url: false } }),
    dueAt: new Date(answeredAtMs + delayMs),
  }));
}

function replyFault(report: AttemptReport): string | null {
  return report.kind === "succeeded" && report.replies?.kind === "broken" ? report.replies.fault : null;
}

/** The contact of its event was erased while the attempt was in flight: nothing of payload and answer is kept. */
const isErased = "d.erased_at IS NOT NULL";

const settlingText = (replyFault: string) => `
  WITH u AS (
    SELECT * FROM unnest($1::int[], $2::uuid[], $3::int[], $4::int[], $5::text[], $6::float8[], $7::text[], $8::text[],
      $9::text[], $10::text[], $11::text[], $12::text[], $13::bytea[], $14::float8[], $15::int[], $16::text[],
      $17::text[], $18::text[], $19::int[], $20::text[], $21::bytea[], $23::text[])
      AS u(webhook_id, id, attempt_number, request_count, state, due_ms, reason, detail, transformer,
        transformer_version, content_type, payload_headers, body, started_ms, duration_ms, outcome, error_kind,
        error_message, response_status, response_headers, response_body, reply_fault)),
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
      transformer_version = CASE WHEN ${isErased} THEN d.transformer_version
        ELSE coalesce(u.transformer_version, d.transformer_version) END,
      content_type = CASE WHEN ${isErased} THEN d.content_type ELSE coalesce(u.content_type, d.content_type) END,
      payload_headers = CASE WHEN ${isErased} THEN NULL ELSE coalesce(u.payload_headers, d.payload_headers) END,
      body = CASE WHEN ${isErased} THEN d.body ELSE coalesce(u.body, d.body) END
    FROM u
    WHERE d.webhook_id = u.webhook_id AND d.id = u.id
      AND d.attempt_number = u.attempt_number AND ${isLeased}
    RETURNING d.id, u.attempt_number, u.request_count, u.started_ms, u.duration_ms, u.outcome, u.error_kind,
      CASE WHEN NOT ${isErased} THEN u.error_message END AS error_message, u.response_status,
      CASE WHEN ${isErased} AND u.response_status IS NOT NULL THEN '{}' ELSE u.response_headers END AS response_headers,
      CASE WHEN ${isErased} AND u.response_status IS NOT NULL THEN ''::bytea ELSE u.response_body END AS response_body,
      d.webhook_id, d.tenant_id, d.event_id,
      d.event_type, CASE WHEN d.event_type = 'message.received' THEN u.reply_fault END AS reply_fault,
      d.state, d.reason, d.reason_detail, d.attempt_number AS attempt_count),
  logged AS (
    INSERT INTO attempt (delivery_id, number, started_at, duration_ms, outcome, error_kind, error_message,
      response_status, response_headers, response_body, reply_fault)
    SELECT id, attempt_number, to_timestamp(started_ms / 1000), duration_ms, outcome, error_kind, error_message,
      response_status, response_headers, response_body, ${replyFault}
    FROM counted WHERE request_count = 1),
  ${notingAttempts("FROM counted WHERE request_count = 1", "attempt_number")}`;

/** Nearly always all attempts count: then the answer is one row, not one an attempt. */
const answerText = `SELECT CASE WHEN (SELECT count(*) FROM counted) < cardinality($2::uuid[])
  THEN ARRAY(SELECT id::text FROM counted) END AS ids`;

const settleAttemptsText = `${settlingText("reply_fault")} ${answerText}`;

function settleText(hasReplies: boolean, isTold: boolean): string {
  const told = isTold ? `, ${notingFailures("counted", hasReplies ? "$29" : "$24", "$22")}` : "";
  return `${settlingText(hasReplies ? unscheduledFault : "reply_fault")}${hasReplies ? replyingText : ""}${told} ${answerText}`;
}

/** An answer whose replies have nobody to go to: its event is a notice, or of a kind that no conversation holds. */
const unscheduledFault = `coalesce(reply_fault, CASE
  WHEN event_type = 'message.received' AND id = ANY($25::uuid[]) AND EXISTS (
    SELECT FROM event e
    WHERE e.tenant_id = counted.tenant_id AND e.id = counted.event_id AND e.conversation_id IS NULL)
  THEN 'messages: cannot be sent, since this event is part of no conversation' END)`;

/**
 * Only the first answer to a message that came in schedules, and only while its webhook lets it: the caller leaves
 * deliveries that are sent once more out, and the pair of delivery and position is unique.
 */
const replyingText = `,
  replied AS (
    INSERT INTO outgoing_message (id, tenant_id, client_id, number_id, phone, bsuid, type, content, webhook_id,
      delivery_id, position, state, due_at, ready_at, created_at)
    SELECT r.id, e.tenant_id, e.client_id, n.id, k.phone, k.bsuid, 'text', r.content, d.webhook_id, d.id, r.position,
      'scheduled', to_timestamp(r.due_ms / 1000), CASE WHEN r.position = 0 THEN to_timestamp(r.due_ms / 1000) END,
      $22::timestamptz
    FROM unnest($24::uuid[], $25::uuid[], $26::int[], $27::text[], $28::float8[])
      AS r(id, delivery_id, position, content, due_ms)
    JOIN counted d ON d.id = r.delivery_id AND d.event_type = 'message.received'
    JOIN webhook w ON w.id = d.webhook_id AND w.is_enabled AND w.schedule_activity
    JOIN event e ON e.tenant_id = d.tenant_id AND e.id = d.event_id AND e.routed_at IS NULL
    JOIN phone_number n ON n.phone_number_id = e.phone_number_id AND n.client_id = e.client_id
    JOIN conversation v ON v.id = e.conversation_id
    JOIN contact k ON k.id = v.contact_id
    ON CONFLICT (delivery_id, position) DO NOTHING)`;

function headersText(payload: MadePayload | null): string | null {
  return payload && Object.keys(payload.headers).length > 0 ? JSON.stringify(payload.headers) : null;
}
