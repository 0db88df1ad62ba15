/** Events as a transformer will see them: what `publish` hands over at once, and what a later claim reads back. */

import type pg from "pg";
import type {
  ContentType,
  ConversationEntry,
  IdentityChange,
  ImportedThread,
  Revision,
  WhatsAppUser,
} from "../domain/event.ts";
import { bigintArray, intArray, uuidArray } from "./binary-arrays.ts";

/** What stands in the place of an item that was erased with its contact, and of a payload or body made of it. */
export const erasedItem = '{"erased":true}';

/** The contact as it stood when the event was committed; the messages are read by `sequence`. */
export interface ConversationSnapshot {
  conversationId: string;
  sequence: number;
  userId: string;
  phone: string | null;
  bsuid: string | null;
  name: string;
  note: string;
  noteAutomation: string;
  labels: string[];
  /** Sequence number of the newest message of each side up to this event; 0 = none. */
  lastUserSequence: number;
  lastBotSequence: number;
  /** Link to the media of this message, the same for every payload made of it; absent if it has none. */
  mediaUrl?: string;
}

/** What `event.details` holds, as JSON text. Everything here is frozen with the event. */
export interface StoredDetails {
  clientRef: string | null;
  businessPhone: string | null;
  user: WhatsAppUser | null;
  conversation: Omit<ConversationSnapshot, "conversationId" | "sequence"> | null;
  /** Of an event that is nobody's yet, what routing it later needs. */
  unrouted?: {
    entry: ConversationEntry | null;
    revision: Revision | null;
    identityChanges?: readonly IdentityChange[];
    /** As JSON: instants are texts. */
    imported?: readonly ImportedThread[];
    dedup: { hash: string; placedMs: number | null };
  };
}

export interface StoredEvent {
  id: string;
  tenantId: number;
  clientId: number | null;
  type: string;
  phoneNumberId: string | null;
  businessPhone: string | null;
  wabaId: string | null;
  clientRef: string | null;
  occurredAt: Date | null;
  receivedAt: Date;
  user: WhatsAppUser | null;
  conversation: ConversationSnapshot | null;
  itemJson: string;
}

export interface HistoryAsked {
  conversationId: string;
  /** Messages up to this number, as the event with this number saw them. */
  sequence: number;
  count: number;
  /** Further messages wanted by their number; 0 = the newest imported one of that side, if there is any. */
  lastUserSequence: number;
  lastBotSequence: number;
}

export interface HistoryMessage {
  sequence: number;
  sender: "user" | "bot";
  content: string;
  contentType: ContentType;
  sentAt: Date;
}

export interface History {
  /** Newest first. */
  messages: HistoryMessage[];
  lastUserMessage: HistoryMessage | null;
  lastBotMessage: HistoryMessage | null;
}

/** The events of these ids, keyed by id; ids whose event retention dropped are missing. */
export async function readEvents(
  pool: pg.Pool,
  asked: readonly { tenantId: number; eventId: string }[],
): Promise<Map<string, StoredEvent>> {
  if (asked.length === 0) return new Map();
  const found = await pool.query({
    name: "read-events",
    text: `SELECT e.* FROM unnest($1::int[], $2::uuid[]) AS u(tenant_id, id)
      JOIN event e ON e.tenant_id = u.tenant_id AND e.id = u.id`,
    values: [intArray(asked.map((one) => one.tenantId)), uuidArray(asked.map((one) => one.eventId))],
  });
  return new Map(found.rows.map((row) => [row.id, toEvent(row)]));
}

/** Imported messages have a time from which, and may have one until which they show. */
const isVisible =
  "n.visible_from <= a.sequence AND (n.visible_until IS NULL OR n.visible_until > a.sequence)";

/**
 * The revision that counts comes first: a revoke, whatever comes after it; else the last one made by WhatsApp's clock,
 * whose seconds two may share.
 */
export const revisionOrder = "content IS NULL DESC, revised_at DESC, visible_from DESC, event_id DESC";

/**
 * Reads what each asked event saw of its conversation. The answer never changes: later messages have higher numbers,
 * and edits, revokes and imports carry the number from which on they show.
 */
export async function readHistories(pool: pg.Pool, asked: readonly HistoryAsked[]): Promise<History[]> {
  if (asked.length === 0) return [];
  const found = await pool.query({
    name: "read-histories",
    text: `SELECT (a.position - 1)::int AS position, m.sequence, m.sender, m.sent_at,
        CASE WHEN r.content_type IS NULL THEN m.content ELSE coalesce(r.content, '') END AS content,
        coalesce(r.content_type, m.content_type) AS content_type
      FROM unnest($1::bigint[], $2::bigint[], $3::int[], $4::bigint[], $5::bigint[])
        WITH ORDINALITY AS a(conversation_id, sequence, count, user_sequence, bot_sequence, position)
      CROSS JOIN LATERAL (
        (SELECT * FROM message n
         WHERE n.conversation_id = a.conversation_id AND n.sequence <= a.sequence AND ${isVisible}
         ORDER BY n.sequence DESC LIMIT a.count)
        UNION
        (SELECT * FROM message n
         WHERE n.conversation_id = a.conversation_id AND n.sequence = ANY(ARRAY[a.user_sequence, a.bot_sequence])
           AND ${isVisible})
        UNION
        (SELECT * FROM message n
         WHERE a.user_sequence = 0 AND n.conversation_id = a.conversation_id AND n.sequence < 1
           AND n.sender = 'user' AND ${isVisible}
         ORDER BY n.sequence DESC LIMIT 1)
        UNION
        (SELECT * FROM message n
         WHERE a.bot_sequence = 0 AND n.conversation_id = a.conversation_id AND n.sequence < 1
           AND n.sender = 'bot' AND ${isVisible}
         ORDER BY n.sequence DESC LIMIT 1)
      ) AS m
      LEFT JOIN LATERAL (
        SELECT content, content_type FROM message_revision s
        WHERE s.conversation_id = m.conversation_id AND s.sequence = m.sequence AND s.visible_from <= a.sequence
        ORDER BY ${revisionOrder} LIMIT 1
      ) AS r ON true
      ORDER BY a.position, m.sequence DESC`,
    values: [
      bigintArray(asked.map((one) => one.conversationId)),
      bigintArray(asked.map((one) => one.sequence)),
      intArray(asked.map((one) => one.count)),
      bigintArray(asked.map((one) => one.lastUserSequence)),
      bigintArray(asked.map((one) => one.lastBotSequence)),
    ],
  });
  const histories: History[] = asked.map(() => ({
    messages: [],
    lastUserMessage: null,
    lastBotMessage: null,
  }));
  for (const row of found.rows) {
    const history = histories[row.position]!;
    const question = asked[row.position]!;
    const message: HistoryMessage = {
      sequence: Number(row.sequence),
      sender: row.sender,
      content: row.content,
      contentType: row.content_type,
      sentAt: row.sent_at,
    };
    if (isLastOf("user", message, question.lastUserSequence)) history.lastUserMessage ??= message;
    if (isLastOf("bot", message, question.lastBotSequence)) history.lastBotMessage ??= message;
    if (history.messages.length < question.count) history.messages.push(message);
  }
  return histories;
}

/** Where a side has sent nothing itself yet, its newest imported message is its last one. */
function isLastOf(sender: HistoryMessage["sender"], message: HistoryMessage, lastSequence: number): boolean {
  return lastSequence === 0 ? message.sender === sender : message.sequence === lastSequence;
}

// biome-ignore lint/suspicious/noExplicitAny: a row of the statement above
function toEvent(row: any): StoredEvent {
  const details = JSON.parse(row.details) as StoredDetails;
  return {
    id: row.id,
    tenantId: row.tenant_id,
    clientId: row.client_id,
    type: row.type,
    phoneNumberId: row.phone_number_id,
    businessPhone: details.businessPhone,
    wabaId: row.waba_id,
    clientRef: details.clientRef,
    occurredAt: row.occurred_at,
    receivedAt: row.received_at,
    user: details.user,
    conversation: details.conversation && {
      ...details.conversation,
      conversationId: row.conversation_id,
      sequence: Number(row.sequence),
    },
    itemJson: row.item.toString("utf8"),
  };
}
