/** The operator's customers. A deleted one stays, without anything that could act, for as long as its log does. */

import type { EntityManager } from "@mikro-orm/postgresql";
import { GatewayError } from "../domain/errors.ts";
import { type Actor, noteAudit } from "./audit.ts";
import { changeConfiguration } from "./configuration.ts";
import { cancelUnfinished } from "./delivery-changes.ts";
import { type TenantRow, TenantSchema } from "./entities/tenant.ts";
import type { Database } from "./orm.ts";
import { cancelTenantMessages } from "./outgoing-list.ts";

export interface Tenant {
  id: number;
  name: string;
  createdAt: Date;
}

const defaultTenantName = "default";
/** Pending deliveries are counted so far: more than that is told as that. */
const pendingCountMax = 10_000;

/** @throws GatewayError `already_exists` */
export async function createTenant(
  database: Database,
  actor: Actor,
  name: string,
  now: Date,
): Promise<Tenant> {
  return await changeConfiguration(database, async (em, version) => {
    // Nobody else adds one meanwhile: changes of configuration go one after another.
    if ((await em.findOne(TenantSchema, { name, deletedAt: null })) !== null) {
      throw new GatewayError("already_exists", `there is a tenant ${name} already`, { field: "name" });
    }
    const row = em.create(TenantSchema, { name, version, createdAt: now, deletedAt: null });
    await em.flush();
    await noteAudit(
      em,
      { tenantId: row.id, actor, action: "tenant.created", subjectId: name, changes: { name } },
      now,
    );
    return toTenant(row);
  });
}

/** @throws GatewayError `not_found` */
export async function getTenant(database: Database, name: string): Promise<Tenant> {
  return toTenant(await findRow(database.em(), name));
}

/**
 * Tenants, newest first.
 *
 * @param page.beforeId  only those older than this one; null = from the newest
 */
export async function listTenants(
  database: Database,
  page: { limit: number; beforeId: number | null },
): Promise<Tenant[]> {
  const olderOnly = page.beforeId === null ? {} : { id: { $lt: page.beforeId } };
  const rows = await database
    .em()
    .find(TenantSchema, { deletedAt: null, ...olderOnly }, { orderBy: { id: "desc" }, limit: page.limit });
  return rows.map(toTenant);
}

/**
 * To be called in the transaction that gives a tenant something new: a call that was let in before the tenant was
 * deleted may come to its end later, and would leave a thing that nothing deletes any more.
 *
 * @throws GatewayError `not_found`
 */
export async function refuseDeletedTenant(em: EntityManager, tenantId: number): Promise<void> {
  if ((await em.count(TenantSchema, { id: tenantId, deletedAt: null })) > 0) return;
  throw new GatewayError("not_found", "the tenant does not exist any more");
}

/**
 * Takes a tenant away for good with all that it owns: keys die, secrets, headers and access tokens are erased, numbers
 * become nobody's, and what is not finished is canceled once that is committed.
 *
 * @param force  also while it has webhooks or pending deliveries
 * @throws GatewayError `not_found`, or `wrong_state` for the tenant `default` and for one that needs `force`
 */
export async function deleteTenant(
  database: Database,
  actor: Actor,
  name: string,
  force: boolean,
  now: Date,
): Promise<void> {
  const webhookIds = await changeConfiguration(database, async (em, version) => {
    const tenant = await findRow(em, name);
    if (name === defaultTenantName) {
      throw new GatewayError("wrong_state", "tenant default cannot be deleted", { field: "name" });
    }
    const webhooks = await em.execute<{ id: number }[]>(
      "SELECT id FROM webhook WHERE tenant_id = ? AND deleted_at IS NULL",
      [tenant.id],
    );
    if (!force) await refuseBusy(em, name, tenant.id, webhooks.length);
    const erased = await eraseOwned(em, tenant.id, { actor, version, now });
    em.assign(tenant, { version, deletedAt: now });
    await em.flush();
    const changes = { webhooks: webhooks.length, ...erased };
    await noteAudit(
      em,
      { tenantId: tenant.id, actor, action: "tenant.deleted", subjectId: name, changes },
      now,
    );
    return webhooks.map(({ id }) => id);
  });
  for (const id of webhookIds) await cancelUnfinished(database, id, "webhook_deleted", now);
}

async function refuseBusy(
  em: EntityManager,
  name: string,
  tenantId: number,
  webhookCount: number,
): Promise<void> {
  // The log is large and what waits is small: only a plan that goes by the indexes of what waits is any good.
  await em.execute(
    "SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off",
  );
  const [found] = await em.execute<[{ count: number }]>(
    `SELECT count(*)::int AS count FROM (
       SELECT FROM delivery
       WHERE webhook_id IN (SELECT id FROM webhook WHERE tenant_id = ?) AND due_at IS NOT NULL
       UNION ALL
       SELECT FROM delivery WHERE leased_until IS NOT NULL AND tenant_id = ? AND state <> 'canceled'
       LIMIT ?) AS unfinished`,
    [tenantId, tenantId, pendingCountMax],
  );
  if (webhookCount === 0 && found.count === 0) return;
  const pending = `${found.count}${found.count === pendingCountMax ? " or more" : ""}`;
  throw new GatewayError(
    "wrong_state",
    `tenant ${name} has ${webhookCount} webhooks and ${pending} pending deliveries: delete the webhooks and wait ` +
      "until nothing is pending, or set force, which cancels it all",
    { field: "force" },
  );
}

/** Ends everything that could act for the tenant; answers with how many of each there were. */
async function eraseOwned(
  em: EntityManager,
  tenantId: number,
  { actor, version, now }: { actor: Actor; version: bigint; now: Date },
): Promise<{ clients: number; api_keys: number }> {
  await em.execute(
    "DELETE FROM webhook_secret s USING webhook w WHERE w.id = s.webhook_id AND w.tenant_id = ?",
    [tenantId],
  );
  await em.execute(
    `INSERT INTO audit_entry (occurred_at, tenant_id, actor, action, subject_id, changes)
     SELECT ?, tenant_id, ?, 'webhook.deleted', id::text, '{}' FROM webhook
     WHERE tenant_id = ? AND deleted_at IS NULL ORDER BY id`,
    [now, actor, tenantId],
  );
  await cancelTenantMessages(em, tenantId, now);
  await em.execute(
    `UPDATE webhook SET is_enabled = false, headers_sealed = NULL, version = ?, updated_at = ?, deleted_at = ?
     WHERE tenant_id = ? AND deleted_at IS NULL`,
    [version, now, now, tenantId],
  );
  await em.execute(
    `UPDATE phone_number n SET client_id = NULL, version = ? FROM client c WHERE c.id = n.client_id AND c.tenant_id = ?`,
    [version, tenantId],
  );
  await em.execute("DELETE FROM client_waba w USING client c WHERE c.id = w.client_id AND c.tenant_id = ?", [
    tenantId,
  ]);
  const clients = await em.execute<unknown[]>(
    `WITH gone AS (
       UPDATE client SET access_token_sealed = NULL, app_secret_sealed = NULL, version = ?, deleted_at = ?
       WHERE tenant_id = ? AND deleted_at IS NULL RETURNING id, tenant_id, client_ref)
     INSERT INTO audit_entry (occurred_at, tenant_id, actor, action, subject_id, changes)
     SELECT ?, tenant_id, ?, 'client.deleted', client_ref, '{}' FROM gone ORDER BY id RETURNING 1`,
    [version, now, tenantId, now, actor],
  );
  const keys = await em.execute<unknown[]>(
    `WITH gone AS (
       UPDATE api_key SET revoked_at = ?, version = ?
       WHERE tenant_id = ? AND revoked_at IS NULL RETURNING id, tenant_id)
     INSERT INTO audit_entry (occurred_at, tenant_id, actor, action, subject_id, changes)
     SELECT ?, tenant_id, ?, 'api_key.revoked', id::text, '{}' FROM gone ORDER BY id RETURNING 1`,
    [now, version, tenantId, now, actor],
  );
  await em.execute("DELETE FROM idempotency_key WHERE tenant_id = ?", [tenantId]);
  return { clients: clients.length, api_keys: keys.length };
}

async function findRow(em: EntityManager, name: string): Promise<TenantRow> {
  const row = await em.findOne(TenantSchema, { name, deletedAt: null });
  if (row === null) throw new GatewayError("not_found", `tenant ${name} does not exist`, { field: "name" });
  return row;
}

function toTenant(row: TenantRow): Tenant {
  return { id: row.id, name: row.name, createdAt: row.createdAt };
}
