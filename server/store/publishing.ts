/**
 * The statements of the publishing transaction, which makes events, conversations and deliveries durable together.
 * The connection is pipelined: `openPublishing` sends its statements in one go and `commitPublishing` the rest,
 * so that a commit costs two round trips however many events share it.
 */

import type pg from "pg";
import type { NewDelivery } from "../domain/delivery-claim.ts";
import type { DeliveryQueue } from "../domain/delivery-queue.ts";
import type { ConversationEntry, Revision } from "../domain/event.ts";
import { bigintArray, instantArray, intArray, textArray, utf8Array, uuidArray } from "./binary-arrays.ts";
import { lockConfigurationShared, readConfigurationVersion } from "./configuration.ts";
import type { ContactMemory } from "./contact-memory.ts";
import {
  type ContactAsked,
  type ContactsFound,
  findRemembered,
  type LockedConversation,
  saveConversations,
} from "./contacts.ts";
import { type KeyAsked, takeKeys } from "./dedup-keys.ts";
import { fillImports, hideImports, insertImports, type NewImport, type NewImportFile } from "./imports.ts";
import { insertMediaLinks, type NewMediaLink } from "./media-links.ts";

export interface Opened {
  configurationVersion: bigint;
  /** Positions of the keys that were taken: their items are new. */
  fresh: Set<number>;
  /** Null if the memory was wrong: it is mended, and the transaction is to be repeated. */
  found: ContactsFound | null;
}

/** Begins the transaction and takes the shared configuration lock: until its end no configuration changes. */
export async function beginPublishing(client: pg.ClientBase): Promise<void> {
  await Promise.all([client.query("BEGIN"), client.query(lockConfigurationShared)]);
}

/**
 * Begins the transaction, unless it has begun: takes the shared configuration lock, claims the duplicate keys, finds and
 * locks contacts and conversations.
 *
 * @param memory  where contacts were found before
 */
export async function openPublishing(
  client: pg.ClientBase,
  keys: readonly KeyAsked[],
  contacts: readonly ContactAsked[],
  now: Date,
  isBegun: boolean,
  memory: ContactMemory,
): Promise<Opened> {
  const [, version, fresh, found] = await Promise.all([
    isBegun ? null : beginPublishing(client),
    client.query<{ version: string }>({
      name: "configuration-version",
      text: readConfigurationVersion,
      values: [],
    }),
    takeKeys(client, keys, now),
    findRemembered(client, contacts, memory),
  ]);
  return { configurationVersion: BigInt(version.rows[0]!.version), fresh, found };
}

export interface NewEvent {
  id: string;
  tenantId: number;
  clientId: number | null;
  type: string;
  phoneNumberId: string | null;
  wabaId: string | null;
  occurredAt: Date | null;
  receivedAt: Date;
  conversationId: string | null;
  sequence: number | null;
  details: string;
  /** The item's JSON. */
  item: string;
}

export interface NewMessage {
  conversationId: string;
  /** True if the conversation has imported messages, and this may be one of them. */
  mayBeImported: boolean;
  sequence: number;
  numberId: number;
  sentAt: Date;
  eventId: string;
  entry: ConversationEntry;
}

export interface NewRevision {
  /** Only messages of this client's conversations change: the number may have been another's before. */
  clientId: number;
  numberId: number;
  eventId: string;
  /** When the user made it: of several the last one counts. */
  revisedAt: Date;
  revision: Revision;
}

export interface PublishingRows {
  events: readonly NewEvent[];
  messages: readonly NewMessage[];
  mediaLinks: readonly NewMediaLink[];
  imports: readonly NewImport[];
  importFiles: readonly NewImportFile[];
  revisions: readonly NewRevision[];
  deliveries: readonly NewDelivery[];
  conversations: readonly LockedConversation[];
}

/**
 * Writes all rows and commits; when this settles they are durable. If any statement fails, nothing is.
 *
 * @param enqueue      adds the deliveries to the queue
 * @param storeEvents  how events get to where they belong; those that are stored already are moved there
 */
export async function commitPublishing(
  client: pg.ClientBase,
  rows: PublishingRows,
  now: Date,
  enqueue: DeliveryQueue<pg.ClientBase>["enqueue"],
  storeEvents: (
    client: pg.ClientBase,
    events: readonly NewEvent[],
    now: Date,
  ) => Promise<unknown> = insertEvents,
): Promise<void> {
  const statements: Promise<unknown>[] = [];
  if (rows.conversations.length > 0) statements.push(saveConversations(client, rows.conversations));
  if (rows.messages.length > 0) statements.push(insertMessages(client, rows.messages));
  if (rows.mediaLinks.length > 0) statements.push(insertMediaLinks(client, rows.mediaLinks));
  const twice = rows.messages.filter((message) => message.mayBeImported && message.entry.wamid !== null);
  if (twice.length > 0) {
    const named = twice.map(({ entry, ...message }) => ({ ...message, wamid: entry.wamid! }));
    statements.push(hideImports(client, named));
  }
  if (rows.imports.length > 0) statements.push(insertImports(client, rows.imports));
  if (rows.importFiles.length > 0) statements.push(fillImports(client, rows.importFiles));
  if (rows.revisions.length > 0) statements.push(insertRevisions(client, rows.revisions, rows.messages));
  if (rows.events.length > 0) statements.push(storeEvents(client, rows.events, now));
  if (rows.deliveries.length > 0) statements.push(enqueue(client, rows.deliveries, now));
  const commit = client.query("COMMIT");
  // After a failed statement COMMIT is answered with ROLLBACK: both results are waited for, the failure is thrown.
  const [written, committed] = await Promise.all([
    Promise.allSettled(statements),
    commit.then(
      (result) => ({ command: result.command, error: null }),
      (error: unknown) => ({ command: null, error }),
    ),
  ]);
  for (const one of written) if (one.status === "rejected") throw one.reason;
  if (committed.error) throw committed.error;
}

function insertEvents(client: pg.ClientBase, rows: readonly NewEvent[]): Promise<unknown> {
  return client.query({
    name: "insert-events",
    text: `INSERT INTO event (tenant_id, id, client_id, type, phone_number_id, waba_id, occurred_at, received_at,
        conversation_id, sequence, details, item)
      SELECT u.tenant_id, u.id, u.client_id, u.type, u.phone_number_id, u.waba_id,
        to_timestamp(u.occurred_ms / 1000), to_timestamp(u.received_ms / 1000), u.conversation_id, u.sequence,
        u.details, u.item
      FROM unnest($1::int[], $2::uuid[], $3::int[], $4::text[], $5::text[], $6::text[], $7::float8[], $8::float8[],
          $9::bigint[], $10::bigint[], $11::text[], $12::bytea[])
        AS u(tenant_id, id, client_id, type, phone_number_id, waba_id, occurred_ms, received_ms, conversation_id,
          sequence, details, item)`,
    values: [
      intArray(rows.map((row) => row.tenantId)),
      uuidArray(rows.map((row) => row.id)),
      intArray(rows.map((row) => row.clientId)),
      textArray(rows.map((row) => row.type)),
      textArray(rows.map((row) => row.phoneNumberId)),
      textArray(rows.map((row) => row.wabaId)),
      instantArray(rows.map((row) => row.occurredAt)),
      instantArray(rows.map((row) => row.receivedAt)),
      bigintArray(rows.map((row) => row.conversationId)),
      bigintArray(rows.map((row) => row.sequence)),
      textArray(rows.map((row) => row.details)),
      utf8Array(rows.map((row) => row.item)),
    ],
  });
}

function insertMessages(client: pg.ClientBase, rows: readonly NewMessage[]): Promise<unknown> {
  return client.query({
    name: "insert-messages",
    text: `INSERT INTO message (conversation_id, sequence, visible_from, number_id, wamid, sender, content,
        content_type, media_id, sent_at, event_id)
      SELECT u.conversation_id, u.sequence, u.sequence, u.number_id, u.wamid, u.sender, u.content, u.content_type,
        u.media_id, to_timestamp(u.sent_ms / 1000), u.event_id
      FROM unnest($1::bigint[], $2::bigint[], $3::int[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
          $9::float8[], $10::uuid[])
        AS u(conversation_id, sequence, number_id, wamid, sender, content, content_type, media_id, sent_ms,
          event_id)`,
    values: [
      bigintArray(rows.map((row) => row.conversationId)),
      bigintArray(rows.map((row) => row.sequence)),
      intArray(rows.map((row) => row.numberId)),
      textArray(rows.map((row) => row.entry.wamid)),
      textArray(rows.map((row) => row.entry.sender)),
      textArray(rows.map((row) => row.entry.content)),
      textArray(rows.map((row) => row.entry.contentType)),
      textArray(rows.map((row) => row.entry.mediaId)),
      instantArray(rows.map((row) => row.sentAt)),
      uuidArray(rows.map((row) => row.eventId)),
    ],
  });
}

/**
 * A revision is seen by payloads of the messages that come after it: those of the same commit have a later event id
 * and their numbers already, the next one gets the number after the last. Of an unknown message it is dropped. The
 * lock keeps the next message out until this one's place before it is settled.
 */
function insertRevisions(
  client: pg.ClientBase,
  rows: readonly NewRevision[],
  messages: readonly NewMessage[],
): Promise<unknown> {
  return client.query({
    name: "insert-revisions",
    text: `WITH revised AS (
        SELECT m.conversation_id, m.sequence,
          coalesce(
            (SELECT min(n.sequence) FROM unnest($6::bigint[], $7::bigint[], $8::uuid[])
               AS n(conversation_id, sequence, event_id)
             WHERE n.conversation_id = m.conversation_id AND n.event_id > u.event_id),
            v.last_sequence + 1) AS visible_from,
          u.event_id, u.content, u.content_type, to_timestamp(u.revised_ms / 1000)
        FROM unnest($1::int[], $2::text[], $3::uuid[], $4::text[], $5::text[], $9::int[], $10::float8[])
          AS u(number_id, wamid, event_id, content, content_type, client_id, revised_ms)
        JOIN message m ON m.number_id = u.number_id AND m.wamid = u.wamid
        JOIN conversation v ON v.id = m.conversation_id
        JOIN contact c ON c.id = v.contact_id AND c.client_id = u.client_id
        FOR UPDATE OF v)
      INSERT INTO message_revision (conversation_id, sequence, visible_from, event_id, content, content_type,
        revised_at)
      SELECT * FROM revised ON CONFLICT DO NOTHING`,
    values: [
      intArray(rows.map((row) => row.numberId)),
      textArray(rows.map((row) => row.revision.wamid)),
      uuidArray(rows.map((row) => row.eventId)),
      textArray(rows.map((row) => row.revision.content)),
      textArray(rows.map((row) => row.revision.contentType)),
      bigintArray(messages.map((message) => message.conversationId)),
      bigintArray(messages.map((message) => message.sequence)),
      uuidArray(messages.map((message) => message.eventId)),
      intArray(rows.map((row) => row.clientId)),
      instantArray(rows.map((row) => row.revisedAt)),
    ],
  });
}
