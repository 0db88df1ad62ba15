/**
 * Erases a contact and what the log has of it. The log goes first, in the order deliveries, then events: whatever ends
 * this halfway, the contact and its events are still there to find the rest by when it is repeated. What came in
 * meanwhile is erased with the contact itself, under the lock that keeps further events out.
 *
 * Events are found by their conversations; those without one (statuses, reactions, notices) by the names that they give
 * their user; whole changes, whose user nobody read, by the names as texts in their item. A phone counts where no other
 * business-scoped id stands beside it, since numbers are recycled.
 */

import type { EntityManager } from "@mikro-orm/postgresql";
import { firstIdAt } from "../domain/ids.ts";
import type { Access } from "./access.ts";
import { plainArray, textArray } from "./arrays.ts";
import { noteAudit } from "./audit.ts";
import { type Contact, getContact, lockContact } from "./contact-records.ts";
import type { StoredDetails } from "./events.ts";
import { isRepeatable } from "./faults.ts";
import type { Database } from "./orm.ts";

export interface ErasedWith {
  messageCount: number;
  eventCount: number;
  deliveryCount: number;
  /** How many of the deliveries were not finished. */
  canceledCount: number;
}

/** What stands in the place of an item or body that was erased. */
const marker = '{"erased":true}';
const attemptsMax = 5;
const batchMax = 1_000;
/** An event's id is minted before its commit: what may come after the first look is looked for from here. */
const overlapMs = 120_000;

/**
 * @throws GatewayError `not_found`, also for a contact that the owner may not see
 */
export async function deleteContact(
  database: Database,
  access: Access,
  userId: string,
  now: Date,
): Promise<ErasedWith> {
  const contact = await getContact(database, access, userId);
  const erased: ErasedWith = { messageCount: 0, eventCount: 0, deliveryCount: 0, canceledCount: 0 };
  for (const partition of await listPartitions(database.em())) {
    for (;;) {
      const found = await repeating(() =>
        database
          .em()
          .transactional((em) =>
            eraseLogged(em as EntityManager, access.tenantId, contact, partition, null, now),
          ),
      );
      add(erased, found);
      if (found.eventCount < batchMax) break;
    }
  }
  const last = await repeating(() =>
    database.em().transactional((em) => eraseContact(em as EntityManager, access, contact.id, now)),
  );
  add(erased, last);
  return erased;
}

/** Everything that is left, in one transaction. */
async function eraseContact(
  em: EntityManager,
  access: Access,
  userId: string,
  now: Date,
): Promise<ErasedWith> {
  const { tenantId, actor } = access;
  const contact = await lockContact(em, access, userId);
  const erased: ErasedWith = { messageCount: 0, eventCount: 0, deliveryCount: 0, canceledCount: 0 };
  const fromId = firstIdAt(now.getTime() - overlapMs);
  for (;;) {
    const found = await eraseLogged(em, tenantId, contact, "event", fromId, now);
    add(erased, found);
    if (found.eventCount < batchMax) break;
  }
  const conversationIds = plainArray(await listConversationIds(em, contact.id));
  const messages = await em.execute<unknown[]>(
    "DELETE FROM message WHERE conversation_id = ANY(?::bigint[]) RETURNING 1",
    [conversationIds],
  );
  erased.messageCount = messages.length;
  const names = textArray([contact.phone, contact.bsuid].filter((name) => name !== null));
  await em.execute("DELETE FROM outgoing_message WHERE client_id = ? AND (phone = ? OR bsuid = ?)", [
    contact.clientId,
    contact.phone,
    contact.bsuid,
  ]);
  await em.execute(
    `DELETE FROM sending_pair WHERE recipient = ANY(?::text[])
     AND number_id IN (SELECT number_id FROM conversation WHERE id = ANY(?::bigint[]))`,
    [names, conversationIds],
  );
  await em.execute("DELETE FROM conversation WHERE id = ANY(?::bigint[])", [conversationIds]);
  await em.execute("DELETE FROM contact WHERE id = ?", [contact.id]);
  const changes = { messages: erased.messageCount };
  await noteAudit(em, { tenantId, actor, action: "contact.deleted", subjectId: contact.id, changes }, now);
  return erased;
}

/** Joined ones included, which the log still names. */
async function listConversationIds(em: EntityManager, contactId: string): Promise<string[]> {
  const rows = await em.execute<{ id: string }[]>(
    `SELECT id::text FROM conversation WHERE contact_id = ? AND merged_into IS NULL
     UNION ALL SELECT id::text FROM conversation WHERE contact_id = ? AND merged_into IS NOT NULL`,
    [contactId, contactId],
  );
  return rows.map(({ id }) => id);
}

async function listPartitions(em: EntityManager): Promise<string[]> {
  const rows = await em.execute<{ name: string }[]>(
    "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'event'::regclass ORDER BY 1",
  );
  return rows.map(({ name }) => name);
}

/**
 * Empties up to `batchMax` events of the contact in one table, with their deliveries and the answers to them.
 *
 * @param table   `event`, or one of its partitions
 * @param fromId  only events with this id or a later one; null = all
 */
async function eraseLogged(
  em: EntityManager,
  tenantId: number,
  contact: Contact,
  table: string,
  fromId: string | null,
  now: Date,
): Promise<ErasedWith> {
  const conversationIds = plainArray(await listConversationIds(em, contact.id));
  const { userNeedles, itemNeedles } = needlesOf(contact);
  const found = await em.execute<{ id: string; details: string }[]>(
    `SELECT id, details FROM ${table} e
     WHERE tenant_id = ? AND client_id = ? AND (?::uuid IS NULL OR id >= ?::uuid)
       AND item <> convert_to(?, 'UTF8')
       AND (conversation_id = ANY(?::bigint[])
         OR (conversation_id IS NULL AND CASE WHEN strpos(details, '"user":null') > 0
           THEN EXISTS (SELECT FROM unnest(?::text[]) AS n(needle) WHERE position(convert_to(needle, 'UTF8') IN e.item) > 0)
           ELSE EXISTS (SELECT FROM unnest(?::text[]) AS n(needle) WHERE strpos(e.details, needle) > 0) END))
     LIMIT ${batchMax}`,
    [
      tenantId,
      contact.clientId,
      fromId,
      fromId,
      marker,
      conversationIds,
      textArray(itemNeedles),
      textArray(userNeedles),
    ],
  );
  const erased: ErasedWith = {
    messageCount: 0,
    eventCount: found.length,
    deliveryCount: 0,
    canceledCount: 0,
  };
  if (found.length === 0) return erased;
  const ids = plainArray(found.map(({ id }) => id));
  const deliveries = await em.execute<{ id: string; is_canceled: boolean }[]>(eraseDeliveries, [
    tenantId,
    ids,
    ids,
    marker,
    now,
    now,
  ]);
  erased.deliveryCount = deliveries.length;
  erased.canceledCount = deliveries.filter((one) => one.is_canceled).length;
  await em.execute(eraseAttempts, [plainArray(deliveries.map(({ id }) => id))]);
  await em.execute(
    `UPDATE event e SET item = convert_to(?, 'UTF8'), details = u.details, conversation_id = NULL, sequence = NULL
     FROM unnest(?::uuid[], ?::text[]) AS u(id, details) WHERE e.tenant_id = ? AND e.id = u.id`,
    [marker, ids, textArray(found.map(({ details }) => withoutUser(details))), tenantId],
  );
  return erased;
}

/** As JSON.stringify writes them in `details` (WhatsAppUser) and WhatsApp in its items. */
function needlesOf({ phone, bsuid }: Contact): { userNeedles: string[]; itemNeedles: string[] } {
  const userNeedles: string[] = [];
  const itemNeedles: string[] = [];
  if (bsuid !== null) {
    userNeedles.push(`"bsuid":${JSON.stringify(bsuid)}`);
    itemNeedles.push(JSON.stringify(bsuid));
  }
  if (phone !== null) {
    userNeedles.push(`"phone":"${phone}","bsuid":null`);
    itemNeedles.push(`"${phone}"`, `"+${phone}"`);
  }
  return { userNeedles, itemNeedles };
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

function add(sum: ErasedWith, one: ErasedWith): void {
  sum.messageCount += one.messageCount;
  sum.eventCount += one.eventCount;
  sum.deliveryCount += one.deliveryCount;
  sum.canceledCount += one.canceledCount;
}

/** Attempts that are recorded at the same time lock the same rows, in another order. */
async function repeating<T>(change: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await change();
    } catch (error) {
      if (!isRepeatable(error) || attempt === attemptsMax) throw error;
    }
  }
}
