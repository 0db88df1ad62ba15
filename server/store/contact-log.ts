/**
 * What the log has of a contact that is erased. Events are found by their conversations; those without one (statuses,
 * reactions, notices) by the names that they give their user; whole changes, whose user nobody read, and notices of a
 * change by the names as texts in their item. Former names count for the time in which they were the contact's
 * (`contact-names.ts`), and a phone where no other business-scoped id stands beside it, since numbers are recycled.
 */

import type { EntityManager } from "@mikro-orm/postgresql";
import { plainArray, textArray } from "./array-literals.ts";
import type { LoggedName } from "./contact-names.ts";
import type { Contact } from "./contact-records.ts";
import { erasedItem, type StoredDetails } from "./events.ts";

export interface ErasedWith {
  messageCount: number;
  eventCount: number;
  deliveryCount: number;
  /** How many of the deliveries were not finished. */
  canceledCount: number;
}

/** Events that one call of `eraseLogged` empties at most. */
export const batchMax = 1_000;

/** A contact, and all that it goes and went by. */
export interface Named {
  contact: Contact;
  names: LoggedName[];
}

/**
 * Empties up to `batchMax` events of the contact in one table, with their deliveries and the answers to them.
 *
 * @param table   `event`, or one of its partitions
 * @param fromId  only events with this id or a later one; null = all
 */
export async function eraseLogged(
  em: EntityManager,
  tenantId: number,
  { contact, names }: Named,
  table: string,
  fromId: string | null,
  now: Date,
): Promise<ErasedWith> {
  const conversationIds = plainArray(await listConversationIds(em, contact.id));
  // Changes of an account that several clients share are no client's.
  const found = await em.execute<{ id: string; details: string }[]>(
    `SELECT id, details FROM ${table} e
     WHERE tenant_id = ? AND (client_id = ? OR client_id IS NULL) AND (?::uuid IS NULL OR id >= ?::uuid)
       AND item <> convert_to(?, 'UTF8')
       AND (conversation_id = ANY(?::bigint[])
         OR (conversation_id IS NULL AND strpos(details, '"user":null') = 0 AND EXISTS (
           SELECT FROM unnest(?::text[], ?::uuid[], ?::uuid[]) AS n(needle, from_id, until_id)
           WHERE ${isInTime} AND strpos(e.details, n.needle) > 0))
         OR (conversation_id IS NULL
           AND (strpos(details, '"user":null') > 0 OR position('"type":"system"'::bytea IN item) > 0) AND EXISTS (
             SELECT FROM unnest(?::text[], ?::uuid[], ?::uuid[]) AS n(needle, from_id, until_id)
             WHERE ${isInTime} AND position(convert_to(n.needle, 'UTF8') IN e.item) > 0)))
     LIMIT ${batchMax} FOR UPDATE`,
    [
      tenantId,
      contact.clientId,
      fromId,
      fromId,
      erasedItem,
      conversationIds,
      ...boundedArrays(names.map((name) => ({ text: inUser(name), name }))),
      ...boundedArrays(names.flatMap((name) => inItem(name).map((text) => ({ text, name })))),
    ],
  );
  const erased: ErasedWith = {
    messageCount: 0,
    eventCount: found.length,
    deliveryCount: 0,
    canceledCount: 0,
  };
  if (found.length === 0) return erased;
  const failures = await listFailures(em, tenantId, plainArray(found.map(({ id }) => id)));
  const emptied = [...found, ...failures];
  const ids = plainArray(emptied.map(({ id }) => id));
  const deliveries = await em.execute<{ id: string; is_canceled: boolean }[]>(eraseDeliveries, [
    tenantId,
    ids,
    ids,
    erasedItem,
    now,
    now,
  ]);
  erased.deliveryCount = deliveries.length;
  erased.canceledCount = deliveries.filter((one) => one.is_canceled).length;
  await em.execute(eraseAttempts, [plainArray(deliveries.map(({ id }) => id))]);
  await em.execute(
    `UPDATE event e SET item = convert_to(?, 'UTF8'), details = u.details, conversation_id = NULL, sequence = NULL
     FROM unnest(?::uuid[], ?::text[]) AS u(id, details) WHERE e.tenant_id = ? AND e.id = u.id`,
    [erasedItem, ids, textArray(emptied.map(({ details }) => withoutUser(details))), tenantId],
  );
  return erased;
}

/**
 * Events that tell of deliveries of these events that have failed: why may be told in words of the payload. What is not
 * told yet is told without them.
 */
async function listFailures(
  em: EntityManager,
  tenantId: number,
  eventIds: string,
): Promise<{ id: string; details: string }[]> {
  await em.execute(
    `UPDATE gateway_notice SET details = details || '{"reasonDetail":null}'
     WHERE tenant_id = ? AND details ->> 'eventId' = ANY(?::text[]) AND details ->> 'reasonDetail' IS NOT NULL`,
    [tenantId, eventIds],
  );
  return await em.execute<{ id: string; details: string }[]>(
    `SELECT id, details FROM event
     WHERE tenant_id = ? AND id > (SELECT min(one::text)::uuid FROM unnest(?::uuid[]) AS one)
       AND type = 'posthorn.delivery.failed' AND item <> convert_to(?, 'UTF8')
       AND CASE WHEN type = 'posthorn.delivery.failed'
         THEN convert_from(item, 'UTF8')::jsonb #>> '{delivery,event_id}' = ANY(?::text[]) END
     FOR UPDATE`,
    [tenantId, eventIds, erasedItem, eventIds],
  );
}

/** Joined ones included, which the log still names. */
export async function listConversationIds(em: EntityManager, contactId: string): Promise<string[]> {
  const rows = await em.execute<{ id: string }[]>(
    `SELECT id::text FROM conversation WHERE contact_id = ? AND merged_into IS NULL
     UNION ALL SELECT id::text FROM conversation WHERE contact_id = ? AND merged_into IS NOT NULL`,
    [contactId, contactId],
  );
  return rows.map(({ id }) => id);
}

/** True where a name `n` means the contact at the time of event `e`. */
const isInTime = "(n.from_id IS NULL OR e.id >= n.from_id) AND (n.until_id IS NULL OR e.id < n.until_id)";

/** Texts with the bounds of the names that they stand for, as three columns. */
export function boundedArrays(bounded: readonly { text: string; name: LoggedName }[]): string[] {
  return [
    textArray(bounded.map(({ text }) => text)),
    plainArray(bounded.map(({ name }) => name.fromId)),
    plainArray(bounded.map(({ name }) => name.untilId)),
  ];
}

/** As JSON.stringify writes it in `details` (WhatsAppUser). */
function inUser({ kind, name }: LoggedName): string {
  return kind === "phone" ? `"phone":"${name}","bsuid":null` : `"bsuid":${JSON.stringify(name)}`;
}

/** A shorter number may be one of many things. */
const phoneDigitsMin = 7;

/** As WhatsApp writes it in its items, as a text or a number. */
function inItem({ kind, name }: LoggedName): string[] {
  if (kind === "bsuid") return [JSON.stringify(name)];
  const texts = [`"${name}"`, `"+${name}"`];
  return name.length < phoneDigitsMin ? texts : [...texts, `:${name},`, `:${name}}`];
}

function withoutUser(details: string): string {
  const { clientRef, businessPhone } = JSON.parse(details) as StoredDetails;
  const left: StoredDetails = { clientRef, businessPhone, user: null, conversation: null };
  return JSON.stringify(left);
}

/** What is not finished is canceled; an attempt in flight runs on, and leaves nothing of its payload. */
const eraseDeliveries = `
  WITH found AS (
    SELECT webhook_id, id, state FROM delivery
    WHERE tenant_id = ? AND event_id = ANY(?::uuid[]) AND id >= (SELECT min(one::text)::uuid FROM unnest(?::uuid[]) AS one)
      AND erased_at IS NULL
    FOR UPDATE)
  UPDATE delivery d SET
    state = CASE WHEN d.state IN ('pending', 'delivering') THEN 'canceled' ELSE d.state END,
    reason = CASE WHEN d.state IN ('pending', 'delivering') THEN 'contact_deleted' ELSE d.reason END,
    reason_detail = NULL,
    body = CASE WHEN d.body IS NULL THEN NULL ELSE convert_to(?, 'UTF8') END,
    payload_headers = NULL, due_at = NULL,
    finished_at = coalesce(d.finished_at, ?), erased_at = ?
  FROM found WHERE d.webhook_id = found.webhook_id AND d.id = found.id
  RETURNING d.id, found.state IN ('pending', 'delivering') AS is_canceled`;

/** Endpoints may answer with what they were sent. */
const eraseAttempts = `
  UPDATE attempt SET error_message = NULL,
    response_headers = CASE WHEN response_headers IS NULL THEN NULL ELSE '{}' END,
    response_body = CASE WHEN response_body IS NULL THEN NULL ELSE ''::bytea END
  WHERE delivery_id = ANY(?::uuid[])`;
