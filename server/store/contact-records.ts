/** Contacts as their tenant sees and edits them. Events make them (`contacts.ts`). */

import type { EntityManager } from "@mikro-orm/postgresql";
import { GatewayError } from "../domain/errors.ts";
import type { Access, Owner } from "./access.ts";
import { textArray } from "./array-literals.ts";
import { noteAudit } from "./audit.ts";
import type { Database } from "./orm.ts";

export interface Contact {
  /** UUID; the name that the outside knows it by is `user_id`. */
  id: string;
  clientId: number;
  clientRef: string;
  /** Digits. */
  phone: string | null;
  bsuid: string | null;
  /** Name that a person gave it. */
  name: string | null;
  profileName: string | null;
  note: string;
  noteAutomation: string;
  labels: string[];
  /** WhatsApp's ids of the numbers that it has conversations with. */
  phoneNumberIds: string[];
  createdAt: Date;
  updatedAt: Date;
}

/** Null = any. */
export interface ContactFilter {
  clientRef: string | null;
  /** Digits. */
  phone: string | null;
  bsuid: string | null;
  label: string | null;
}

/** What is left out stays as it is. */
export interface ContactChange {
  /** Null = forget it. */
  name?: string | null;
  note?: string;
  noteAutomation?: string;
  labels?: readonly string[];
}

const searchTimeoutMs = 10_000;

/**
 * Finds a contact by its UUID, or by one that it had before it turned out to be the same as another.
 *
 * @throws GatewayError `not_found`, also for one that the owner may not see
 */
export async function getContact(database: Database, owner: Owner, userId: string): Promise<Contact> {
  return await readContact(database.em(), owner, userId);
}

/**
 * Contacts of an owner, newest first; `[]` if none match.
 *
 * @param page.beforeId  only those made before this one; null = from the newest
 * @throws GatewayError `over_limit` if the search takes too long
 */
export async function listContacts(
  database: Database,
  owner: Owner,
  filter: ContactFilter,
  page: { limit: number; beforeId: string | null },
): Promise<Contact[]> {
  const conditions = ["TRUE"];
  const values: unknown[] = [];
  const where = (condition: string, value: unknown) => {
    if (value === null) return;
    conditions.push(condition);
    values.push(value);
  };
  where("c.phone = ?", filter.phone);
  where("c.bsuid = ?", filter.bsuid);
  // In these words the index of labels, which holds no contact without any, will do.
  where(
    "c.labels <> '{}' AND c.labels @> ?::text[]",
    filter.label === null ? null : textArray([filter.label]),
  );
  where("c.id < ?::uuid", page.beforeId);
  try {
    return await database.em().transactional(async (em) => {
      await em.execute(`SET LOCAL statement_timeout = ${searchTimeoutMs}; SET LOCAL jit = off`);
      // The newest of each client, then the newest of those.
      const rows = await em.execute<ContactColumns[]>(
        `SELECT found.* FROM client p CROSS JOIN LATERAL (
           SELECT ${columns} FROM contact c WHERE c.client_id = p.id AND ${conditions.join(" AND ")}
           ORDER BY c.id DESC LIMIT ?) AS found
         WHERE p.tenant_id = ? AND (?::int IS NULL OR p.id = ?) AND (?::text IS NULL OR p.client_ref = ?)
         ORDER BY found.id DESC LIMIT ?`,
        [
          ...values,
          page.limit,
          owner.tenantId,
          owner.clientId,
          owner.clientId,
          filter.clientRef,
          filter.clientRef,
          page.limit,
        ],
      );
      return rows.map(toContact);
    });
  } catch (error) {
    if ((error as { code?: unknown }).code !== "57014") throw error;
    throw new GatewayError("over_limit", "the search took too long: name a client_ref", { cause: error });
  }
}

/**
 * Changes what people and automations note of a contact. Events that are committed later show it.
 *
 * @throws GatewayError `not_found`
 */
export async function updateContact(
  database: Database,
  access: Access,
  userId: string,
  change: ContactChange,
  now: Date,
): Promise<Contact> {
  const { tenantId, actor } = access;
  return await database.em().transactional(async (fork) => {
    const em = fork as EntityManager;
    const { id } = await lockContact(em, access, userId);
    const { name, note, noteAutomation, labels } = change;
    const columns: [string, unknown][] = [];
    if (name !== undefined) columns.push(["given_name = ?", name]);
    if (note !== undefined) columns.push(["note = ?", note]);
    if (noteAutomation !== undefined) columns.push(["note_automation = ?", noteAutomation]);
    if (labels !== undefined) columns.push(["labels = ?::text[]", textArray(labels)]);
    columns.push(["updated_at = ?", now]);
    await em.execute(`UPDATE contact SET ${columns.map(([text]) => text).join(", ")} WHERE id = ?`, [
      ...columns.map(([, value]) => value),
      id,
    ]);
    const changes = describeChange(change);
    await noteAudit(em, { tenantId, actor, action: "contact.updated", subjectId: id, changes }, now);
    return await readContact(em, access, id);
  });
}

/**
 * Locks a contact for a change; what publishes an event of it waits.
 *
 * @throws GatewayError `not_found`
 */
export async function lockContact(em: EntityManager, owner: Owner, userId: string): Promise<Contact> {
  const { id } = await readContact(em, owner, userId);
  const locked = await em.execute<unknown[]>("SELECT FROM contact WHERE id = ? FOR UPDATE", [id]);
  // It may have become part of another, or gone, while the lock was waited for.
  if (locked.length === 0) return await lockContact(em, owner, userId);
  return await readContact(em, owner, id);
}

async function readContact(em: EntityManager, owner: Owner, userId: string): Promise<Contact> {
  const rows = await em.execute<ContactColumns[]>(
    `SELECT ${columns} FROM contact c JOIN client p ON p.id = c.client_id
     WHERE c.id = coalesce((SELECT contact_id FROM contact_former_id WHERE id = ?::uuid), ?::uuid)
       AND p.tenant_id = ? AND (?::int IS NULL OR p.id = ?)`,
    [userId, userId, owner.tenantId, owner.clientId, owner.clientId],
  );
  const row = rows[0];
  if (row) return toContact(row);
  throw new GatewayError("not_found", `contact ${userId} does not exist`, { field: "user_id" });
}

/** Lists as JSON and instants as Unix milliseconds: the ORM's connections give texts otherwise. */
const columns = `c.id, c.client_id, p.client_ref, c.phone, c.bsuid, c.given_name, c.profile_name, c.note,
  c.note_automation, to_json(c.labels)::text AS labels,
  (SELECT coalesce(json_agg(n.phone_number_id ORDER BY v.id), '[]')::text
   FROM conversation v JOIN phone_number n ON n.id = v.number_id
   WHERE v.contact_id = c.id AND v.merged_into IS NULL) AS phone_number_ids,
  extract(epoch FROM c.created_at)::float8 * 1000 AS created_ms,
  extract(epoch FROM c.updated_at)::float8 * 1000 AS updated_ms`;

interface ContactColumns {
  id: string;
  client_id: number;
  client_ref: string;
  phone: string | null;
  bsuid: string | null;
  given_name: string | null;
  profile_name: string | null;
  note: string;
  note_automation: string;
  labels: string;
  phone_number_ids: string;
  created_ms: number;
  updated_ms: number;
}

function toContact(row: ContactColumns): Contact {
  return {
    id: row.id,
    clientId: row.client_id,
    clientRef: row.client_ref,
    phone: row.phone,
    bsuid: row.bsuid,
    name: row.given_name,
    profileName: row.profile_name,
    note: row.note,
    noteAutomation: row.note_automation,
    labels: JSON.parse(row.labels) as string[],
    phoneNumberIds: JSON.parse(row.phone_number_ids) as string[],
    createdAt: new Date(Math.round(row.created_ms)),
    updatedAt: new Date(Math.round(row.updated_ms)),
  };
}

/** For the audit: which fields. What they say is personal, and the audit outlives the contact. */
function describeChange(change: ContactChange): Record<string, unknown> {
  const { name, note, noteAutomation, labels } = change;
  const fields = { name, note, note_automation: noteAutomation, labels };
  return Object.fromEntries(
    Object.entries(fields)
      .filter(([, value]) => value !== undefined)
      .map(([field, value]) => [field, value === null || value!.length === 0 ? "removed" : "set"]),
  );
}
