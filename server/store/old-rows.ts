/**
 * Rows that outlive the log and grow old where no index by age would pay: they are gone through in the order of a key
 * that is there anyway, a page at a time. Each function does one page and says where the next one begins.
 */

import type pg from "pg";

/** Messages of one conversation that are looked at in one go; a row whose time is wrong holds up no more than it. */
const messagesEach = 20;

/** Where a walk through a table is; null = at its end. */
export type Place = string | null;

export interface Page {
  /** Begins the next page; the same as before if this one has more to give. */
  next: Place;
  deletedCount: number;
}

/** @param conversationId  only later ones; `"0"` = from the first */
export async function deleteOldMessages(
  client: pg.ClientBase,
  conversationId: string,
  before: Date,
  limit: number,
): Promise<Page> {
  const found = await client.query<{ last_id: string | null; count: number }>(
    `WITH page AS (SELECT id FROM conversation WHERE id > $1 ORDER BY id LIMIT $3),
     old AS (
       SELECT m.conversation_id, m.sequence FROM page CROSS JOIN LATERAL (
         SELECT conversation_id, sequence, sent_at FROM message
         WHERE conversation_id = page.id ORDER BY sequence LIMIT ${messagesEach}) AS m
       WHERE m.sent_at < $2),
     gone AS (
       DELETE FROM message m USING old
       WHERE m.conversation_id = old.conversation_id AND m.sequence = old.sequence RETURNING 1)
     SELECT (SELECT max(id) FROM page)::text AS last_id, (SELECT count(*) FROM gone)::int AS count`,
    [conversationId, before, limit],
  );
  const { last_id: lastId, count } = found.rows[0]!;
  return { next: count > 0 ? conversationId : lastId, deletedCount: count };
}

const hasMessages = (contact: string) => `(
  EXISTS (SELECT FROM conversation v JOIN message m ON m.conversation_id = v.id
          WHERE v.contact_id = ${contact} AND v.merged_into IS NULL)
  OR EXISTS (SELECT FROM conversation v JOIN message m ON m.conversation_id = v.id
             WHERE v.contact_id = ${contact} AND v.merged_into IS NOT NULL))`;

/**
 * Deletes contacts that have no message left and were not changed since. Whoever publishes an event of one at the same
 * time has locked it, so it is left alone, or finds it gone and makes it anew.
 *
 * @param contactId  only later ones; the smallest UUID = from the first
 */
export async function deleteEmptyContacts(
  client: pg.ClientBase,
  contactId: string,
  before: Date,
  limit: number,
): Promise<Page> {
  const page = await client.query<{ id: string; is_old: boolean }>(
    `SELECT id, updated_at < $2 AND NOT ${hasMessages("c.id")} AS is_old
     FROM contact c WHERE id > $1 ORDER BY id LIMIT $3`,
    [contactId, before, limit],
  );
  const next = page.rows.at(-1)?.id ?? null;
  const old = page.rows.filter((row) => row.is_old).map(({ id }) => id);
  if (old.length === 0) return { next, deletedCount: 0 };
  await client.query("BEGIN");
  try {
    // The look after the lock sees what was committed before it.
    const locked = await client.query<{ id: string }>(
      "SELECT id FROM contact WHERE id = ANY($1::uuid[]) AND updated_at < $2 ORDER BY id FOR UPDATE SKIP LOCKED",
      [old, before],
    );
    const empty = await client.query<{ id: string }>(
      `SELECT id FROM contact c WHERE id = ANY($1::uuid[]) AND NOT ${hasMessages("c.id")}`,
      [locked.rows.map(({ id }) => id)],
    );
    const ids = [empty.rows.map(({ id }) => id)];
    await client.query(
      "DELETE FROM conversation WHERE contact_id = ANY($1::uuid[]) AND merged_into IS NOT NULL",
      ids,
    );
    await client.query(
      "DELETE FROM conversation WHERE contact_id = ANY($1::uuid[]) AND merged_into IS NULL",
      ids,
    );
    await client.query("DELETE FROM contact WHERE id = ANY($1::uuid[])", ids);
    await client.query("COMMIT");
    return { next, deletedCount: empty.rows.length };
  } catch (error) {
    await client.query("ROLLBACK").catch(() => undefined);
    throw error;
  }
}

/** Before the first key. */
export const firstKey = "-infinity";

/**
 * Deletes duplicate keys of what was received before an instant from the partition that holds the keys of no day.
 *
 * @param place  only keys behind it; `firstKey` = from the first
 */
export async function deleteOldKeys(
  client: pg.ClientBase,
  place: string,
  before: Date,
  limit: number,
): Promise<Page> {
  const [placedAt, hash, tenantId] = place === firstKey ? [place, nilUuid, "-1"] : place.split(" ");
  const found = await client.query<{ last: string | null; count: number }>(
    `WITH page AS MATERIALIZED (
       SELECT placed_at, hash, tenant_id, received_at FROM dedup_key_default
       WHERE (placed_at, hash, tenant_id) > ($1::timestamptz, $2::uuid, $3::int)
       ORDER BY placed_at, hash, tenant_id LIMIT $5),
     gone AS (
       DELETE FROM dedup_key_default k USING page p
       WHERE k.placed_at = p.placed_at AND k.hash = p.hash AND k.tenant_id = p.tenant_id AND p.received_at < $4
       RETURNING 1)
     SELECT (SELECT concat_ws(' ', to_char(placed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), hash, tenant_id)
             FROM page ORDER BY placed_at DESC, hash DESC, tenant_id DESC LIMIT 1) AS last,
       (SELECT count(*) FROM gone)::int AS count`,
    [placedAt, hash, tenantId, before, limit],
  );
  const { last, count } = found.rows[0]!;
  return { next: last, deletedCount: count };
}

const nilUuid = "00000000-0000-0000-0000-000000000000";
