/** The messages that one answer scheduled, among themselves: each waits for the outcome of the one before. */

import type pg from "pg";
import { plainArray } from "./array-literals.ts";

/** After an unclear outcome the next message of the answer waits this long for a status that clears it up. */
const unclearHoldMs = 60_000;

/**
 * Makes those who end messages of the same answers take turns, the first message of an answer standing for it. Without
 * that, two that end neighbours at the same moment each see the other's as under way, and the one behind them waits for
 * ever. Also locks the messages themselves.
 */
export async function lockAnswers(client: pg.ClientBase, messageIds: readonly string[]): Promise<void> {
  await client.query({
    name: "lock-answers",
    text: `SELECT FROM outgoing_message
      WHERE id = ANY($1::uuid[]) OR (position = 0 AND delivery_id = ANY(ARRAY(
        SELECT delivery_id FROM outgoing_message WHERE id = ANY($1::uuid[]) AND delivery_id IS NOT NULL)))
      ORDER BY coalesce(position, 0) > 0, id FOR UPDATE`,
    values: [plainArray(messageIds)],
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

/** Lets the message go whose turn it is, once nothing before it is under way. The caller holds the answers' lock. */
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
