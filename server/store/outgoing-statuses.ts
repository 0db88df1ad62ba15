/** What WhatsApp tells about messages that we sent, and which of them the rest of the gateway has not heard of yet. */

import type pg from "pg";
import type { MessageStatus, OutgoingContent, Recipient } from "../domain/outgoing.ts";
import { plainArray, textArray } from "./array-literals.ts";
import { inTransaction } from "./in-transaction.ts";
import { cancelRest, lockAnswers, releaseNext } from "./outgoing-answers.ts";

/** A status event of a number, as far as it concerns a message of ours. */
export interface StatusNews {
  phoneNumberId: string;
  wamid: string;
  status: MessageStatus;
  at: Date;
  /** Digits that WhatsApp knows the recipient by; null if the status does not say. */
  phone: string | null;
  /** Our id, if the status carried what may be one. */
  messageId: string | null;
  errorCode: number | null;
  errorMessage: string | null;
  /** One word for a failure. */
  reason: string | null;
}

/** Messages of ours among these, with what their callers gave for the statuses to carry. */
export async function findCallbacks(
  pool: pg.Pool,
  messageIds: readonly string[],
): Promise<Map<string, { phoneNumberId: string; callbackData: string | null }>> {
  if (messageIds.length === 0) return new Map();
  const found = await pool.query({
    name: "find-callbacks",
    text: `SELECT m.id, n.phone_number_id, m.callback_data FROM outgoing_message m
      JOIN phone_number n ON n.id = m.number_id WHERE m.id = ANY($1::uuid[])`,
    values: [plainArray(messageIds)],
  });
  return new Map(
    found.rows.map((row) => [
      row.id,
      { phoneNumberId: row.phone_number_id, callbackData: row.callback_data },
    ]),
  );
}

/**
 * Moves messages forward: sent < delivered < read < played, and failed only before delivered. A status also says that a
 * message went out of which nobody knew. The same statuses again change nothing, and of messages that are not ours
 * they are passed over.
 *
 * @returns true if a message turned out to be sent, so that others may follow it
 */
export async function applyStatuses(pool: pg.Pool, news: readonly StatusNews[], now: Date): Promise<boolean> {
  if (news.length === 0) return false;
  const columns = [
    textArray(news.map((one) => one.phoneNumberId)),
    textArray(news.map((one) => one.wamid)),
    plainArray(news.map((one) => one.messageId)),
  ];
  const ours = await pool.query({ name: "find-status-messages", text: findText, values: columns });
  if (ours.rows.length === 0) return false;
  return await inTransaction(pool, async (client) => {
    let isSent = false;
    await lockAnswers(
      client,
      ours.rows.map((row) => row.id),
    );
    for (const { id, index } of ours.rows) {
      const one = news[index - 1]!;
      const applied = await client.query<{ delivery_id: string | null; position: number; state: string }>(
        applyText,
        [id, one.status, one.wamid, one.at, now, one.reason, one.errorCode, one.errorMessage, one.phone],
      );
      const row = applied.rows[0];
      if (row === undefined) continue;
      if (row.state === "failed") await cancelRest(client, row, "earlier_failed", now);
      else await releaseNext(client, [row.delivery_id]);
      isSent = true;
    }
    return isSent;
  });
}

/** In the order of their ids, so that two processes that hear of the same messages do not wait in a circle. */
const findText = `
  SELECT m.id, u.index::int AS index
  FROM unnest($1::text[], $2::text[], $3::uuid[]) WITH ORDINALITY AS u(phone_number_id, wamid, message_id, index)
  JOIN phone_number n ON n.phone_number_id = u.phone_number_id
  JOIN outgoing_message m ON m.number_id = n.id AND (m.id = u.message_id OR m.wamid = u.wamid)
  WHERE m.wamid IS NULL OR m.wamid = u.wamid
  ORDER BY m.id, u.index`;

const rankOf = (status: string) =>
  `coalesce(array_position('{sent,failed,delivered,read,played}', ${status}), 0)`;

/** A message that was refused for the moment, or canceled after that, went out all the same if a status says so. */
const applyText = `
  UPDATE outgoing_message m SET
    status = $2, wamid = $3, accepted_at = coalesce(m.accepted_at, $4),
    delivered_at = CASE WHEN $2 = 'delivered' THEN $4 ELSE m.delivered_at END,
    read_at = CASE WHEN $2 = 'read' THEN $4 ELSE m.read_at END,
    played_at = CASE WHEN $2 = 'played' THEN $4 ELSE m.played_at END,
    state = CASE WHEN $2 = 'failed' THEN 'failed' ELSE 'sent' END,
    phone = CASE WHEN m.delivery_id IS NULL AND m.accepted_at IS NULL THEN coalesce($9, m.phone) ELSE m.phone END,
    leased_until = NULL, ready_at = NULL, settled_at = coalesce(m.settled_at, $5),
    reason = CASE WHEN $2 = 'failed' THEN $6 END,
    error_code = CASE WHEN $2 = 'failed' THEN $7::int END,
    error_message = CASE WHEN $2 = 'failed' THEN $8 END
  WHERE m.id = $1 AND m.attempt_count > 0
    AND ${rankOf("$2::text")} > ${rankOf("m.status")}
  RETURNING m.delivery_id, m.position, m.state`;

/** A message that WhatsApp took and no event tells of yet. */
export interface UnpublishedMessage {
  id: string;
  tenantId: number;
  clientId: number;
  phoneNumberId: string;
  /** Digits of the business number; null if not known. */
  businessPhone: string | null;
  to: Recipient;
  content: OutgoingContent;
  wamid: string;
  acceptedAt: Date;
}

/** Messages that were sent and are not told of, oldest first; `[]` if there are none. */
export async function listUnpublished(pool: pg.Pool, limit: number): Promise<UnpublishedMessage[]> {
  const found = await pool.query({
    name: "list-unpublished-messages",
    text: `SELECT m.id, m.tenant_id, m.client_id, n.phone_number_id, n.display_phone_number, m.phone, m.bsuid, m.type,
        m.content, m.wamid, m.accepted_at
      FROM outgoing_message m JOIN phone_number n ON n.id = m.number_id
      WHERE m.wamid IS NOT NULL AND NOT m.is_published ORDER BY m.accepted_at LIMIT $1`,
    values: [limit],
  });
  return found.rows.map((row) => ({
    id: row.id,
    tenantId: row.tenant_id,
    clientId: row.client_id,
    phoneNumberId: row.phone_number_id,
    businessPhone: row.display_phone_number,
    to: { phone: row.phone, bsuid: row.bsuid },
    content: { type: row.type, json: row.content },
    wamid: row.wamid,
    acceptedAt: row.accepted_at,
  }));
}

export async function markPublished(pool: pg.Pool, ids: readonly string[]): Promise<void> {
  await pool.query("UPDATE outgoing_message SET is_published = true WHERE id = ANY($1::uuid[])", [
    plainArray(ids),
  ]);
}
