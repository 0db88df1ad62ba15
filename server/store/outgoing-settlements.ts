/** What a request to WhatsApp came to: for its message, the others of its answer, its number and its recipient. */

import type pg from "pg";
import { recipientKey } from "../domain/outgoing.ts";
import { plainArray } from "./array-literals.ts";
import { inTransaction } from "./in-transaction.ts";
import type { ClaimedMessage } from "./outgoing.ts";
import { cancelRest, lockAnswers, releaseNext } from "./outgoing-answers.ts";
import { changeLimits, type LimitChange } from "./send-limits.ts";

/** What follows a request. */
export type MessageSettlement =
  | { state: "sent"; wamid: string; phone: string | null }
  | { state: "unknown"; message: string }
  | { state: "failed"; reason: string; code: number | null; message: string }
  /**
   * Refused for now; only for scheduled ones. `readyAt` null = when its recipient is free again; `isFault` = by a fault of
   * WhatsApp's own, which is counted.
   */
  | { state: "scheduled"; readyAt: Date | null; isFault: boolean; code: number | null; message: string };

/**
 * Records what a request came to, and what it means for the other messages of its answer, its number and its
 * recipient. Does nothing to a message that a status settled meanwhile, or that its lease gave up and somebody took
 * further; called twice it does no more.
 *
 * @returns until when the recipient is held, for `hold_recipient`
 */
export async function settleMessage(
  pool: pg.Pool,
  message: Pick<ClaimedMessage, "id" | "numberId" | "to" | "accessTokenSealed" | "sendAt">,
  settlement: MessageSettlement,
  change: LimitChange,
  now: Date,
): Promise<Date | null> {
  const pair = { numberId: message.numberId, recipient: recipientKey(message.to) };
  return await inTransaction(pool, async (client) => {
    await lockAnswers(client, [message.id]);
    const isOutdated = change.kind === "stop_number" && !(await hasToken(client, message));
    const counted: LimitChange = isOutdated ? { kind: "none" } : change;
    const heldUntil = await changeLimits(client, pair, counted, message.sendAt, now);
    const isSent = settlement.state === "sent";
    const waitsUntil = settlement.state === "scheduled" && !isOutdated ? settlement.readyAt : null;
    const readyAt = settlement.state === "scheduled" ? (waitsUntil ?? heldUntil ?? now) : null;
    const settled = await client.query<{ delivery_id: string | null; position: number }>(
      `UPDATE outgoing_message SET state = $2, leased_until = NULL, ready_at = $3,
         settled_at = CASE WHEN $2 = 'scheduled' THEN NULL ELSE $4::timestamptz END,
         wamid = $5, accepted_at = CASE WHEN $5::text IS NOT NULL THEN $4::timestamptz END,
         phone = CASE WHEN delivery_id IS NULL THEN coalesce($6, phone) ELSE phone END,
         reason = $7, error_code = $8, error_message = $9,
         fault_count = fault_count + CASE WHEN $10 THEN 1 ELSE 0 END
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
        settlement.state === "scheduled" && settlement.isFault,
      ],
    );
    const row = settled.rows[0];
    if (row === undefined) return heldUntil;
    if (settlement.state === "failed") await cancelRest(client, row, "earlier_failed", now);
    else if (settlement.state !== "scheduled") await releaseNext(client, [row.delivery_id]);
    return heldUntil;
  });
}

/**
 * False if the number's client got another access token since the message was claimed: what the former one was refused
 * says nothing about the number any more. Waits for a change that is under way.
 */
async function hasToken(
  client: pg.ClientBase,
  { numberId, accessTokenSealed }: Pick<ClaimedMessage, "numberId" | "accessTokenSealed">,
): Promise<boolean> {
  const found = await client.query<{ access_token_sealed: Buffer | null }>(
    `SELECT c.access_token_sealed FROM phone_number n JOIN client c ON c.id = n.client_id
     WHERE n.id = $1 FOR SHARE OF c`,
    [numberId],
  );
  return found.rows[0]?.access_token_sealed?.equals(accessTokenSealed) ?? false;
}

/**
 * Gives up on requests that nobody will report: their process died. Whether they went out is not known.
 *
 * @returns how many there were
 */
export async function loseMessages(pool: pg.Pool, now: Date): Promise<number> {
  const found = await pool.query<{ id: string }>({
    name: "expired-messages",
    text: `SELECT id FROM outgoing_message WHERE state = 'sending' AND leased_until < $1
      ORDER BY leased_until LIMIT 500`,
    values: [now],
  });
  if (found.rows.length === 0) return 0;
  const ids = found.rows.map(({ id }) => id);
  return await inTransaction(pool, async (client) => {
    await lockAnswers(client, ids);
    const lost = await client.query<{ delivery_id: string | null }>(
      `UPDATE outgoing_message SET state = 'unknown', leased_until = NULL, settled_at = $1,
         error_message = 'the gateway was cut off before it knew how the request ended'
       WHERE id = ANY($2::uuid[]) AND state = 'sending' AND leased_until < $1
       RETURNING delivery_id`,
      [now, plainArray(ids)],
    );
    await releaseNext(
      client,
      lost.rows.map((row) => row.delivery_id),
    );
    return lost.rows.length;
  });
}
