/**
 * Contacts and conversations of a batch of events, resolved inside the publishing transaction.
 *
 * Contacts are locked first, then their conversations, both in the order of their ids: whatever two transactions know
 * of one contact, they know one after the other, and never wait for each other in a circle. Rows that two transactions
 * make at the same instant meet in the unique indexes: the later one waits, then reads the earlier one's row.
 * `contact-book.ts` says who is who; `contact-merge.ts` makes one conversation of two.
 */

import type pg from "pg";
import { bigintArray, booleanArray, intArray, textArray, uuidArray } from "./binary-arrays.ts";
import { type BookChanges, type ContactAsked, type ContactRow, createBook } from "./contact-book.ts";
import type { ContactMemory, RememberedContact } from "./contact-memory.ts";
import { mergeContacts } from "./contact-merge.ts";
import { noteFormerNames } from "./contact-names.ts";
import { ScopedMap } from "./scoped-map.ts";

export type { ContactAsked, ContactName, ContactRow } from "./contact-book.ts";

/** A conversation whose row this transaction has locked; the numbers are raised in memory, then saved. */
export interface LockedConversation {
  id: string;
  numberId: number;
  contactId: string;
  lastSequence: number;
  lastUserSequence: number;
  lastBotSequence: number;
  /** True if older messages were imported: a new one may be among them. */
  hasImports: boolean;
}

export interface ContactsFound {
  contacts: ContactRow[];
  conversations: LockedConversation[];
}

/**
 * The order of the look-ups is spelled out (a LIMIT keeps each where it stands): a plan that was made while the tables
 * were almost empty would else go through all conversations for every message, until statistics are gathered.
 */
const findContacts = `
  SELECT id, client_id, phone, bsuid, given_name, profile_name, note, note_automation, nullif(labels, '{}') AS labels,
    date_part('epoch', created_at) * 1000 AS created_ms, date_part('epoch', updated_at) * 1000 AS updated_ms
  FROM contact
  WHERE id = ANY($4::uuid[] || ARRAY(
    SELECT owner.id FROM unnest($1::int[], $2::text[]) AS asked(client_id, phone)
      CROSS JOIN LATERAL (
        SELECT c.id FROM contact c WHERE c.client_id = asked.client_id AND c.phone = asked.phone LIMIT 1) AS owner
    UNION ALL
    SELECT owner.id FROM unnest($1::int[], $3::text[]) AS asked(client_id, bsuid)
      CROSS JOIN LATERAL (
        SELECT c.id FROM contact c WHERE c.client_id = asked.client_id AND c.bsuid = asked.bsuid LIMIT 1) AS owner))
  ORDER BY id FOR NO KEY UPDATE`;

const conversationColumns =
  "v.id, v.number_id, v.contact_id, v.last_sequence, v.last_user_sequence, v.last_bot_sequence, v.has_imports";

const lockConversations = `
  SELECT ${conversationColumns} FROM conversation v
  WHERE v.id = ANY($5::bigint[] || ARRAY(
    SELECT found.id FROM unnest($1::int[], $2::text[], $3::int[]) AS asked(client_id, phone, number_id)
      CROSS JOIN LATERAL (
        SELECT c.id FROM contact c WHERE c.client_id = asked.client_id AND c.phone = asked.phone LIMIT 1) AS owner
      CROSS JOIN LATERAL (
        SELECT n.id FROM conversation n
        WHERE n.contact_id = owner.id AND n.number_id = asked.number_id AND n.merged_into IS NULL LIMIT 1) AS found
    UNION ALL
    SELECT found.id FROM unnest($1::int[], $4::text[], $3::int[]) AS asked(client_id, bsuid, number_id)
      CROSS JOIN LATERAL (
        SELECT c.id FROM contact c WHERE c.client_id = asked.client_id AND c.bsuid = asked.bsuid LIMIT 1) AS owner
      CROSS JOIN LATERAL (
        SELECT n.id FROM conversation n
        WHERE n.contact_id = owner.id AND n.number_id = asked.number_id AND n.merged_into IS NULL LIMIT 1) AS found))
    AND v.merged_into IS NULL
  ORDER BY v.id FOR UPDATE`;

/**
 * `findAndLock` with a memory of where contacts were found before.
 *
 * @returns null if the memory was wrong. It has forgotten that then, and the transaction is to be repeated: what it has
 *          locked may be in the way of what it would have to lock now
 */
export async function findRemembered(
  client: pg.ClientBase,
  asked: readonly ContactAsked[],
  memory: ContactMemory,
): Promise<ContactsFound | null> {
  const remembered: { asked: ContactAsked; place: RememberedContact }[] = [];
  const unknown: ContactAsked[] = [];
  for (const one of asked) {
    const place = one.becomes ? undefined : memory.get(one);
    if (place) remembered.push({ asked: one, place });
    else unknown.push(one);
  }
  const found = await findAndLock(
    client,
    unknown,
    remembered.map(({ place }) => place),
  );
  if (remembered.length === 0) return found;
  const contacts = new Map(found.contacts.map((row) => [row.id, row]));
  const conversations = new Map(found.conversations.map((row) => [row.id, row]));
  const wrong = remembered.filter(({ asked: one, place }) => {
    const conversation = conversations.get(place.conversationId);
    const isSame = conversation?.contactId === place.contactId && conversation.numberId === one.numberId;
    return !isSame || !isNamed(contacts.get(place.contactId), one);
  });
  for (const { asked: one } of wrong) memory.forget(one);
  return wrong.length === 0 ? found : null;
}

/** True if looking for the name would have found this row. */
function isNamed(row: ContactRow | undefined, { clientId, phone, bsuid }: ContactAsked): boolean {
  if (row?.clientId !== clientId) return false;
  return (phone === null || row.phone === phone) && (bsuid === null || row.bsuid === bsuid);
}

/**
 * Finds what exists and locks it. Both statements are sent at once; the second sees what the first waited for.
 *
 * @param places  rows to lock with them
 */
export async function findAndLock(
  client: pg.ClientBase,
  asked: readonly ContactAsked[],
  places: readonly RememberedContact[] = [],
): Promise<ContactsFound> {
  if (asked.length + places.length === 0) return { contacts: [], conversations: [] };
  const names = asked.flatMap((one) => {
    const { clientId, numberId, phone, bsuid, becomes } = one;
    const own = { clientId, numberId, phone, bsuid };
    return becomes ? [own, { clientId, numberId, ...becomes }] : [own];
  });
  const clientIds = intArray(names.map((one) => one.clientId));
  const phones = textArray(names.map((one) => one.phone));
  const bsuids = textArray(names.map((one) => one.bsuid));
  const numberIds = intArray(names.map((one) => one.numberId));
  const [contacts, conversations] = await Promise.all([
    client.query({
      name: "find-contacts",
      text: findContacts,
      values: [clientIds, phones, bsuids, uuidArray(places.map((place) => place.contactId))],
    }),
    client.query({
      name: "lock-conversations",
      text: lockConversations,
      values: [
        clientIds,
        phones,
        numberIds,
        bsuids,
        bigintArray(places.map((place) => place.conversationId)),
      ],
    }),
  ]);
  return { contacts: contacts.rows.map(toContact), conversations: conversations.rows.map(toConversation) };
}

export interface ContactBook {
  /** The contact and the locked conversation that an asked one stands for. */
  find(asked: ContactAsked): { contact: ContactRow; conversation: LockedConversation };
  /** True if both names of an asked one are those of one contact, after all that the batch has changed. */
  isPaired(asked: ContactAsked): boolean;
}

/**
 * Makes the contacts and conversations that are missing, notes new names and ids, makes one of contacts that turned out
 * to be one, and gives every asked one its pair. They are taken in the order given, as if each came alone.
 *
 * @param found  the answer of `findAndLock` for the same `asked`, in the same transaction
 * @param newId  a UUID for a new contact
 */
export async function resolveContacts(
  client: pg.ClientBase,
  asked: readonly ContactAsked[],
  found: ContactsFound,
  newId: () => string,
  now: Date,
): Promise<ContactBook> {
  const book = createBook(found.contacts, newId, now);
  for (const one of asked) book.resolve(one);
  const changes = book.changes();
  if (!(await saveChanges(client, changes, newId, now))) {
    // Another transaction made some of them first: what it made counts. The next look sees it.
    const again = await findAndLock(client, asked);
    return await resolveContacts(client, asked, again, newId, now);
  }
  const conversations = new ScopedMap<LockedConversation>();
  const note = (one: LockedConversation) => conversations.set(one.numberId, one.contactId, one);
  const hasMerged = new Set(changes.absorbed.flatMap(({ row, into }) => [row.id, into.id]));
  for (const one of found.conversations) {
    if (!hasMerged.has(one.contactId)) note(one);
  }
  const missing: { contactId: string; numberId: number }[] = [];
  for (const one of asked) {
    if (one.becomes) continue;
    const contactId = book.contactOf(one)!.id;
    if (!conversations.get(one.numberId, contactId)) missing.push({ contactId, numberId: one.numberId });
  }
  if (missing.length > 0) for (const one of await addConversations(client, missing)) note(one);
  return {
    find(one) {
      const contact = book.contactOf(one)!;
      return { contact, conversation: conversations.get(one.numberId, contact.id)! };
    },
    isPaired(one) {
      const contact = book.contactOf(one);
      return (
        contact?.phone === one.phone &&
        contact.bsuid === one.bsuid &&
        one.phone !== null &&
        one.bsuid !== null
      );
    },
  };
}

/**
 * Writes what the book has changed. What gives up a name is written before what takes it.
 *
 * @returns false if another transaction has made one of the new contacts meanwhile; nothing else was to be written then
 * @throws an error with SQLSTATE 23505 if that happens and more was written: the transaction has to be repeated
 */
async function saveChanges(
  client: pg.ClientBase,
  changes: BookChanges,
  newId: () => string,
  now: Date,
): Promise<boolean> {
  const { made, changed, freed, absorbed, formerNames } = changes;
  const nameless = [...freed, ...absorbed.map(({ row }) => row)];
  if (nameless.length > 0) await freeNames(client, nameless);
  if (made.length > 0) {
    const isFirst = await insertContacts(
      client,
      made,
      nameless.length > 0 ? "" : "ON CONFLICT DO NOTHING",
      now,
    );
    if (!isFirst) return false;
  }
  for (const { row, into } of absorbed) await mergeContacts(client, row, into);
  if (changed.length > 0) await updateContacts(client, changed, now);
  if (formerNames.length > 0) await noteFormerNames(client, formerNames, newId());
  return true;
}

/** Saves the sequence numbers of conversations that got messages. */
export function saveConversations(
  client: pg.ClientBase,
  conversations: readonly LockedConversation[],
): Promise<unknown> {
  return client.query({
    name: "save-conversations",
    text: `UPDATE conversation v
      SET last_sequence = u.last_sequence, last_user_sequence = u.user_sequence, last_bot_sequence = u.bot_sequence,
        has_imports = u.has_imports
      FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::boolean[])
        AS u(id, last_sequence, user_sequence, bot_sequence, has_imports)
      WHERE v.id = u.id`,
    values: [
      bigintArray(conversations.map((one) => one.id)),
      bigintArray(conversations.map((one) => one.lastSequence)),
      bigintArray(conversations.map((one) => one.lastUserSequence)),
      bigintArray(conversations.map((one) => one.lastBotSequence)),
      booleanArray(conversations.map((one) => one.hasImports)),
    ],
  });
}

/** Placeholders make room for names that move between contacts; the rows get their names back, or go. */
async function freeNames(client: pg.ClientBase, rows: readonly ContactRow[]): Promise<void> {
  await client.query({
    name: "free-contact-names",
    text: "UPDATE contact SET phone = NULL, bsuid = 'moving ' || id WHERE id = ANY($1::uuid[])",
    values: [uuidArray(rows.map((row) => row.id))],
  });
}

/** True if all of them are new. */
async function insertContacts(
  client: pg.ClientBase,
  rows: readonly ContactRow[],
  onConflict: "" | "ON CONFLICT DO NOTHING",
  now: Date,
): Promise<boolean> {
  const inserted = await client.query({
    name: onConflict === "" ? "insert-contacts" : "insert-contacts-unless-there",
    text: `INSERT INTO contact (id, client_id, phone, bsuid, profile_name, created_at, updated_at)
      SELECT u.id, u.client_id, u.phone, u.bsuid, u.profile_name, $6, $6
      FROM unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::text[])
        AS u(id, client_id, phone, bsuid, profile_name)
      ORDER BY u.client_id, u.phone, u.bsuid
      ${onConflict}`,
    values: [
      uuidArray(rows.map((row) => row.id)),
      intArray(rows.map((row) => row.clientId)),
      textArray(rows.map((row) => row.phone)),
      textArray(rows.map((row) => row.bsuid)),
      textArray(rows.map((row) => row.profileName)),
      now,
    ],
  });
  return inserted.rowCount === rows.length;
}

async function updateContacts(client: pg.ClientBase, rows: readonly ContactRow[], now: Date): Promise<void> {
  await client.query({
    name: "update-contacts",
    text: `UPDATE contact c SET phone = u.phone, bsuid = u.bsuid, profile_name = u.profile_name,
        given_name = u.given_name, note = u.note, note_automation = u.note_automation,
        labels = ARRAY(SELECT jsonb_array_elements_text(u.labels::jsonb)), updated_at = $9
      FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[])
        AS u(id, phone, bsuid, profile_name, given_name, note, note_automation, labels)
      WHERE c.id = u.id`,
    values: [
      uuidArray(rows.map((row) => row.id)),
      textArray(rows.map((row) => row.phone)),
      textArray(rows.map((row) => row.bsuid)),
      textArray(rows.map((row) => row.profileName)),
      textArray(rows.map((row) => row.givenName)),
      textArray(rows.map((row) => row.note)),
      textArray(rows.map((row) => row.noteAutomation)),
      textArray(rows.map((row) => JSON.stringify(row.labels))),
      now,
    ],
  });
}

/** Makes the conversations that do not exist yet, and locks them all the same if another transaction was first. */
async function addConversations(
  client: pg.ClientBase,
  pairs: readonly { contactId: string; numberId: number }[],
): Promise<LockedConversation[]> {
  const contactIds = uuidArray(pairs.map((one) => one.contactId));
  const numberIds = intArray(pairs.map((one) => one.numberId));
  const [, locked] = await Promise.all([
    client.query({
      name: "insert-conversations",
      text: `INSERT INTO conversation (contact_id, number_id)
        SELECT contact_id, number_id FROM unnest($1::uuid[], $2::int[]) AS u(contact_id, number_id)
        ORDER BY contact_id, number_id ON CONFLICT DO NOTHING`,
      values: [contactIds, numberIds],
    }),
    client.query({
      name: "lock-new-conversations",
      text: `SELECT ${conversationColumns} FROM conversation v
        WHERE v.id = ANY(ARRAY(
          SELECT found.id FROM unnest($1::uuid[], $2::int[]) AS made(contact_id, number_id)
            CROSS JOIN LATERAL (
              SELECT n.id FROM conversation n
              WHERE n.contact_id = made.contact_id AND n.number_id = made.number_id AND n.merged_into IS NULL
              LIMIT 1) AS found))
        ORDER BY v.id FOR UPDATE`,
      values: [contactIds, numberIds],
    }),
  ]);
  return locked.rows.map(toConversation);
}

// biome-ignore lint/suspicious/noExplicitAny: rows of the statements above
function toContact(row: any): ContactRow {
  return {
    id: row.id,
    clientId: row.client_id,
    phone: row.phone,
    bsuid: row.bsuid,
    givenName: row.given_name,
    profileName: row.profile_name,
    note: row.note,
    noteAutomation: row.note_automation,
    labels: row.labels ?? [],
    createdAt: new Date(row.created_ms),
    updatedAt: new Date(row.updated_ms),
  };
}

// biome-ignore lint/suspicious/noExplicitAny: rows of the statements above
function toConversation(row: any): LockedConversation {
  return {
    id: row.id,
    numberId: row.number_id,
    contactId: row.contact_id,
    lastSequence: Number(row.last_sequence),
    lastUserSequence: Number(row.last_user_sequence),
    lastBotSequence: Number(row.last_bot_sequence),
    hasImports: row.has_imports,
  };
}
