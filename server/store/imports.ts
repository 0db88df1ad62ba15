/**
 * Messages imported from the history of a business's phone. They lie before all others of their conversation: their
 * numbers are below 1 and follow from the second in which they were sent, so that chunks of a history may come in any
 * order and none changes the place of another. Payloads of events that were there before an import never show it
 * (`visible_from`).
 */

import type pg from "pg";
import type { ConversationEntry } from "../domain/event.ts";
import { instantArray, plainArray, textArray } from "./array-literals.ts";

/** Number of the first message that was sent in 1970; within what JavaScript can count, as all that follow are. */
export const importedBase = -9_000_000_000_000_000;
/** How many messages of one conversation can lie in one second. */
export const sequencesPerSecond = 1_048_576;

export interface NewImport {
  clientId: number;
  conversationId: string;
  numberId: number;
  /** Number of the first event whose payload may show it. */
  visibleFrom: number;
  sentAt: Date;
  entry: ConversationEntry;
}

/** The file of an imported message that was a placeholder so far. */
export interface NewImportFile {
  numberId: number;
  wamid: string;
  mediaId: string;
}

/**
 * Adds what no conversation of the client has yet, by number and WhatsApp id. The conversations are locked. To be sent
 * after the new messages of the same commit.
 */
export function insertImports(client: pg.ClientBase, rows: readonly NewImport[]): Promise<unknown> {
  const distinct = withoutRepeats(rows);
  return client.query({
    name: "insert-imports",
    text: `WITH fresh AS (
        SELECT *, ${importedBase} + floor(u.sent_ms / 1000)::bigint * ${sequencesPerSecond} AS base
        FROM unnest($1::int[], $2::bigint[], $3::int[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[],
            $9::text[], $10::float8[])
          WITH ORDINALITY AS u(client_id, conversation_id, number_id, visible_from, wamid, sender, content,
            content_type, media_id, sent_ms, position)
        WHERE NOT EXISTS (
          SELECT FROM message m JOIN conversation v ON v.id = m.conversation_id
          JOIN contact c ON c.id = v.contact_id AND c.client_id = u.client_id
          WHERE m.number_id = u.number_id AND m.wamid = u.wamid))
      INSERT INTO message (conversation_id, sequence, visible_from, number_id, wamid, sender, content, content_type,
        media_id, sent_at)
      SELECT f.conversation_id,
        coalesce(
          (SELECT max(m.sequence) + 1 FROM message m WHERE m.conversation_id = f.conversation_id
             AND m.sequence >= f.base AND m.sequence < f.base + ${sequencesPerSecond}),
          f.base) + row_number() OVER (PARTITION BY f.conversation_id, f.base ORDER BY f.position) - 1,
        f.visible_from, f.number_id, f.wamid, f.sender, f.content, f.content_type, f.media_id,
        to_timestamp(f.sent_ms / 1000)
      FROM fresh f`,
    values: [
      plainArray(distinct.map((row) => row.clientId)),
      plainArray(distinct.map((row) => row.conversationId)),
      plainArray(distinct.map((row) => row.numberId)),
      plainArray(distinct.map((row) => row.visibleFrom)),
      textArray(distinct.map((row) => row.entry.wamid)),
      textArray(distinct.map((row) => row.entry.sender)),
      textArray(distinct.map((row) => row.entry.content)),
      textArray(distinct.map((row) => row.entry.contentType)),
      textArray(distinct.map((row) => row.entry.mediaId)),
      instantArray(distinct.map((row) => row.sentAt)),
    ],
  });
}

/** Notes where the files of placeholders are; what they look like is a revision of the message. */
export function fillImports(client: pg.ClientBase, rows: readonly NewImportFile[]): Promise<unknown> {
  return client.query({
    name: "fill-imports",
    text: `UPDATE message m SET media_id = u.media_id
      FROM unnest($1::int[], $2::text[], $3::text[]) AS u(number_id, wamid, media_id)
      WHERE m.number_id = u.number_id AND m.wamid = u.wamid AND m.sequence < 1 AND m.media_id IS NULL`,
    values: [
      plainArray(rows.map((row) => row.numberId)),
      textArray(rows.map((row) => row.wamid)),
      textArray(rows.map((row) => row.mediaId)),
    ],
  });
}

/** Imported messages that came as messages of their own now: payloads of these and later events show them once. */
export function hideImports(
  client: pg.ClientBase,
  rows: readonly { conversationId: string; sequence: number; wamid: string }[],
): Promise<unknown> {
  return client.query({
    name: "hide-imports",
    text: `UPDATE message m SET visible_until = u.sequence
      FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS u(conversation_id, sequence, wamid)
      WHERE m.conversation_id = u.conversation_id AND m.wamid = u.wamid AND m.sequence < 1
        AND m.visible_until IS NULL
        AND m.number_id = (SELECT number_id FROM conversation v WHERE v.id = u.conversation_id)`,
    values: [
      plainArray(rows.map((row) => row.conversationId)),
      plainArray(rows.map((row) => row.sequence)),
      textArray(rows.map((row) => row.wamid)),
    ],
  });
}

function withoutRepeats(rows: readonly NewImport[]): NewImport[] {
  const seen = new Set<string>();
  return rows.filter(({ numberId, entry }) => {
    if (entry.wamid === null) return true;
    const key = `${numberId} ${entry.wamid}`;
    return !seen.has(key) && seen.add(key);
  });
}
