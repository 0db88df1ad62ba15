/** Conversations as people read them: as they show now, not as an event saw them. */

import { GatewayError } from "../domain/errors.ts";
import type { ContentType } from "../domain/event.ts";
import type { Owner } from "./access.ts";
import { getContact } from "./contact-records.ts";
import { revisionOrder } from "./events.ts";
import type { Database } from "./orm.ts";

export interface ShownMessage {
  /** Its number in the conversation; the newest has the greatest, imported ones are below 1. */
  sequence: number;
  sender: "user" | "bot";
  /** Empty if it was revoked. */
  content: string;
  contentType: ContentType;
  sentAt: Date;
  wamid: string | null;
  eventId: string | null;
  /** How far a message that we sent has come; null for others. */
  status: string | null;
  isEdited: boolean;
  isRevoked: boolean;
  isImported: boolean;
}

export interface ShownConversation {
  id: string;
  phoneNumberId: string;
}

/**
 * The conversation of a contact with a number, or its only one.
 *
 * @param phoneNumberId  null = the only one
 * @throws GatewayError `not_found`, or `wrong_state` if there are several to choose from
 */
export async function findConversation(
  database: Database,
  owner: Owner,
  userId: string,
  phoneNumberId: string | null,
): Promise<ShownConversation> {
  const contact = await getContact(database, owner, userId);
  const rows = await database.em().execute<{ id: string; phone_number_id: string }[]>(
    `SELECT v.id::text, n.phone_number_id FROM conversation v JOIN phone_number n ON n.id = v.number_id
     WHERE v.contact_id = ? AND v.merged_into IS NULL AND (?::text IS NULL OR n.phone_number_id = ?) ORDER BY v.id`,
    [contact.id, phoneNumberId, phoneNumberId],
  );
  const [first, second] = rows;
  if (first === undefined) {
    const withWhom = phoneNumberId === null ? "" : ` with number ${phoneNumberId}`;
    throw new GatewayError("not_found", `contact ${userId} has no conversation${withWhom}`, {
      field: phoneNumberId === null ? "user_id" : "phone_number_id",
    });
  }
  if (second !== undefined) {
    throw new GatewayError(
      "wrong_state",
      `contact ${userId} has conversations with the numbers ${contact.phoneNumberIds.join(", ")}: name one in phone_number_id`,
      { field: "phone_number_id" },
    );
  }
  return { id: first.id, phoneNumberId: first.phone_number_id };
}

/**
 * Messages, newest first; `[]` if there are none.
 *
 * @param page.before  only those with a lower number; null = from the newest
 */
export async function listMessages(
  database: Database,
  conversationId: string,
  page: { limit: number; before: number | null },
): Promise<ShownMessage[]> {
  const rows = await database.em().execute<MessageColumns[]>(
    `SELECT m.sequence::float8 AS sequence, m.sender, m.wamid, m.event_id,
       extract(epoch FROM m.sent_at)::float8 * 1000 AS sent_ms, r.event_id IS NOT NULL AS is_revised,
       CASE WHEN r.event_id IS NULL THEN m.content ELSE r.content END AS content,
       coalesce(r.content_type, m.content_type) AS content_type,
       CASE WHEN m.sender = 'bot' THEN
         (SELECT o.status FROM outgoing_message o WHERE o.wamid = m.wamid AND o.number_id = m.number_id LIMIT 1)
       END AS status
     FROM message m
     LEFT JOIN LATERAL (
       SELECT event_id, content, content_type FROM message_revision s
       WHERE s.conversation_id = m.conversation_id AND s.sequence = m.sequence
       ORDER BY ${revisionOrder} LIMIT 1) AS r ON true
     WHERE m.conversation_id = ? AND m.visible_until IS NULL AND (?::bigint IS NULL OR m.sequence < ?::bigint)
     ORDER BY m.sequence DESC LIMIT ?`,
    [conversationId, page.before, page.before, page.limit],
  );
  return rows.map((row) => {
    const isImported = row.sequence < 1;
    const isRevoked = row.content === null;
    return {
      sequence: row.sequence,
      sender: row.sender,
      content: row.content ?? "",
      contentType: row.content_type,
      sentAt: new Date(Math.round(row.sent_ms)),
      wamid: row.wamid,
      eventId: row.event_id,
      status: row.status,
      // What revises an imported message is its file, which came later.
      isEdited: row.is_revised && !isRevoked && !isImported,
      isRevoked,
      isImported,
    };
  });
}

interface MessageColumns {
  sequence: number;
  sender: "user" | "bot";
  wamid: string | null;
  event_id: string | null;
  sent_ms: number;
  is_revised: boolean;
  content: string | null;
  content_type: ContentType;
  status: string | null;
}
