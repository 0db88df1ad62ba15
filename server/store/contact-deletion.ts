/**
 * Erases a contact and what the log has of it. The log goes first, in the order deliveries, then events: whatever ends
 * this halfway, the contact and its events are still there to find the rest by when it is repeated. What came in
 * meanwhile is erased with the contact itself, under the lock that keeps further events out.
 */

import { isDeepStrictEqual } from "node:util";
import type { EntityManager } from "@mikro-orm/postgresql";
import { GatewayError } from "../domain/errors.ts";
import { firstIdAt } from "../domain/ids.ts";
import type { Access } from "./access.ts";
import { plainArray, textArray } from "./array-literals.ts";
import { noteAudit } from "./audit.ts";
import {
  batchMax,
  boundedArrays,
  type ErasedWith,
  eraseLogged,
  listConversationIds,
  type Named,
} from "./contact-log.ts";
import { type LoggedName, listNames } from "./contact-names.ts";
import { type Contact, getContact, lockContact } from "./contact-records.ts";
import { isRepeatable, isTableGone } from "./faults.ts";
import { eraseMalformed } from "./malformed.ts";
import type { Database } from "./orm.ts";

const attemptsMax = 5;
const roundsMax = 5;
/** An event's id is minted before its commit: what may come after the first look is looked for from here. */
const overlapMs = 120_000;

/**
 * @throws GatewayError `not_found`, also for a contact that the owner may not see; `unavailable` if it goes by other names
 *         each time that its log has been erased
 */
export async function deleteContact(
  database: Database,
  access: Access,
  userId: string,
  now: Date,
): Promise<ErasedWith> {
  const erased: ErasedWith = { messageCount: 0, eventCount: 0, deliveryCount: 0, canceledCount: 0 };
  for (let round = 1; round <= roundsMax; round++) {
    const contact = await getContact(database, access, userId);
    const named: Named = { contact, names: await listNames(database.em(), contact) };
    add(erased, await eraseLog(database, access.tenantId, named, now));
    const last = await repeating(() =>
      database.em().transactional((em) => eraseContact(em as EntityManager, access, named, now)),
    );
    if (last === null) continue;
    add(erased, last);
    return erased;
  }
  throw new GatewayError("unavailable", "the contact changes its names all the time, try again");
}

/** What lies in the log and among kept bodies so far, in transactions of their own. */
async function eraseLog(database: Database, tenantId: number, named: Named, now: Date): Promise<ErasedWith> {
  const erased: ErasedWith = { messageCount: 0, eventCount: 0, deliveryCount: 0, canceledCount: 0 };
  for (const partition of await listPartitions(database.em())) {
    for (;;) {
      const found = await repeating(() =>
        database
          .em()
          .transactional((em) => eraseLogged(em as EntityManager, tenantId, named, partition, null, now)),
      ).catch((error: unknown) => {
        // Retention has dropped the day meanwhile, with all that was in it.
        if (isTableGone(error)) return null;
        throw error;
      });
      if (found === null) break;
      add(erased, found);
      if (found.eventCount < batchMax) break;
    }
  }
  const { contact, names } = named;
  await eraseMalformed(database.em(), tenantId, names, contact.profileName);
  return erased;
}

/** Everything that is left, in one transaction. Null if it goes by other names than those that the log was searched for. */
async function eraseContact(
  em: EntityManager,
  access: Access,
  searched: Named,
  now: Date,
): Promise<ErasedWith | null> {
  const { tenantId, actor } = access;
  const contact = await lockContact(em, access, searched.contact.id);
  const names = await listNames(em, contact);
  if (contact.id !== searched.contact.id || !isDeepStrictEqual(names, searched.names)) return null;
  const erased: ErasedWith = { messageCount: 0, eventCount: 0, deliveryCount: 0, canceledCount: 0 };
  const fromId = firstIdAt(now.getTime() - overlapMs);
  for (;;) {
    const found = await eraseLogged(em, tenantId, searched, "event", fromId, now);
    add(erased, found);
    if (found.eventCount < batchMax) break;
  }
  const conversationIds = plainArray(await listConversationIds(em, contact.id));
  const messages = await em.execute<unknown[]>(
    "DELETE FROM message WHERE conversation_id = ANY(?::bigint[]) RETURNING 1",
    [conversationIds],
  );
  erased.messageCount = messages.length;
  await eraseOutgoing(em, contact, names, conversationIds);
  await em.execute("DELETE FROM conversation WHERE id = ANY(?::bigint[])", [conversationIds]);
  await em.execute("DELETE FROM contact WHERE id = ?", [contact.id]);
  const changes = { messages: erased.messageCount };
  await noteAudit(em, { tenantId, actor, action: "contact.deleted", subjectId: contact.id, changes }, now);
  return erased;
}

async function eraseOutgoing(
  em: EntityManager,
  { clientId }: Contact,
  names: readonly LoggedName[],
  conversationIds: string,
): Promise<void> {
  const phones = names.filter(({ kind }) => kind === "phone");
  const bsuids = textArray(names.filter(({ kind }) => kind === "bsuid").map(({ name }) => name));
  await em.execute("DELETE FROM outgoing_message WHERE client_id = ? AND bsuid = ANY(?::text[])", [
    clientId,
    bsuids,
  ]);
  await em.execute(
    `DELETE FROM outgoing_message m USING unnest(?::text[], ?::uuid[], ?::uuid[]) AS n(phone, from_id, until_id)
     WHERE m.client_id = ? AND m.phone = n.phone AND m.bsuid IS NULL
       AND (n.from_id IS NULL OR m.id >= n.from_id) AND (n.until_id IS NULL OR m.id < n.until_id)`,
    [...boundedArrays(phones.map((name) => ({ text: name.name, name }))), clientId],
  );
  const present = names.filter(({ untilId }) => untilId === null);
  await em.execute(
    `DELETE FROM sending_pair WHERE recipient = ANY(?::text[]) AND number_id = ANY(ARRAY(
       SELECT id FROM phone_number WHERE client_id = ?
       UNION SELECT number_id FROM conversation WHERE id = ANY(?::bigint[])))`,
    [textArray(present.map(({ name }) => name)), clientId, conversationIds],
  );
}

async function listPartitions(em: EntityManager): Promise<string[]> {
  const rows = await em.execute<{ name: string }[]>(
    "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'event'::regclass ORDER BY 1",
  );
  return rows.map(({ name }) => name);
}

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
