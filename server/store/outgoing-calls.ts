/** Messages of calls that send: stored, as `sending`, before their request goes out; a key makes a call's message the only one. */

import type pg from "pg";
import { type OutgoingContent, type Recipient, recipientKey } from "../domain/outgoing.ts";
import { inTransaction } from "./in-transaction.ts";
import { lockLimits, type SendRates } from "./send-limits.ts";

/** A message of a call, which sends it itself. */
export interface NewMessage {
  id: string;
  tenantId: number;
  clientId: number;
  numberId: number;
  to: Recipient;
  content: OutgoingContent;
  callbackData: string | null;
  idempotencyKey: string | null;
}

export type Reservation =
  | { kind: "reserved"; sendAt: Date }
  /** Not stored: number or recipient have to wait for longer than a call may. */
  | { kind: "wait"; untilMs: number; why: "stopped" | "held" | "rate"; reason: string | null }
  /** A call with the same key was made before; its message stands. */
  | { kind: "repeat"; message: RepeatedMessage };

export interface RepeatedMessage {
  id: string;
  state: "sending" | "sent" | "unknown" | "failed";
  wamid: string | null;
  isSame: boolean;
}

const keyKeptMs = 24 * 3_600_000;

/** Stores a message that is about to be sent, with a place in its number's rate. */
export async function reserveMessage(
  pool: pg.Pool,
  rates: SendRates,
  message: NewMessage,
  now: Date,
  leasedUntil: Date,
): Promise<Reservation> {
  const pair = { numberId: message.numberId, recipient: recipientKey(message.to) };
  return await inTransaction(pool, async (client) => {
    if (message.idempotencyKey !== null) {
      const repeat = await findRepeat(client, message, now);
      if (repeat !== null) return { kind: "repeat", message: repeat };
    }
    const limits = await lockLimits(client, [pair], rates);
    const place = limits.take(pair, now.getTime());
    if (place.kind === "wait") return place;
    await Promise.all([
      limits.save(),
      client.query(
        `INSERT INTO outgoing_message (id, tenant_id, client_id, number_id, phone, bsuid, type, content, callback_data,
           idempotency_key, state, due_at, leased_until, attempt_count, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'sending', $11, $12, 1, $11)`,
        [
          message.id,
          message.tenantId,
          message.clientId,
          message.numberId,
          message.to.phone,
          message.to.bsuid,
          message.content.type,
          message.content.json,
          message.callbackData,
          message.idempotencyKey,
          now,
          leasedUntil,
        ],
      ),
    ]);
    return { kind: "reserved", sendAt: new Date(place.sendAtMs) };
  });
}

/** The message of an earlier call with this key, unless it is known not to have been sent. */
async function findRepeat(
  client: pg.ClientBase,
  message: NewMessage,
  now: Date,
): Promise<RepeatedMessage | null> {
  const { tenantId, idempotencyKey } = message;
  await client.query(
    `UPDATE outgoing_message SET idempotency_key = NULL
     WHERE tenant_id = $1 AND idempotency_key = $2
       AND (created_at <= $3 OR (state = 'failed' AND wamid IS NULL))`,
    [tenantId, idempotencyKey, new Date(now.getTime() - keyKeptMs)],
  );
  const found = await client.query(
    `SELECT id, state, wamid, number_id, phone, bsuid, content, callback_data FROM outgoing_message
     WHERE tenant_id = $1 AND idempotency_key = $2`,
    [tenantId, idempotencyKey],
  );
  const row = found.rows[0];
  if (row === undefined) return null;
  // WhatsApp may have told another form of the number that the message went to.
  const isSameRecipient =
    row.wamid !== null || (row.phone === message.to.phone && row.bsuid === message.to.bsuid);
  const isSame =
    isSameRecipient &&
    row.number_id === message.numberId &&
    row.content === message.content.json &&
    row.callback_data === message.callbackData;
  return { id: row.id, state: row.state, wamid: row.wamid, isSame };
}

/** Keeps a message of a call under way for one more request; false if it is not `sending` any more. */
export async function renewMessage(pool: pg.Pool, id: string, leasedUntil: Date): Promise<boolean> {
  const renewed = await pool.query(
    `UPDATE outgoing_message SET leased_until = $2, attempt_count = attempt_count + 1
     WHERE id = $1 AND state = 'sending'`,
    [id, leasedUntil],
  );
  return renewed.rowCount === 1;
}

/** WhatsApp's id of a message that turned out to be sent; null if it did not. */
export async function findSentId(pool: pg.Pool, id: string): Promise<string | null> {
  const found = await pool.query<{ wamid: string | null }>(
    "SELECT wamid FROM outgoing_message WHERE id = $1 AND state = 'sent'",
    [id],
  );
  return found.rows[0]?.wamid ?? null;
}
