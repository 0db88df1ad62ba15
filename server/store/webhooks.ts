/**
 * Webhooks as configuration: every change runs under the configuration lock and stamps the row, so that publishers
 * follow it at once (`configuration.ts`). Secrets and headers go in sealed and are read back by the Directory alone.
 */

import { hash } from "node:crypto";
import type { EntityManager } from "@mikro-orm/postgresql";
import { GatewayError } from "../domain/errors.ts";
import type { Webhook } from "../domain/webhook.ts";
import type { WebhookSettings } from "../domain/webhook-rules.ts";
import { type Access, type Owner, ownedBy } from "./access.ts";
import { noteAudit } from "./audit.ts";
import { findClientId, readClientRefs } from "./client-refs.ts";
import { changeConfiguration, sealedFor } from "./configuration.ts";
import { cancelUnfinished } from "./delivery-changes.ts";
import { type WebhookRow, WebhookSchema } from "./entities/webhook.ts";
import { WebhookSecretSchema } from "./entities/webhook-secret.ts";
import { forgetFailures } from "./failure-streaks.ts";
import type { Database } from "./orm.ts";
import { cancelReplies } from "./outgoing-list.ts";
import type { Sealer } from "./sealer.ts";
import { refuseDeletedTenant } from "./tenants.ts";
import { auditChanges, auditSettings } from "./webhook-audit.ts";

export interface NewWebhook {
  settings: WebhookSettings;
  /** Null for an unsigned webhook. */
  secret: string | null;
  headers: Record<string, string>;
  /** Writes in the same transaction what belongs to the webhook's making. */
  inTransaction?(em: EntityManager, webhook: Webhook): Promise<void>;
}

export interface WebhookChange {
  /**
   * Gives the settings after the change. Called inside the transaction, and before it: pure.
   *
   * @throws GatewayError if the change is refused; nothing is changed then
   */
  apply(before: Webhook): WebhookSettings;
  /** All headers after the change, `{}` for none; undefined leaves them alone. */
  headers?: Record<string, string>;
}

/**
 * @throws GatewayError `already_exists` if the tenant has a webhook with this URL, `invalid_input` if it has no client
 *         of this name, `not_found` if the tenant was deleted
 */
export async function createWebhook(
  database: Database,
  sealer: Sealer,
  access: Access,
  { settings, secret, headers, inTransaction }: NewWebhook,
  now: Date,
): Promise<Webhook> {
  const { tenantId, actor } = access;
  return await refusingTakenUrl(
    changeConfiguration(database, async (em, version) => {
      await refuseDeletedTenant(em, tenantId);
      const row = em.create(WebhookSchema, {
        tenantId,
        ...toColumns(settings),
        clientId: await findClientId(em, tenantId, settings.clientRef),
        headersSealed: sealHeaders(sealer, headers),
        disabledReason: null,
        disabledAt: null,
        version,
        createdAt: now,
        updatedAt: now,
        deletedAt: null,
      });
      await em.flush();
      if (secret !== null) {
        const secretSealed = sealer.seal(secret, sealedFor.webhookSecret);
        em.create(WebhookSecretSchema, { webhookId: row.id, secretSealed, createdAt: now, expiresAt: null });
        await em.flush();
      }
      const webhook = toWebhook(row, settings.clientRef);
      const changes = {
        ...auditSettings(webhook),
        ...(secret !== null && { signature_secret: "set" }),
        ...(row.headersSealed && { headers: "set" }),
      };
      await noteAudit(
        em,
        { tenantId, actor, action: "webhook.created", subjectId: String(row.id), changes },
        now,
      );
      await inTransaction?.(em, webhook);
      return webhook;
    }),
  );
}

/** @throws GatewayError `not_found` */
export async function getWebhook(database: Database, owner: Owner, id: number): Promise<Webhook> {
  const em = database.em();
  return await withClientRef(em, await findRow(em, owner, id));
}

/**
 * Webhooks of an owner, newest first; `[]` if there are none.
 *
 * @param page.limit     how many at most
 * @param page.beforeId  only those older than this one; null = from the newest
 */
export async function listWebhooks(
  database: Database,
  owner: Owner,
  page: { limit: number; beforeId: number | null },
): Promise<Webhook[]> {
  const em = database.em();
  const olderOnly = page.beforeId === null ? {} : { id: { $lt: page.beforeId } };
  const rows = await em.find(
    WebhookSchema,
    { ...ownedBy(owner), deletedAt: null, ...olderOnly },
    { orderBy: { id: "desc" }, limit: page.limit },
  );
  const refs = await readClientRefs(em, rows);
  return rows.map((row) => toWebhook(row, refs.get(row.clientId ?? 0) ?? null));
}

/**
 * Changes a webhook. Turning it off cancels what is not finished, once the change is committed; scheduled replies end in
 * the change itself, if it or its scheduling is off then. Turning it on cancels
 * what a crash may have left from before, while it is still off, so that nothing old is sent. Signing turned off drops
 * the secrets. The same change twice does no harm.
 *
 * @throws GatewayError `not_found`, `already_exists`, `invalid_input`, or what `change.apply` throws
 */
export async function updateWebhook(
  database: Database,
  sealer: Sealer,
  access: Access,
  id: number,
  change: WebhookChange,
  now: Date,
): Promise<Webhook> {
  const { tenantId, actor } = access;
  const known = await getWebhook(database, access, id);
  if (!known.isEnabled && change.apply(known).isEnabled) {
    await cancelUnfinished(database, id, "webhook_disabled", now);
  }
  const after = await refusingTakenUrl(
    changeConfiguration(database, async (em, version) => {
      const row = await findRow(em, access, id);
      const before = await withClientRef(em, row);
      const settings = change.apply(before);
      em.assign(row, { ...toColumns(settings), version, updatedAt: now });
      if (settings.clientRef !== before.clientRef) {
        row.clientId = await findClientId(em, tenantId, settings.clientRef);
      }
      if (change.headers !== undefined) row.headersSealed = sealHeaders(sealer, change.headers);
      // What the gateway turned it off for ends when someone turns it on, and failures are counted anew.
      if (settings.isEnabled) em.assign(row, { disabledReason: null, disabledAt: null });
      if (settings.isEnabled && !before.isEnabled) await forgetFailures(em, id);
      await em.flush();
      if (!settings.isSigned) await em.nativeDelete(WebhookSecretSchema, { webhookId: id });
      if (!settings.isEnabled) await cancelReplies(em, id, "webhook_disabled", now);
      else if (!settings.scheduleActivity) await cancelReplies(em, id, "scheduling_disabled", now);
      const webhook = toWebhook(row, settings.clientRef);
      const changes = {
        ...auditChanges(before, webhook),
        ...(before.isSigned && !webhook.isSigned && { signature_secret: "removed" }),
        ...(change.headers !== undefined && { headers: row.headersSealed ? "set" : "removed" }),
      };
      await noteAudit(
        em,
        { tenantId, actor, action: "webhook.updated", subjectId: String(id), changes },
        now,
      );
      return webhook;
    }),
  );
  if (!after.isEnabled) await cancelUnfinished(database, id, "webhook_disabled", now);
  return after;
}

/**
 * Takes a webhook away for good: its secrets and headers are erased, what is not finished is canceled, its log stays.
 *
 * @throws GatewayError `not_found`, also for one that was deleted before
 */
export async function deleteWebhook(
  database: Database,
  access: Access,
  id: number,
  now: Date,
): Promise<void> {
  const { tenantId, actor } = access;
  await changeConfiguration(database, async (em, version) => {
    const row = await findRow(em, access, id);
    em.assign(row, { isEnabled: false, headersSealed: null, version, updatedAt: now, deletedAt: now });
    await em.flush();
    await cancelReplies(em, id, "webhook_deleted", now);
    await em.nativeDelete(WebhookSecretSchema, { webhookId: id });
    const note = { tenantId, actor, action: "webhook.deleted", subjectId: String(id), changes: {} } as const;
    await noteAudit(em, note, now);
  });
  await cancelUnfinished(database, id, "webhook_deleted", now);
}

/**
 * Gives a webhook a new secret and turns signing on. The current one stays live beside it until the overlap ends; one
 * that was still live from an earlier rotation ends now.
 *
 * @param rotation.overlapSeconds  0 = the current secret ends now
 * @returns the webhook, and when its former secret ends: null if none is left
 * @throws GatewayError `not_found`
 */
export async function rotateWebhookSecret(
  database: Database,
  sealer: Sealer,
  access: Access,
  id: number,
  rotation: { secret: string; overlapSeconds: number },
  now: Date,
): Promise<{ webhook: Webhook; formerExpiresAt: Date | null }> {
  const { tenantId, actor } = access;
  const { secret, overlapSeconds } = rotation;
  return await changeConfiguration(database, async (em, version) => {
    const row = await findRow(em, access, id);
    const wasSigned = row.isSigned;
    em.assign(row, { isSigned: true, version, updatedAt: now });
    await em.flush();
    await em.nativeDelete(WebhookSecretSchema, { webhookId: id, expiresAt: { $ne: null } });
    const former = await em.findOne(WebhookSecretSchema, { webhookId: id });
    let formerExpiresAt: Date | null = null;
    if (former !== null && overlapSeconds > 0) {
      // Another process's clock may be ahead of ours: the end has to lie behind the beginning all the same.
      const endMs = Math.max(now.getTime() + overlapSeconds * 1000, former.createdAt.getTime() + 1);
      formerExpiresAt = new Date(endMs);
      former.expiresAt = formerExpiresAt;
      await em.flush();
    } else if (former !== null) {
      await em.nativeDelete(WebhookSecretSchema, { webhookId: id });
    }
    await em.insert(WebhookSecretSchema, {
      webhookId: id,
      secretSealed: sealer.seal(secret, sealedFor.webhookSecret),
      createdAt: now,
      expiresAt: null,
    });
    const changes = {
      signature_secret: "set",
      overlap_seconds: overlapSeconds,
      ...(!wasSigned && { active_signature: true }),
    };
    await noteAudit(
      em,
      { tenantId, actor, action: "webhook.secret_rotated", subjectId: String(id), changes },
      now,
    );
    return { webhook: await withClientRef(em, row), formerExpiresAt };
  });
}

async function findRow(em: EntityManager, owner: Owner, id: number): Promise<WebhookRow> {
  const row = await em.findOne(WebhookSchema, { id, ...ownedBy(owner), deletedAt: null });
  if (row === null) throw new GatewayError("not_found", `webhook ${id} does not exist`, { field: "id" });
  return row;
}

async function withClientRef(em: EntityManager, row: WebhookRow): Promise<Webhook> {
  const refs = await readClientRefs(em, [row]);
  return toWebhook(row, refs.get(row.clientId ?? 0) ?? null);
}

function toColumns(settings: WebhookSettings) {
  return {
    url: settings.url,
    urlDigest: hash("sha256", new URL(settings.url).href, "buffer"),
    isEnabled: settings.isEnabled,
    isPaused: settings.isPaused,
    incoming: settings.incoming,
    outgoing: settings.outgoing,
    scheduleActivity: settings.scheduleActivity,
    waitingDurationSeconds: settings.waitingDurationSeconds,
    isSigned: settings.isSigned,
    transformer: settings.transformer,
    transformerOptions: settings.transformerOptions,
    eventTypes: settings.eventTypes,
    maxInFlight: settings.maxInFlight,
    description: settings.description,
  };
}

function sealHeaders(sealer: Sealer, headers: Record<string, string>): Buffer | null {
  if (Object.keys(headers).length === 0) return null;
  return sealer.seal(JSON.stringify(headers), sealedFor.webhookHeaders);
}

/** The unique index decides, whoever else registers the same URL at the same time. */
async function refusingTakenUrl<T>(change: Promise<T>): Promise<T> {
  try {
    return await change;
  } catch (error) {
    const { code, constraint } = error as { code?: unknown; constraint?: unknown };
    if (code !== "23505" || constraint !== "webhook_url_key") throw error;
    throw new GatewayError("already_exists", "Same webhook exist", { cause: error, field: "webhooks" });
  }
}

function toWebhook(row: WebhookRow, clientRef: string | null): Webhook {
  return {
    id: row.id,
    tenantId: row.tenantId,
    clientId: row.clientId ?? null,
    clientRef,
    url: row.url,
    isEnabled: row.isEnabled,
    isPaused: row.isPaused,
    incoming: row.incoming,
    outgoing: row.outgoing,
    scheduleActivity: row.scheduleActivity,
    waitingDurationSeconds: row.waitingDurationSeconds,
    isSigned: row.isSigned,
    transformer: row.transformer,
    transformerOptions: row.transformerOptions ?? null,
    eventTypes: [...row.eventTypes],
    maxInFlight: row.maxInFlight,
    description: row.description,
    disabledReason: row.disabledReason ?? null,
    disabledAt: row.disabledAt ?? null,
    createdAt: row.createdAt,
    updatedAt: row.updatedAt,
  };
}
