/**
 * Messages that we send, while they are work: claimed when due, settled, rescued. (Those of calls begin in
 * `outgoing-calls.ts`.) A row is committed as `sending` before the request goes out, and is never claimed again from
 * there: whatever happens to the process, WhatsApp gets the request once. Locks are taken on messages first, then
 * numbers, then pairs.
 */

import type pg from "pg";
import type { OutgoingContent, OutgoingType, Recipient } from "../domain/outgoing.ts";
import { isWindowOpen, needsWindow, recipientKey } from "../domain/outgoing.ts";
import { instantArray, plainArray } from "./arrays.ts";
import { isRepeatable } from "./faults.ts";
import { changeLimits, type LimitChange, lockLimits, type SendRates } from "./send-limits.ts";

/** A message that this process may send, once, until its lease ends. */
export interface ClaimedMessage {
  id: string;
  tenantId: number;
  clientId: number;
  numberId: number;
  phoneNumberId: string;
  to: Recipient;
  content: OutgoingContent;
  attemptCount: number;
  accessTokenSealed: Buffer;
  /** When it may go out: the number's rate puts it a little off. */
  sendAt: Date;
  /** True if an endpoint's answer scheduled it. */
  isReply: boolean;
}

/** For a number whose client has no token; nothing can be asked of WhatsApp until it has one. */
export const noTokenReason = "access_token_missing";

/** After an unclear outcome the next message of the answer waits this long for a status that clears it up. */
const unclearHoldMs = 60_000;
/** A number that was stopped is tried again with one message after this time. */
export const stoppedRetryMs = 15 * 60_000;

const dueText = `
  SELECT m.id, m.tenant_id, m.client_id, m.number_id, m.phone, m.bsuid, m.type, m.content, m.attempt_count,
    m.delivery_id, n.phone_number_id, n.client_id = m.client_id AS is_own, c.access_token_sealed,
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
        await changeLimits(client, pair, { kind: "stop_number", reason: noTokenReason, until }, now);
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

/** What follows a request. */
export type MessageSettlement =
  | { state: "sent"; wamid: string; phone: string | null }
  | { state: "unknown"; message: string }
  | { state: "failed"; reason: string; code: number | null; message: string }
  /** Refused for now; only for scheduled ones. `readyAt` null = when its recipient is free again. */
  | { state: "scheduled"; readyAt: Date | null; code: number | null; message: string };

/**
 * Records what a request came to, and what it means for the other messages of its answer, its number and its
 * recipient. Does nothing to a message that a status settled meanwhile, or that its lease gave up and somebody took
 * further; called twice it does no more.
 *
 * @returns true if it counted
 */
export async function settleMessage(
  pool: pg.Pool,
  message: Pick<ClaimedMessage, "id" | "numberId" | "to">,
  settlement: MessageSettlement,
  change: LimitChange,
  now: Date,
): Promise<boolean> {
  const pair = { numberId: message.numberId, recipient: recipientKey(message.to) };
  return await inTransaction(pool, async (client) => {
    await client.query("SELECT FROM outgoing_message WHERE id = $1 FOR UPDATE", [message.id]);
    const heldUntil = await changeLimits(client, pair, change, now);
    const isSent = settlement.state === "sent";
    const readyAt = settlement.state === "scheduled" ? (settlement.readyAt ?? heldUntil ?? now) : null;
    const settled = await client.query<{ delivery_id: string | null; position: number }>(
      `UPDATE outgoing_message SET state = $2, leased_until = NULL, ready_at = $3,
         settled_at = CASE WHEN $2 = 'scheduled' THEN NULL ELSE $4::timestamptz END,
         wamid = $5, accepted_at = CASE WHEN $5::text IS NOT NULL THEN $4::timestamptz END,
         phone = CASE WHEN delivery_id IS NULL THEN coalesce($6, phone) ELSE phone END,
         reason = $7, error_code = $8, error_message = $9
       WHERE id = $1 AND (state = 'sending' OR (state = 'unknown' AND $2 <> 'scheduled'))
       RETURNING delivery_id, position`,
      [
        message.id,
        settlement.state,
        readyAt,
        now,
        isSent ? settlement.wamid : null,
        isSent ? settlement.phone : null,
        settlement.state === "failed" ? settlement.reason : null,
        "code" in settlement ? settlement.code : null,
        "message" in settlement ? settlement.message : null,
      ],
    );
    const row = settled.rows[0];
    if (row === undefined) return false;
    if (settlement.state === "failed") await cancelRest(client, row, "earlier_failed", now);
    else if (settlement.state !== "scheduled") await releaseNext(client, [row.delivery_id]);
    return true;
  });
}

/**
 * Gives up on requests that nobody will report: their process died. Whether they went out is not known.
 *
 * @returns how many there were
 */
export async function loseMessages(pool: pg.Pool, now: Date): Promise<number> {
  return await inTransaction(pool, async (client) => {
    const lost = await client.query<{ delivery_id: string | null }>(
      `UPDATE outgoing_message SET state = 'unknown', leased_until = NULL, settled_at = $1,
         error_message = 'the gateway was cut off before it knew how the request ended'
       WHERE id IN (SELECT id FROM outgoing_message WHERE state = 'sending' AND leased_until < $1
                    ORDER BY leased_until LIMIT 500 FOR UPDATE SKIP LOCKED)
       RETURNING delivery_id`,
      [now],
    );
    await releaseNext(
      client,
      lost.rows.map((row) => row.delivery_id),
    );
    return lost.rows.length;
  });
}

/** After a permanent failure the rest of its answer is not sent. */
export async function cancelRest(
  client: pg.ClientBase,
  { delivery_id: deliveryId, position }: { delivery_id: string | null; position: number },
  reason: string,
  now: Date,
): Promise<void> {
  if (deliveryId === null) return;
  await client.query(
    `UPDATE outgoing_message SET state = 'canceled', reason = $3, ready_at = NULL, settled_at = $4
     WHERE delivery_id = $1 AND position > $2 AND state = 'scheduled'`,
    [deliveryId, position, reason, now],
  );
}

/** Lets the message go whose turn it is, once nothing before it is under way. */
export async function releaseNext(
  client: pg.ClientBase,
  deliveryIds: readonly (string | null)[],
): Promise<void> {
  const ids = [...new Set(deliveryIds.filter((id) => id !== null))].sort();
  if (ids.length === 0) return;
  await client.query(
    `UPDATE outgoing_message m SET ready_at = greatest(m.due_at,
       (SELECT max(p.settled_at) + $2 * interval '1 millisecond' FROM outgoing_message p
        WHERE p.delivery_id = m.delivery_id AND p.position < m.position AND p.state = 'unknown'))
     WHERE m.delivery_id = ANY($1::uuid[]) AND m.state = 'scheduled'
       AND NOT EXISTS (SELECT FROM outgoing_message p
         WHERE p.delivery_id = m.delivery_id AND p.position < m.position AND p.state IN ('scheduled', 'sending'))`,
    [plainArray(ids), unclearHoldMs],
  );
}

const attemptsMax = 5;

/** Runs a change in a transaction of its own, again if another one was in its way. */
export async function inTransaction<T>(
  pool: pg.Pool,
  change: (client: pg.ClientBase) => Promise<T>,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    const client = await pool.connect();
    try {
      await client.query("BEGIN");
      const result = await change(client);
      await client.query("COMMIT");
      client.release();
      return result;
    } catch (error) {
      await client.query("ROLLBACK").then(
        () => client.release(),
        () => client.release(true),
      );
      if (!isRepeatable(error) || attempt === attemptsMax) throw error;
    }
  }
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
    accessTokenSealed: row.access_token_sealed,
    sendAt,
    isReply: row.delivery_id !== null,
  };
}
