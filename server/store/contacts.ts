/**
 * Contacts and conversations of a batch of events, resolved inside the publishing transaction.
 *
 * A contact is one WhatsApp user as one client knows it. The business-scoped id decides; a phone finds the contact
 * only if that contact has no other business-scoped id (numbers are recycled). Rows that two transactions make at the
 * same instant meet in the unique indexes: the later one waits, then reads the earlier one's row.
 */

import type pg from "pg";
import { plainArray, textArray } from "./arrays.ts";

/** A WhatsApp user in one client's eyes, asked for together with the number that they wrote to. */
export interface ContactAsked {
  clientId: number;
  /** Row id of the business number. */
  numberId: number;
  phone: string | null;
  bsuid: string | null;
  profileName: string | null;
}

export interface ContactRow {
  id: string;
  clientId: number;
  phone: string | null;
  bsuid: string | null;
  givenName: string | null;
  profileName: string | null;
  note: string;
  noteAutomation: string;
  labels: string[];
}

/** A conversation whose row this transaction has locked; the numbers are raised in memory, then saved. */
export interface LockedConversation {
  id: string;
  numberId: number;
  contactId: string;
  lastSequence: number;
  lastUserSequence: number;
  lastBotSequence: number;
}

export interface ContactsFound {
  contacts: ContactRow[];
  conversations: LockedConversation[];
}

const findContacts = `
  SELECT id, client_id, phone, bsuid, given_name, profile_name, note, note_automation, labels FROM contact
  WHERE id IN (
    SELECT c.id FROM unnest($1::int[], $2::text[]) AS asked(client_id, phone)
      JOIN contact c ON c.client_id = asked.client_id AND c.phone = asked.phone
    UNION ALL
    SELECT c.id FROM unnest($1::int[], $3::text[]) AS asked(client_id, bsuid)
      JOIN contact c ON c.client_id = asked.client_id AND c.bsuid = asked.bsuid)`;

/** Ordered by id, so that two transactions that lock the same conversations never wait for each other in a circle. */
const lockConversations = `
  SELECT id, number_id, contact_id, last_sequence, last_user_sequence, last_bot_sequence FROM conversation
  WHERE id IN (
    SELECT v.id FROM unnest($1::int[], $2::text[], $3::int[]) AS asked(client_id, phone, number_id)
      JOIN contact c ON c.client_id = asked.client_id AND c.phone = asked.phone
      JOIN conversation v ON v.contact_id = c.id AND v.number_id = asked.number_id
    UNION ALL
    SELECT v.id FROM unnest($1::int[], $4::text[], $3::int[]) AS asked(client_id, bsuid, number_id)
      JOIN contact c ON c.client_id = asked.client_id AND c.bsuid = asked.bsuid
      JOIN conversation v ON v.contact_id = c.id AND v.number_id = asked.number_id)
  ORDER BY id FOR UPDATE`;

/** Finds what exists, and locks the conversations among it. Both statements are sent at once. */
export async function findAndLock(
  client: pg.ClientBase,
  asked: readonly ContactAsked[],
): Promise<ContactsFound> {
  if (asked.length === 0) return { contacts: [], conversations: [] };
  const clientIds = plainArray(asked.map((one) => one.clientId));
  const phones = textArray(asked.map((one) => one.phone));
  const bsuids = textArray(asked.map((one) => one.bsuid));
  const numberIds = plainArray(asked.map((one) => one.numberId));
  const [contacts, conversations] = await Promise.all([
    client.query({ name: "find-contacts", text: findContacts, values: [clientIds, phones, bsuids] }),
    client.query({
      name: "lock-conversations",
      text: lockConversations,
      values: [clientIds, phones, numberIds, bsuids],
    }),
  ]);
  return { contacts: contacts.rows.map(toContact), conversations: conversations.rows.map(toConversation) };
}

export interface ContactBook {
  /** The contact and the locked conversation that an asked one stands for. */
  find(asked: ContactAsked): { contact: ContactRow; conversation: LockedConversation };
}

/**
 * Makes the contacts and conversations that are missing, notes new names and ids, and gives every asked one its pair.
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
  const book = createBook(found);
  const made: ContactRow[] = [];
  const changed = new Set<ContactRow>();
  const freed: ContactRow[] = [];
  for (const one of asked) {
    const contact = book.contactOf(one);
    if (contact) {
      if (applyNames(book, contact, one)) changed.add(contact);
      continue;
    }
    // The number has another owner now: the former one keeps its business-scoped id only.
    const former = one.phone === null ? undefined : book.byPhone(one.clientId, one.phone);
    if (former) {
      book.dropPhone(former);
      freed.push(former);
    }
    const row: ContactRow = {
      id: newId(),
      clientId: one.clientId,
      phone: one.phone,
      bsuid: one.bsuid,
      givenName: null,
      profileName: one.profileName,
      note: "",
      noteAutomation: "",
      labels: [],
    };
    book.add(row);
    made.push(row);
  }
  if (freed.length > 0) await freePhones(client, freed, now);
  const updates = [...changed].filter((row) => !made.includes(row));
  if (updates.length > 0) await updateContacts(client, updates, now);
  if (made.length > 0 && (await insertContacts(client, made, now)) < made.length) {
    // Another transaction made some of them first: what it made counts. The next look sees it.
    const again = await findAndLock(client, asked);
    return await resolveContacts(client, asked, again, newId, now);
  }
  await addConversations(client, asked, book);
  return {
    find(one) {
      const contact = book.contactOf(one)!;
      return { contact, conversation: book.conversationOf(contact.id, one.numberId)! };
    },
  };
}

/** Saves the sequence numbers of conversations that got messages. */
export function saveConversations(
  client: pg.ClientBase,
  conversations: readonly LockedConversation[],
): Promise<unknown> {
  return client.query({
    name: "save-conversations",
    text: `UPDATE conversation v
      SET last_sequence = u.last_sequence, last_user_sequence = u.user_sequence, last_bot_sequence = u.bot_sequence
      FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])
        AS u(id, last_sequence, user_sequence, bot_sequence)
      WHERE v.id = u.id`,
    values: [
      plainArray(conversations.map((one) => one.id)),
      plainArray(conversations.map((one) => one.lastSequence)),
      plainArray(conversations.map((one) => one.lastUserSequence)),
      plainArray(conversations.map((one) => one.lastBotSequence)),
    ],
  });
}

function createBook(found: ContactsFound) {
  const phones = new Map<string, ContactRow>();
  const bsuids = new Map<string, ContactRow>();
  const conversations = new Map<string, LockedConversation>();
  const book = {
    add(row: ContactRow) {
      if (row.phone !== null) phones.set(`${row.clientId} ${row.phone}`, row);
      if (row.bsuid !== null) bsuids.set(`${row.clientId} ${row.bsuid}`, row);
    },
    dropPhone(row: ContactRow) {
      phones.delete(`${row.clientId} ${row.phone}`);
      row.phone = null;
    },
    byPhone: (clientId: number, phone: string) => phones.get(`${clientId} ${phone}`),
    contactOf(asked: ContactAsked): ContactRow | undefined {
      const owner = asked.bsuid === null ? undefined : bsuids.get(`${asked.clientId} ${asked.bsuid}`);
      if (owner || asked.phone === null) return owner;
      const holder = phones.get(`${asked.clientId} ${asked.phone}`);
      const isAnother = asked.bsuid !== null && holder?.bsuid != null;
      return isAnother ? undefined : holder;
    },
    addConversation(row: LockedConversation) {
      conversations.set(`${row.contactId} ${row.numberId}`, row);
    },
    conversationOf: (contactId: string, numberId: number) => conversations.get(`${contactId} ${numberId}`),
  };
  for (const row of found.contacts) book.add(row);
  for (const row of found.conversations) book.addConversation(row);
  return book;
}

type Book = ReturnType<typeof createBook>;

/** Takes over a new profile name, and an id that the contact did not have yet; true if anything changed. */
function applyNames(book: Book, contact: ContactRow, asked: ContactAsked): boolean {
  let isChanged = false;
  if (asked.profileName !== null && asked.profileName !== contact.profileName) {
    contact.profileName = asked.profileName;
    isChanged = true;
  }
  if (contact.bsuid === null && asked.bsuid !== null) {
    contact.bsuid = asked.bsuid;
    book.add(contact);
    isChanged = true;
  }
  if (contact.phone === null && asked.phone !== null && !book.byPhone(contact.clientId, asked.phone)) {
    contact.phone = asked.phone;
    book.add(contact);
    isChanged = true;
  }
  return isChanged;
}

async function insertContacts(
  client: pg.ClientBase,
  rows: readonly ContactRow[],
  now: Date,
): Promise<number> {
  const inserted = await client.query({
    name: "insert-contacts",
    text: `INSERT INTO contact (id, client_id, phone, bsuid, profile_name, created_at, updated_at)
      SELECT u.id, u.client_id, u.phone, u.bsuid, u.profile_name, $6, $6
      FROM unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::text[])
        AS u(id, client_id, phone, bsuid, profile_name)
      ORDER BY u.client_id, u.phone, u.bsuid
      ON CONFLICT DO NOTHING`,
    values: [
      plainArray(rows.map((row) => row.id)),
      plainArray(rows.map((row) => row.clientId)),
      textArray(rows.map((row) => row.phone)),
      textArray(rows.map((row) => row.bsuid)),
      textArray(rows.map((row) => row.profileName)),
      now,
    ],
  });
  return inserted.rowCount ?? 0;
}

async function updateContacts(client: pg.ClientBase, rows: readonly ContactRow[], now: Date): Promise<void> {
  await client.query({
    name: "update-contacts",
    text: `UPDATE contact c SET phone = u.phone, bsuid = u.bsuid, profile_name = u.profile_name, updated_at = $5
      FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS u(id, phone, bsuid, profile_name)
      WHERE c.id = u.id`,
    values: [
      plainArray(rows.map((row) => row.id)),
      textArray(rows.map((row) => row.phone)),
      textArray(rows.map((row) => row.bsuid)),
      textArray(rows.map((row) => row.profileName)),
      now,
    ],
  });
}

async function freePhones(client: pg.ClientBase, rows: readonly ContactRow[], now: Date): Promise<void> {
  await client.query({
    name: "free-phones",
    text: "UPDATE contact SET phone = NULL, updated_at = $2 WHERE id = ANY($1::uuid[])",
    values: [plainArray(rows.map((row) => row.id)), now],
  });
}

/** Makes the conversations that do not exist yet, and locks them all the same if another transaction was first. */
async function addConversations(
  client: pg.ClientBase,
  asked: readonly ContactAsked[],
  book: Book,
): Promise<void> {
  const missing = new Map<string, { contactId: string; numberId: number }>();
  for (const one of asked) {
    const contactId = book.contactOf(one)!.id;
    if (!book.conversationOf(contactId, one.numberId)) {
      missing.set(`${contactId} ${one.numberId}`, { contactId, numberId: one.numberId });
    }
  }
  if (missing.size === 0) return;
  const contactIds = plainArray([...missing.values()].map((one) => one.contactId));
  const numberIds = plainArray([...missing.values()].map((one) => one.numberId));
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
      text: `SELECT v.id, v.number_id, v.contact_id, v.last_sequence, v.last_user_sequence, v.last_bot_sequence
        FROM conversation v
        WHERE (v.contact_id, v.number_id) IN (SELECT * FROM unnest($1::uuid[], $2::int[]))
        ORDER BY v.id FOR UPDATE`,
      values: [contactIds, numberIds],
    }),
  ]);
  for (const row of locked.rows) book.addConversation(toConversation(row));
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
    labels: row.labels,
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
  };
}
