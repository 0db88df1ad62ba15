/** Names that contacts had before, and by which names the log may speak of a contact. */

import type { EntityManager } from "@mikro-orm/postgresql";
import type pg from "pg";
import { intArray, textArray, uuidArray } from "./binary-arrays.ts";
import type { FormerName } from "./contact-book.ts";
import type { Contact } from "./contact-records.ts";

/** A phone or business-scoped id of a contact, now or before. */
export interface LoggedName {
  kind: "phone" | "bsuid";
  name: string;
  /** The name means the contact in things with this UUIDv7 or a later one; null = from the start. */
  fromId: string | null;
  /** And in things before this one; null = to this day. */
  untilId: string | null;
}

/**
 * Business-scoped ids are never another's. A phone is the contact's from when the owner before gave it up until somebody
 * else has it: while nobody does, it still means the last owner.
 */
export async function listNames(em: EntityManager, contact: Contact): Promise<LoggedName[]> {
  return await em.execute<LoggedName[]>(
    `SELECT n.kind, n.name,
       CASE WHEN n.kind = 'phone' THEN
         (SELECT f.until_id FROM contact_former_name f
          WHERE f.client_id = ? AND f.kind = 'phone' AND f.name = n.name AND f.contact_id <> ?
            AND (n.until_id IS NULL OR f.until_id < n.until_id)
          ORDER BY f.until_id DESC LIMIT 1) END AS "fromId",
       CASE WHEN n.kind = 'phone' AND (
           EXISTS (SELECT FROM contact c WHERE c.client_id = ? AND c.phone = n.name AND c.id <> ?)
           OR EXISTS (SELECT FROM contact_former_name f
                      WHERE f.client_id = ? AND f.kind = 'phone' AND f.name = n.name AND f.contact_id <> ?
                        AND f.until_id > n.until_id))
         THEN n.until_id END AS "untilId"
     FROM (
       SELECT 'phone' AS kind, phone AS name, NULL::uuid AS until_id FROM contact WHERE id = ? AND phone IS NOT NULL
       UNION ALL
       SELECT 'bsuid', bsuid, NULL FROM contact WHERE id = ? AND bsuid IS NOT NULL
       UNION ALL
       SELECT kind, name, until_id FROM contact_former_name WHERE contact_id = ?) AS n
     ORDER BY n.kind, n.name, n.until_id`,
    [
      contact.clientId,
      contact.id,
      contact.clientId,
      contact.id,
      contact.clientId,
      contact.id,
      contact.id,
      contact.id,
      contact.id,
    ],
  );
}

/**
 * Notes what contacts have given up, in the publishing transaction; again for a name that was given up before.
 *
 * @param untilId  a UUIDv7: events of this transaction have later ids
 */
export async function noteFormerNames(
  client: pg.ClientBase,
  names: readonly FormerName[],
  untilId: string,
): Promise<void> {
  await client.query({
    name: "note-former-names",
    text: `INSERT INTO contact_former_name (contact_id, client_id, kind, name, until_id)
      SELECT u.contact_id, u.client_id, u.kind, u.name, $5
      FROM unnest($1::uuid[], $2::int[], $3::text[], $4::text[]) AS u(contact_id, client_id, kind, name)
      ON CONFLICT (contact_id, kind, name) DO UPDATE SET until_id = excluded.until_id`,
    values: [
      uuidArray(names.map(({ contactId }) => contactId)),
      intArray(names.map(({ clientId }) => clientId)),
      textArray(names.map(({ kind }) => kind)),
      textArray(names.map(({ name }) => name)),
      untilId,
    ],
  });
}
