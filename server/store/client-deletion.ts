/** The end of a client: of its secrets, its numbers, the webhooks that name it and the deliveries of its events. */

import type { EntityManager } from "@mikro-orm/postgresql";
import { GatewayError } from "../domain/errors.ts";
import type { Access } from "./access.ts";
import { noteAudit } from "./audit.ts";
import { setNumbers, setWabas } from "./client-numbers.ts";
import { findClient } from "./clients.ts";
import { changeConfiguration } from "./configuration.ts";
import { cancelUnfinished } from "./delivery-changes.ts";
import { ApiKeySchema, WebhookSchema, WebhookSecretSchema } from "./entities/index.ts";
import { isRepeatable } from "./faults.ts";
import type { Database } from "./orm.ts";
import { cancelClientMessages, countScheduled } from "./outgoing-list.ts";

export interface DeletedWith {
  webhookCount: number;
  deliveryCount: number;
}

/**
 * Takes a client away for good. Its name and numbers are free at once, its keys end, its log stays.
 *
 * @param isForced  true = delete the webhooks that name it, and cancel the unfinished deliveries of its events
 * @returns what went with it; all zero unless forced
 * @throws GatewayError `not_found`; `wrong_state`, with counts, if there is something to be forced
 */
export async function deleteClient(
  database: Database,
  access: Access,
  clientRef: string,
  isForced: boolean,
  now: Date,
): Promise<DeletedWith> {
  const { id } = await findClient(database.em(), access, clientRef);
  // The bulk of them before the lock is taken, which everything that publishes has to wait for.
  let deliveryCount = isForced ? await repeating(() => cancelAll(database, access.tenantId, id, now)) : 0;
  const { webhookIds, canceledCount } = await repeating(() =>
    changeConfiguration(database, (em, version) => erase(em, access, clientRef, { isForced, version, now })),
  );
  deliveryCount += canceledCount;
  for (const webhookId of webhookIds) {
    deliveryCount += await cancelUnfinished(database, webhookId, "webhook_deleted", now);
  }
  return { webhookCount: webhookIds.length, deliveryCount };
}

async function erase(
  em: EntityManager,
  access: Access,
  clientRef: string,
  { isForced, version, now }: { isForced: boolean; version: bigint; now: Date },
): Promise<{ webhookIds: number[]; canceledCount: number }> {
  const { tenantId, actor } = access;
  const row = await findClient(em, access, clientRef);
  const webhooks = await em.find(WebhookSchema, { clientId: row.id, deletedAt: null });
  if (!isForced) await refuseUnlessFree(em, tenantId, row.id, webhooks.length);
  const canceledCount = isForced ? await cancelBatches(em, tenantId, row.id, now) : 0;
  for (const webhook of webhooks) {
    em.assign(webhook, {
      isEnabled: false,
      headersSealed: null,
      version,
      updatedAt: now,
      deletedAt: now,
    });
    await em.nativeDelete(WebhookSecretSchema, { webhookId: webhook.id });
    const subjectId = String(webhook.id);
    await noteAudit(em, { tenantId, actor, action: "webhook.deleted", subjectId, changes: {} }, now);
  }
  await cancelClientMessages(em, row.id, now);
  await setNumbers(em, row.id, [], { version, now });
  await setWabas(em, row.id, [], { version, now });
  for (const key of await em.find(ApiKeySchema, { clientId: row.id, revokedAt: null })) {
    em.assign(key, { revokedAt: now, version });
    const changes = { revoked_at: now };
    await noteAudit(
      em,
      { tenantId, actor, action: "api_key.revoked", subjectId: String(key.id), changes },
      now,
    );
  }
  em.assign(row, { accessTokenSealed: null, appSecretSealed: null, version, deletedAt: now });
  await em.flush();
  await noteAudit(
    em,
    {
      tenantId,
      actor,
      action: "client.deleted",
      subjectId: clientRef,
      changes: isForced ? { force: true } : {},
    },
    now,
  );
  return { webhookIds: webhooks.map((webhook) => webhook.id), canceledCount };
}

async function refuseUnlessFree(
  em: EntityManager,
  tenantId: number,
  clientId: number,
  webhookCount: number,
): Promise<void> {
  await preferIndexes(em);
  const [found] = await em.execute<[{ count: number }]>(
    `SELECT count(*)::int AS count FROM (
       SELECT FROM delivery d JOIN event e ON e.tenant_id = d.tenant_id AND e.id = d.event_id
       WHERE d.webhook_id IN (SELECT id FROM webhook WHERE tenant_id = ?)
         AND d.due_at IS NOT NULL AND e.client_id = ?
       UNION ALL
       SELECT FROM delivery d JOIN event e ON e.tenant_id = d.tenant_id AND e.id = d.event_id
       WHERE d.leased_until IS NOT NULL AND d.tenant_id = ? AND d.state <> 'canceled' AND e.client_id = ?
       LIMIT ${countMax}) AS unfinished`,
    [tenantId, clientId, tenantId, clientId],
  );
  const { count } = found;
  const scheduledCount = await countScheduled(em, clientId);
  if (webhookCount === 0 && count === 0 && scheduledCount === 0) return;
  const scheduled = scheduledCount === 0 ? "" : `, and ${scheduledCount} messages are scheduled`;
  throw new GatewayError(
    "wrong_state",
    `${webhookCount} webhooks name this client and ${count === countMax ? `${count} or more` : count} ` +
      `deliveries of its events are pending${scheduled}: delete the webhooks and wait, or set force to cancel it all`,
    { field: "force" },
  );
}

const countMax = 10_000;
const batchMax = 5_000;
const attemptsMax = 5;

/** In transactions of their own, until nothing is left. */
async function cancelAll(database: Database, tenantId: number, clientId: number, now: Date): Promise<number> {
  let canceledCount = 0;
  for (;;) {
    const count = await database
      .em()
      .transactional((em) => cancelBatch(em as EntityManager, tenantId, clientId, now));
    canceledCount += count;
    if (count === 0) return canceledCount;
  }
}

async function cancelBatches(
  em: EntityManager,
  tenantId: number,
  clientId: number,
  now: Date,
): Promise<number> {
  let canceledCount = 0;
  for (;;) {
    const count = await cancelBatch(em, tenantId, clientId, now);
    canceledCount += count;
    if (count === 0) return canceledCount;
  }
}

/** As `cancelUnfinished` does for a webhook: what is in flight runs on, and what is sent once more stays delivered. */
async function cancelBatch(
  em: EntityManager,
  tenantId: number,
  clientId: number,
  now: Date,
): Promise<number> {
  await preferIndexes(em);
  const canceled = await em.execute<unknown[]>(
    `WITH waiting AS (
       SELECT d.webhook_id, d.id FROM delivery d JOIN event e ON e.tenant_id = d.tenant_id AND e.id = d.event_id
       WHERE d.webhook_id IN (SELECT id FROM webhook WHERE tenant_id = ?)
         AND d.due_at IS NOT NULL AND e.client_id = ?
       LIMIT ${batchMax} FOR UPDATE OF d),
     under_way AS (
       SELECT d.webhook_id, d.id FROM delivery d JOIN event e ON e.tenant_id = d.tenant_id AND e.id = d.event_id
       WHERE d.leased_until IS NOT NULL AND d.tenant_id = ? AND d.state = 'delivering' AND e.client_id = ?
       LIMIT ${batchMax} FOR UPDATE OF d)
     UPDATE delivery d SET
       state = CASE WHEN d.state = 'delivered' THEN d.state ELSE 'canceled' END,
       reason = CASE WHEN d.state = 'delivered' THEN d.reason ELSE 'client_deleted' END,
       finished_at = coalesce(d.finished_at, ?), due_at = NULL
     FROM (SELECT * FROM waiting UNION SELECT * FROM under_way) AS unfinished
     WHERE d.webhook_id = unfinished.webhook_id AND d.id = unfinished.id
     RETURNING 1`,
    [tenantId, clientId, tenantId, clientId, now],
  );
  return canceled.length;
}

/** The log is large and what waits is small: only plans that go by the indexes of what waits are any good. */
async function preferIndexes(em: EntityManager): Promise<void> {
  await em.execute(
    "SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off",
  );
}

/** Attempts that are recorded at the same time lock the same rows, in another order. */
async function repeating<T>(change: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await change();
    } catch (error) {
      if (!isRepeatable(error) || attempt === attemptsMax) throw error;
    }
  }
}
