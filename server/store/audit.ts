/** Who changed what, when. Written in the transaction of the change itself: no change without its entry. */

import type { EntityManager } from "@mikro-orm/postgresql";
import type { Database } from "./orm.ts";

/** `operator`, `key:<id>`, or `gateway` for what it does by itself. */
export type Actor = "operator" | "gateway" | `key:${number}`;

export type AuditAction =
  | `webhook.${"created" | "updated" | "deleted" | "secret_rotated" | "disabled"}`
  | `client.${"created" | "updated" | "deleted"}`
  | `contact.${"updated" | "deleted"}`
  | `api_key.${"created" | "revoked"}`
  | `recovery.${"started" | "canceled"}`
  | `tenant.${"created" | "deleted"}`;

export interface AuditNote {
  tenantId: number;
  actor: Actor;
  action: AuditAction;
  /** Id of the thing changed, as callers know it. */
  subjectId: string;
  /** New values by field name; a secret is told as `"set"` or `"removed"`, never by its value. */
  changes: Record<string, unknown>;
}

/** Adds the entry to the transaction of `em`. */
export async function noteAudit(em: EntityManager, note: AuditNote, now: Date): Promise<void> {
  await em.execute(
    "INSERT INTO audit_entry (occurred_at, tenant_id, actor, action, subject_id, changes) VALUES (?, ?, ?, ?, ?, ?)",
    [now, note.tenantId, note.actor, note.action, note.subjectId, JSON.stringify(note.changes)],
  );
}

export interface AuditEntry {
  /** Text of a 64-bit number; grows. */
  id: string;
  occurredAt: Date;
  /** Name of the tenant, which may have been deleted since. */
  tenant: string;
  actor: string;
  action: string;
  subjectId: string;
  changes: Record<string, unknown>;
}

/**
 * Entries, newest first; `[]` if there are none.
 *
 * @param tenantId       null = of all tenants
 * @param page.beforeId  only those older than this one; null = from the newest
 */
export async function listAuditEntries(
  database: Database,
  tenantId: number | null,
  page: { limit: number; beforeId: string | null },
): Promise<AuditEntry[]> {
  const rows = await database.em().execute<AuditRow[]>(
    `SELECT e.id::text, extract(epoch FROM e.occurred_at)::float8 * 1000 AS occurred_ms, t.name AS tenant, e.actor,
       e.action, e.subject_id, e.changes::text
     FROM audit_entry e JOIN tenant t ON t.id = e.tenant_id
     WHERE (?::int IS NULL OR e.tenant_id = ?) AND (?::bigint IS NULL OR e.id < ?::bigint)
     ORDER BY e.id DESC LIMIT ?`,
    [tenantId, tenantId, page.beforeId, page.beforeId, page.limit],
  );
  return rows.map((row) => ({
    id: row.id,
    occurredAt: new Date(Math.round(row.occurred_ms)),
    tenant: row.tenant,
    actor: row.actor,
    action: row.action,
    subjectId: row.subject_id,
    changes: JSON.parse(row.changes) as Record<string, unknown>,
  }));
}

interface AuditRow {
  id: string;
  occurred_ms: number;
  tenant: string;
  actor: string;
  action: string;
  subject_id: string;
  changes: string;
}
