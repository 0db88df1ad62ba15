/**
 * How fast a number may send, and to one recipient. The rows are locked by whoever takes a place, so all processes count
 * together; whoever locks them does so in the same order, after the messages and numbers before pairs.
 */

import type pg from "pg";
import { plainArray, textArray } from "./array-literals.ts";

export interface SendRates {
  /** Messages of one number in a second. */
  perNumberSecond: number;
  /** From one message to a recipient to the next, once the burst is used up. */
  pairIntervalMs: number;
  /** Messages that one recipient may get at once. */
  pairBurst: number;
}

export interface PairAsked {
  numberId: number;
  recipient: string;
}

interface NumberLimit {
  nextMs: number;
  heldMs: number;
  stoppedReason: string | null;
}

interface PairLimit {
  numberId: number;
  recipient: string;
  nextMs: number;
  heldMs: number;
}

export type Place =
  /** May go at this time, which is at most `horizonMs` away. */
  | { kind: "taken"; sendAtMs: number }
  | { kind: "wait"; untilMs: number; why: "stopped" | "held" | "rate"; reason: string | null };

export interface SendLimits {
  /** Takes a place for one message, in memory; `save` makes it count. */
  take(asked: PairAsked, nowMs: number): Place;
  save(): Promise<void>;
}

/** A place further away than this is not taken: the message waits in the table. */
const horizonMs = 1_000;
/** A number that was stopped is tried with one message in this time, which is longer than a request can last. */
const trialMs = 30_000;
/** A bucket that is fuller than it can be, by more than this, was filled by a clock that was ahead: it counts as empty. */
const clockStepMs = 10_000;

/** Locks the limits of these pairs until the transaction ends. */
export async function lockLimits(
  client: pg.ClientBase,
  pairs: readonly PairAsked[],
  rates: SendRates,
): Promise<SendLimits> {
  const numberIds = plainArray([...new Set(pairs.map((pair) => pair.numberId))].sort((a, b) => a - b));
  const pairNumbers = plainArray(pairs.map((pair) => pair.numberId));
  const recipients = textArray(pairs.map((pair) => pair.recipient));
  const [, numberRows, pairRows] = await Promise.all([
    client.query("INSERT INTO sending_number (number_id) SELECT unnest($1::int[]) ON CONFLICT DO NOTHING", [
      numberIds,
    ]),
    client.query(
      `SELECT number_id, extract(epoch FROM next_at)::float8 * 1000 AS next_ms,
         extract(epoch FROM held_until)::float8 * 1000 AS held_ms, stopped_reason
       FROM sending_number WHERE number_id = ANY($1::int[]) ORDER BY number_id FOR UPDATE`,
      [numberIds],
    ),
    // The empty change locks the row: idle pairs are deleted, and one that was there might be gone a moment later.
    client.query(
      `INSERT INTO sending_pair AS p (number_id, recipient)
       SELECT DISTINCT number_id, recipient FROM unnest($1::int[], $2::text[]) AS u(number_id, recipient)
       ORDER BY 1, 2 ON CONFLICT (number_id, recipient) DO UPDATE SET next_at = p.next_at
       RETURNING number_id, recipient, extract(epoch FROM next_at)::float8 * 1000 AS next_ms,
         extract(epoch FROM held_until)::float8 * 1000 AS held_ms`,
      [pairNumbers, recipients],
    ),
  ]);
  const numbers = new Map<number, NumberLimit>(
    numberRows.rows.map((row) => [
      row.number_id,
      { nextMs: row.next_ms, heldMs: row.held_ms, stoppedReason: row.stopped_reason },
    ]),
  );
  const limits = new Map<string, PairLimit>(
    pairRows.rows.map((row) => [
      `${row.number_id} ${row.recipient}`,
      { numberId: row.number_id, recipient: row.recipient, nextMs: row.next_ms, heldMs: row.held_ms },
    ]),
  );
  const touched = new Set<string>();

  return {
    take(asked, nowMs) {
      const key = `${asked.numberId} ${asked.recipient}`;
      const number = numbers.get(asked.numberId)!;
      const pair = limits.get(key)!;
      const intervalMs = 1_000 / rates.perNumberSecond;
      if (number.nextMs > nowMs + horizonMs + intervalMs + clockStepMs) number.nextMs = nowMs;
      if (pair.nextMs > nowMs + rates.pairBurst * rates.pairIntervalMs + clockStepMs) pair.nextMs = nowMs;
      const place = findPlace(number, pair, nowMs, rates);
      if (place.kind === "wait") return place;
      if (number.stoppedReason !== null) number.heldMs = nowMs + trialMs;
      number.nextMs = place.sendAtMs + intervalMs;
      pair.nextMs = Math.max(pair.nextMs, nowMs) + rates.pairIntervalMs;
      touched.add(key);
      return place;
    },
    async save() {
      if (touched.size === 0) return;
      const pairsTouched = [...touched].map((key) => limits.get(key)!);
      const numbersTouched = [...new Set(pairsTouched.map((pair) => pair.numberId))];
      await Promise.all([
        client.query(
          `UPDATE sending_number n SET next_at = to_timestamp(u.next_ms / 1000),
             held_until = greatest(n.held_until, to_timestamp(u.held_ms / 1000))
           FROM unnest($1::int[], $2::float8[], $3::float8[]) AS u(number_id, next_ms, held_ms)
           WHERE n.number_id = u.number_id`,
          [
            plainArray(numbersTouched),
            plainArray(numbersTouched.map((id) => numbers.get(id)!.nextMs)),
            plainArray(numbersTouched.map((id) => numbers.get(id)!.heldMs)),
          ],
        ),
        client.query(
          `UPDATE sending_pair p SET next_at = to_timestamp(u.next_ms / 1000)
           FROM unnest($1::int[], $2::text[], $3::float8[]) AS u(number_id, recipient, next_ms)
           WHERE p.number_id = u.number_id AND p.recipient = u.recipient`,
          [
            plainArray(pairsTouched.map((pair) => pair.numberId)),
            textArray(pairsTouched.map((pair) => pair.recipient)),
            plainArray(pairsTouched.map((pair) => pair.nextMs)),
          ],
        ),
      ]);
    },
  };
}

/** A number's messages are spaced evenly; a recipient's may come in a burst that is paid back later. */
function findPlace(number: NumberLimit, pair: PairLimit, nowMs: number, rates: SendRates): Place {
  if (number.heldMs > nowMs) {
    const why = number.stoppedReason === null ? "held" : "stopped";
    return { kind: "wait", untilMs: number.heldMs, why, reason: number.stoppedReason };
  }
  if (pair.heldMs > nowMs) return { kind: "wait", untilMs: pair.heldMs, why: "held", reason: null };
  const pairFreeMs = pair.nextMs - (rates.pairBurst - 1) * rates.pairIntervalMs;
  if (pairFreeMs > nowMs) return { kind: "wait", untilMs: pairFreeMs, why: "rate", reason: null };
  const sendAtMs = Math.max(nowMs, number.nextMs);
  if (sendAtMs > nowMs + horizonMs) return { kind: "wait", untilMs: sendAtMs, why: "rate", reason: null };
  return { kind: "taken", sendAtMs };
}

/** What an answer of WhatsApp means for others than its message. */
export type LimitChange =
  | { kind: "none" }
  /** A message went through: whatever held number and recipient back when it was sent has ended. */
  | { kind: "cleared" }
  | { kind: "hold_number"; until: Date }
  | { kind: "stop_number"; reason: string; until: Date }
  /** 4^n seconds, n = how often in a row before; what is refused while the recipient is held counts no further. */
  | { kind: "hold_recipient" };

const recipientHoldsMax = 6;

/**
 * @param sentAt  when the message was sent that shows it
 * @returns until when the recipient is held, for `hold_recipient`
 */
export async function changeLimits(
  client: pg.ClientBase,
  { numberId, recipient }: PairAsked,
  change: LimitChange,
  sentAt: Date,
  now: Date,
): Promise<Date | null> {
  switch (change.kind) {
    case "none":
      return null;
    case "cleared":
      await Promise.all([
        client.query(
          `UPDATE sending_number SET stopped_reason = NULL, stopped_at = NULL, held_until = '-infinity'
           WHERE number_id = $1 AND CASE WHEN stopped_reason IS NULL
             THEN held_until > '-infinity' AND held_until <= $2 ELSE stopped_at <= $3 END`,
          [numberId, now, sentAt],
        ),
        client.query(
          `UPDATE sending_pair SET held_in_a_row = 0 WHERE number_id = $1 AND recipient = $2 AND held_in_a_row > 0`,
          [numberId, recipient],
        ),
      ]);
      return null;
    case "hold_number":
      await client.query(
        `INSERT INTO sending_number (number_id, held_until) VALUES ($1, $2)
         ON CONFLICT (number_id) DO UPDATE SET held_until = greatest(sending_number.held_until, $2)`,
        [numberId, change.until],
      );
      return null;
    case "stop_number":
      await client.query(
        `INSERT INTO sending_number (number_id, held_until, stopped_reason, stopped_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (number_id) DO UPDATE SET held_until = $2, stopped_reason = $3,
           stopped_at = coalesce(sending_number.stopped_at, $4)`,
        [numberId, change.until, change.reason, now],
      );
      return null;
    case "hold_recipient": {
      const held = await client.query<{ held_until: Date }>(
        `INSERT INTO sending_pair (number_id, recipient, held_until, held_in_a_row)
         VALUES ($1, $2, $3::timestamptz + interval '1 second', 1)
         ON CONFLICT (number_id, recipient) DO UPDATE SET
           held_until = CASE WHEN sending_pair.held_until > $3 THEN sending_pair.held_until
             ELSE $3::timestamptz + interval '1 second' * 4 ^ sending_pair.held_in_a_row END,
           held_in_a_row = CASE WHEN sending_pair.held_until > $3 THEN sending_pair.held_in_a_row
             ELSE least(sending_pair.held_in_a_row + 1, ${recipientHoldsMax}) END
         RETURNING held_until`,
        [numberId, recipient, now],
      );
      return held.rows[0]!.held_until;
    }
  }
}
