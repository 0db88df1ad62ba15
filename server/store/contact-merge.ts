/**
 * Two contacts become one. Payloads of events that were committed before must stay the same bytes whenever they are
 * made, and those events find their history by conversation and number: so the two conversations stay exactly as they
 * are, marked as merged, and a third one goes on with copies of the messages of both, in the order in which they
 * arrived. Copies are made only where both have messages; what has none gives way to the other.
 *
 * Runs in a transaction that has locked both contacts.
 */

import type pg from "pg";
import type { ContactRow } from "./contact-book.ts";
import { revisionOrder } from "./events.ts";
import { importedBase, sequencesPerSecond } from "./imports.ts";

/** Makes `row` a part of `into`: its conversations, and its UUID as a former one. The row itself goes. */
export async function mergeContacts(client: pg.ClientBase, row: ContactRow, into: ContactRow): Promise<void> {
  const found = await client.query<{ id: string; number_id: number; contact_id: string; is_empty: boolean }>(
    `SELECT v.id, v.number_id, v.contact_id,
       NOT EXISTS (SELECT FROM message m WHERE m.conversation_id = v.id) AS is_empty
     FROM conversation v WHERE v.contact_id = ANY($1::uuid[]) AND v.merged_into IS NULL
     ORDER BY v.id FOR UPDATE OF v`,
    [[row.id, into.id]],
  );
  for (const conversations of Map.groupBy(found.rows, (one) => one.number_id).values()) {
    const filled = conversations.filter((one) => !one.is_empty);
    if (filled.length < 2) await keepOne(client, (filled[0] ?? conversations[0]!).id, into.id, conversations);
    else await joinConversations(client, into.id, conversations);
  }
  // Sent together; the connection keeps their order.
  await Promise.all([
    client.query(
      "UPDATE conversation SET contact_id = $2 WHERE contact_id = $1 AND merged_into IS NOT NULL",
      [row.id, into.id],
    ),
    client.query("UPDATE contact_former_id SET contact_id = $2 WHERE contact_id = $1", [row.id, into.id]),
    client.query(moveFormerNames, [row.id, into.id]),
    client.query("INSERT INTO contact_former_id (id, contact_id) VALUES ($1, $2)", [row.id, into.id]),
    client.query("DELETE FROM contact WHERE id = $1", [row.id]),
  ]);
}

const moveFormerNames = `
  INSERT INTO contact_former_name (contact_id, client_id, kind, name, until_id)
  SELECT $2, client_id, kind, name, until_id FROM contact_former_name WHERE contact_id = $1
  ON CONFLICT (contact_id, kind, name)
    DO UPDATE SET until_id = greatest(contact_former_name.until_id, excluded.until_id)`;

async function keepOne(
  client: pg.ClientBase,
  keptId: string,
  contactId: string,
  conversations: readonly { id: string }[],
): Promise<void> {
  const others = conversations.map(({ id }) => id).filter((id) => id !== keptId);
  await client.query("UPDATE conversation SET merged_into = $2 WHERE id = ANY($1::bigint[])", [
    others,
    keptId,
  ]);
  await client.query("UPDATE conversation SET contact_id = $2 WHERE id = $1", [keptId, contactId]);
}

async function joinConversations(
  client: pg.ClientBase,
  contactId: string,
  conversations: readonly { id: string; number_id: number }[],
): Promise<void> {
  const formerIds = conversations.map(({ id }) => id);
  const drawn = await client.query<{ id: string }>(
    "SELECT nextval(pg_get_serial_sequence('conversation', 'id')) AS id",
  );
  const joinedId = drawn.rows[0]!.id;
  await Promise.all([
    client.query("UPDATE conversation SET merged_into = $2 WHERE id = ANY($1::bigint[])", [
      formerIds,
      joinedId,
    ]),
    client.query({ name: "copy-messages", text: copyMessages, values: [formerIds, joinedId] }),
    client.query(
      `INSERT INTO conversation (id, number_id, contact_id, last_sequence, last_user_sequence, last_bot_sequence,
       has_imports)
     SELECT $1, $2, $3, greatest(coalesce(max(sequence), 0), 0),
       coalesce(max(sequence) FILTER (WHERE sender = 'user' AND sequence > 0), 0),
       coalesce(max(sequence) FILTER (WHERE sender = 'bot' AND sequence > 0), 0),
       coalesce(bool_or(sequence < 1), false)
     FROM message WHERE conversation_id = $1`,
      [joinedId, conversations[0]!.number_id, contactId],
    ),
  ]);
}

/**
 * Numbers the messages of both anew: those that were imported by their time, the others as they arrived, which the
 * UUIDv7 of their events tells; inside one conversation their order stays. Of a message that both have, one is enough.
 * Whatever columns a message has, its copy has too. As no event of the joined conversation is older than it, everything
 * shows from its start, and of several revisions the last one is left.
 */
const copyMessages = `
  WITH source AS MATERIALIZED (
    SELECT m.conversation_id, m.sequence, m.number_id, m.wamid,
      CASE WHEN m.sequence < 1 THEN (m.sequence - ${importedBase}) / ${sequencesPerSecond} END AS imported_second,
      coalesce(max(m.event_id::text) OVER (PARTITION BY m.conversation_id ORDER BY m.sequence), '') AS arrived
    FROM message m WHERE m.conversation_id = ANY($1::bigint[]) AND m.visible_until IS NULL),
  placed AS MATERIALIZED (
    SELECT s.conversation_id, s.sequence,
      CASE WHEN s.sequence < 1
        THEN ${importedBase} + s.imported_second * ${sequencesPerSecond} - 1
          + row_number() OVER (PARTITION BY s.imported_second ORDER BY s.conversation_id, s.sequence)
        ELSE row_number() OVER (PARTITION BY s.sequence < 1 ORDER BY s.arrived, s.conversation_id, s.sequence)
      END AS new_sequence
    FROM (SELECT *, row_number() OVER (PARTITION BY number_id, wamid ORDER BY sequence < 1, conversation_id) AS copy
          FROM source) AS s
    WHERE s.wamid IS NULL OR s.sequence >= 1 OR s.copy = 1),
  copied AS (
    INSERT INTO message
    SELECT c.* FROM placed p
    JOIN message m ON m.conversation_id = p.conversation_id AND m.sequence = p.sequence
    CROSS JOIN LATERAL jsonb_populate_record(m, jsonb_build_object('conversation_id', $2::bigint,
      'sequence', p.new_sequence, 'visible_from', greatest(p.new_sequence, 1))) AS c)
  INSERT INTO message_revision (conversation_id, sequence, visible_from, event_id, content, content_type, revised_at)
  SELECT $2::bigint, p.new_sequence, greatest(p.new_sequence, 1), r.event_id, r.content, r.content_type, r.revised_at
  FROM placed p CROSS JOIN LATERAL (
    SELECT * FROM message_revision r WHERE r.conversation_id = p.conversation_id AND r.sequence = p.sequence
    ORDER BY ${revisionOrder} LIMIT 1) AS r`;
