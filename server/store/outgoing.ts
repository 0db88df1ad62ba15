/**
 * Messages that we send, claimed when they are due. (Those of calls begin in `outgoing-calls.ts`; what follows a request
 * is in `outgoing-settlements.ts`.) A row is committed as `sending` before the request goes out, and is never claimed again from
 * there: whatever happens to the process, WhatsApp gets the request once. Locks are taken on messages first, then
 * numbers, then pairs; whoever may let the next message of an answer go takes the answer's lock before all (`lockAnswers`).
 */

import type pg from "pg";
import type { OutgoingContent, OutgoingType, Recipient } from "../domain/outgoing.ts";
import { isWindowOpen, needsWindow, recipientKey } from "../domain/outgoing.ts";
import { instantArray, plainArray } from "./array-literals.ts";
import { inTransaction } from "./in-transaction.ts";
import { cancelRest } from "./outgoing-answers.ts";
import { changeLimits, lockLimits, type SendRates } from "./send-limits.ts";

/** A message that this process may send, once, until its lease ends. */
export interface ClaimedMessage {
  id: string;
  tenantId: number;
  clientId: number;
  numberId: number;
  phoneNumberId: string;
  to: Recipient;
  content: OutgoingContent;
  /** Requests made for it, this one included. */
  attemptCount: number;
  /** Those that WhatsApp failed at by a fault of its own. */
  faultCount: number;
  accessTokenSealed: Buffer;
  /** When it may go out: the number's rate puts it a little off. */
  sendAt: Date;
  /** True if an endpoint's answer scheduled it. */
  isReply: boolean;
}

/** For a number whose client has no token; nothing can be asked of WhatsApp until it has one. */
export const noTokenReason = "access_token_missing";

/** A number that was stopped is tried again with one message after this time. */
export const stoppedRetryMs = 15 * 60_000;

const dueText = `
  SELECT m.id, m.tenant_id, m.client_id, m.number_id, m.phone, m.bsuid, m.type, m.content, m.attempt_count,
    m.fault_count, m.delivery_id, n.phone_number_id, n.client_id = m.client_id AS is_own, c.access_token_sealed,
    w.is_enabled AND w.schedule_activity AS is_wanted,
    (SELECT max(last.sent_at) FROM contact k JOIN conversation v ON v.contact_id = k.id AND v.number_id = m.number_id
     CROSS JOIN LATERAL (
       SELECT sent_at FROM message
       WHERE conversation_id = v.id AND sender = 'user' ORDER BY sequence DESC LIMIT 20) AS last
     WHERE k.client_id = m.client_id AND (k.bsuid = m.bsuid OR k.phone = m.phone)) AS last_user_at
  FROM outgoing_message m
  JOIN phone_number n ON n.id = m.number_id
  JOIN client c ON c.id = m.client_id
  JOIN webhook w ON w.id = m.webhook_id
  WHERE m.state = 'scheduled' AND m.ready_at <= $1
  ORDER BY m.ready_at LIMIT $2
  FOR UPDATE OF m SKIP LOCKED`;

/**
 * Claims due scheduled messages, each with a place in its number's rate. What may not go now is put off; what may not
 * go at all is ended. Safe to call from several processes.
 *
 * @returns `[]` when nothing is due; `isMore` if there may be more
 */
export async function claimDueMessages(
  pool: pg.Pool,
  rates: SendRates,
  limit: number,
  now: Date,
  leasedUntil: Date,
): Promise<{ claimed: ClaimedMessage[]; isMore: boolean }> {
  return await inTransaction(pool, async (client) => {
    const due = await client.query({ name: "due-messages", text: dueText, values: [now, limit] });
    if (due.rows.length === 0) return { claimed: [], isMore: false };
    const pairs = due.rows.map((row) => ({ numberId: row.number_id, recipient: recipientKey(row) }));
    const limits = await lockLimits(client, pairs, rates);
    const claimed: ClaimedMessage[] = [];
    const putOff: { id: string; readyAt: Date }[] = [];
    for (const row of due.rows) {
      const ending = endingOf(row, now);
      if (ending !== null) {
        await endScheduled(client, row.id, ending, now);
        continue;
      }
      const pair = { numberId: row.number_id as number, recipient: recipientKey(row) };
      if (row.access_token_sealed === null) {
        const until = new Date(now.getTime() + stoppedRetryMs);
        await changeLimits(client, pair, { kind: "stop_number", reason: noTokenReason, until }, now, now);
        putOff.push({ id: row.id, readyAt: until });
        continue;
      }
      const place = limits.take(pair, now.getTime());
      if (place.kind === "wait") putOff.push({ id: row.id, readyAt: new Date(Math.ceil(place.untilMs)) });
      else claimed.push(toClaimed(row, new Date(place.sendAtMs)));
    }
    await Promise.all([
      limits.save(),
      client.query(
        `UPDATE outgoing_message SET state = 'sending', ready_at = NULL, leased_until = $2,
           attempt_count = attempt_count + 1
         WHERE id = ANY($1::uuid[])`,
        [plainArray(claimed.map(({ id }) => id)), leasedUntil],
      ),
      client.query(
        `UPDATE outgoing_message m SET ready_at = to_timestamp(u.ready_ms / 1000)
         FROM unnest($1::uuid[], $2::float8[]) AS u(id, ready_ms) WHERE m.id = u.id`,
        [plainArray(putOff.map(({ id }) => id)), instantArray(putOff.map(({ readyAt }) => readyAt))],
      ),
    ]);
    return { claimed, isMore: due.rows.length === limit };
  });
}

/** When the next scheduled message may be claimed; null if none waits. */
export async function nextReadyAt(pool: pg.Pool): Promise<Date | null> {
  const found = await pool.query<{ ready_at: Date | null }>({
    name: "next-ready-message",
    text: `SELECT ready_at FROM outgoing_message WHERE state = 'scheduled' AND ready_at IS NOT NULL
      ORDER BY ready_at LIMIT 1`,
    values: [],
  });
  return found.rows[0]?.ready_at ?? null;
}

type Ending = { state: "failed" | "canceled"; reason: string };

function endingOf(row: DueRow, now: Date): Ending | null {
  // A webhook that was turned off while the answer was being recorded.
  if (!row.is_wanted) return { state: "canceled", reason: "webhook_disabled" };
  if (!row.is_own) return { state: "canceled", reason: "number_removed" };
  if (needsWindow(row.type) && !isWindowOpen(row.last_user_at, now)) {
    return { state: "failed", reason: "outside_window" };
  }
  return null;
}

async function endScheduled(client: pg.ClientBase, id: string, ending: Ending, now: Date): Promise<void> {
  const ended = await client.query<{ delivery_id: string; position: number }>(
    `UPDATE outgoing_message SET state = $2, reason = $3, ready_at = NULL, settled_at = $4
     WHERE id = $1 AND state = 'scheduled' RETURNING delivery_id, position`,
    [id, ending.state, ending.reason, now],
  );
  const row = ended.rows[0];
  if (row) await cancelRest(client, row, ending.state === "failed" ? "earlier_failed" : ending.reason, now);
}

interface DueRow {
  is_wanted: boolean;
  is_own: boolean;
  type: OutgoingType;
  last_user_at: Date | null;
}

// biome-ignore lint/suspicious/noExplicitAny: a row of the statement above
function toClaimed(row: any, sendAt: Date): ClaimedMessage {
  return {
    id: row.id,
    tenantId: row.tenant_id,
    clientId: row.client_id,
    numberId: row.number_id,
    phoneNumberId: row.phone_number_id,
    to: { phone: row.phone, bsuid: row.bsuid },
    content: { type: row.type, json: row.content },
    attemptCount: row.attempt_count + 1,
    faultCount: row.fault_count,
    accessTokenSealed: row.access_token_sealed,
    sendAt,
    isReply: row.delivery_id !== null,
  };
}
