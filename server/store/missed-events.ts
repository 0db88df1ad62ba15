/**
 * Events that have no delivery to a webhook. Nothing leads from an event to its deliveries, but nearly all are made in
 * the same moment: their ids follow the event's within the commit that made both. Those made later (by a recovery, or
 * when an event of nobody found its client) are noted in `late_delivery`, whose key lets each be made once.
 */

import type pg from "pg";
import type { NewDelivery } from "../domain/delivery-claim.ts";
import { firstIdAt, timeOfId } from "../domain/ids.ts";
import { plainArray } from "./array-literals.ts";
import { erasedItem } from "./events.ts";

/** Ids of an event and its deliveries are drawn one after the other; this leaves room for a process that was stopped. */
const madeWithinMs = 60_000;

export interface EventRow {
  id: string;
  type: string;
  clientId: number | null;
  /** What it said is gone with its contact. */
  isErased: boolean;
}

/** The next events of a tenant, oldest first; `[]` at the end. */
export async function readEventRows(
  client: pg.ClientBase | pg.Pool,
  asked: { tenantId: number; afterId: string; beforeId: string },
  limit: number,
): Promise<EventRow[]> {
  const found = await client.query({
    name: "recovery-events",
    text: `SELECT id, type, client_id, item = convert_to($5, 'UTF8') AS is_erased FROM event
      WHERE tenant_id = $1 AND id > $2 AND id < $3 ORDER BY id LIMIT $4`,
    values: [asked.tenantId, asked.afterId, asked.beforeId, limit, erasedItem],
  });
  return found.rows.map((row) => ({
    id: row.id,
    type: row.type,
    clientId: row.client_id,
    isErased: row.is_erased,
  }));
}

/**
 * Those of the events that have a delivery to the webhook.
 *
 * @param eventIds  oldest first
 */
export async function findDelivered(
  client: pg.ClientBase | pg.Pool,
  webhookId: number,
  eventIds: readonly string[],
): Promise<Set<string>> {
  const [firstId, lastId] = [eventIds[0], eventIds.at(-1)];
  if (firstId === undefined || lastId === undefined) return new Set();
  const found = await client.query<{ event_id: string }>({
    name: "recovery-delivered",
    text: `SELECT event_id FROM delivery
      WHERE webhook_id = $1 AND id > $2 AND id < $3 AND event_id = ANY($4::uuid[])
      UNION ALL
      SELECT event_id FROM late_delivery WHERE webhook_id = $1 AND event_id = ANY($4::uuid[])`,
    values: [webhookId, firstId, firstIdAt(timeOfId(lastId) + madeWithinMs), plainArray(eventIds)],
  });
  return new Set(found.rows.map((row) => row.event_id));
}

/**
 * Locks events so that they cannot be erased before this transaction ends.
 *
 * @returns those that are still there and not erased
 */
export async function holdEvents(
  client: pg.ClientBase,
  tenantId: number,
  eventIds: readonly string[],
): Promise<Set<string>> {
  const held = await client.query<{ id: string }>({
    name: "recovery-hold-events",
    text: `SELECT id FROM event WHERE tenant_id = $1 AND id = ANY($2::uuid[]) AND item <> convert_to($3, 'UTF8')
      ORDER BY id FOR SHARE`,
    values: [tenantId, plainArray(eventIds), erasedItem],
  });
  return new Set(held.rows.map((row) => row.id));
}

/**
 * Notes deliveries that are made later than their event. A transaction that notes the same one at the same time is
 * waited for.
 *
 * @returns ids of the events whose delivery nobody has noted before
 */
export async function noteLate(
  client: pg.ClientBase,
  deliveries: readonly Pick<NewDelivery, "eventId" | "webhookId">[],
): Promise<Set<string>> {
  if (deliveries.length === 0) return new Set();
  const noted = await client.query<{ event_id: string }>({
    name: "note-late-deliveries",
    text: `INSERT INTO late_delivery (event_id, webhook_id)
      SELECT * FROM unnest($1::uuid[], $2::int[]) ORDER BY 1, 2 ON CONFLICT DO NOTHING RETURNING event_id`,
    values: [
      plainArray(deliveries.map((one) => one.eventId)),
      plainArray(deliveries.map((one) => one.webhookId)),
    ],
  });
  return new Set(noted.rows.map((row) => row.event_id));
}
