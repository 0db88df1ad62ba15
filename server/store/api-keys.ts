/**
 * Keys of tenants. They are configuration: made and revoked under the configuration lock, and looked up in the
 * Directory, so that a call costs no query. When a key was last used is no configuration: it is noted in batches.
 */

import type pg from "pg";
import { GatewayError } from "../domain/errors.ts";
import { plainArray } from "./array-literals.ts";
import { type Actor, noteAudit } from "./audit.ts";
import { findClientId, readClientRefs } from "./client-refs.ts";
import { changeConfiguration } from "./configuration.ts";
import { type ApiKeyRow, ApiKeySchema } from "./entities/api-key.ts";
import type { Database } from "./orm.ts";
import { refuseDeletedTenant } from "./tenants.ts";

export interface ApiKey {
  id: number;
  name: string;
  scopes: string[];
  /** Null = every client of the tenant. */
  clientRef: string | null;
  /** The last four characters of the key. */
  hint: string;
  /** 0 = no limit. */
  rateLimitPerMinute: number;
  createdAt: Date;
  expiresAt: Date | null;
  revokedAt: Date | null;
  lastUsedAt: Date | null;
}

export interface NewApiKey extends Pick<ApiKey, "name" | "scopes" | "clientRef" | "hint" | "expiresAt"> {
  rateLimitPerMinute: number;
  /** SHA-256 of the key, which itself is stored nowhere. */
  digest: Uint8Array;
}

/** @throws GatewayError `invalid_input` if the tenant has no client of this name, `not_found` if it was deleted */
export async function createApiKey(
  database: Database,
  access: { tenantId: number; actor: Actor },
  key: NewApiKey,
  now: Date,
): Promise<ApiKey> {
  const { tenantId, actor } = access;
  const { clientRef, digest, ...rest } = key;
  return await changeConfiguration(database, async (em, version) => {
    await refuseDeletedTenant(em, tenantId);
    const clientId = await findClientId(em, tenantId, clientRef);
    const row = em.create(ApiKeySchema, {
      ...rest,
      tenantId,
      clientId,
      digest: Buffer.from(digest),
      version,
      createdAt: now,
      revokedAt: null,
      lastUsedAt: null,
    });
    await em.flush();
    const changes = {
      name: row.name,
      scopes: row.scopes,
      client_ref: clientRef,
      rate_limit_per_minute: row.rateLimitPerMinute,
      expires_at: row.expiresAt ?? null,
    };
    await noteAudit(
      em,
      { tenantId, actor, action: "api_key.created", subjectId: String(row.id), changes },
      now,
    );
    return toApiKey(row, clientRef);
  });
}

/**
 * Keys of a tenant, newest first, revoked ones included; `[]` if there are none.
 *
 * @param page.beforeId  only those older than this one; null = from the newest
 */
export async function listApiKeys(
  database: Database,
  tenantId: number,
  page: { limit: number; beforeId: number | null },
): Promise<ApiKey[]> {
  const em = database.em();
  const olderOnly = page.beforeId === null ? {} : { id: { $lt: page.beforeId } };
  const rows = await em.find(
    ApiKeySchema,
    { tenantId, ...olderOnly },
    { orderBy: { id: "desc" }, limit: page.limit },
  );
  const refs = await readClientRefs(em, rows);
  return rows.map((row) => toApiKey(row, refs.get(row.clientId ?? 0) ?? null));
}

/**
 * Ends a key. One that was revoked before stays as it is.
 *
 * @throws GatewayError `not_found`
 */
export async function revokeApiKey(
  database: Database,
  access: { tenantId: number; actor: Actor },
  id: number,
  now: Date,
): Promise<ApiKey> {
  const { tenantId, actor } = access;
  return await changeConfiguration(database, async (em, version) => {
    const row = await em.findOne(ApiKeySchema, { id, tenantId });
    if (row === null) throw new GatewayError("not_found", `api key ${id} does not exist`, { field: "id" });
    if (!row.revokedAt) {
      em.assign(row, { revokedAt: now, version });
      await em.flush();
      const changes = { revoked_at: now };
      await noteAudit(
        em,
        { tenantId, actor, action: "api_key.revoked", subjectId: String(id), changes },
        now,
      );
    }
    const refs = await readClientRefs(em, [row]);
    return toApiKey(row, refs.get(row.clientId ?? 0) ?? null);
  });
}

/** Notes when keys were last used; an instant before the one that is stored changes nothing. */
export async function noteKeysUsed(pool: pg.Pool, used: ReadonlyMap<number, Date>): Promise<void> {
  await pool.query({
    name: "note-keys-used",
    text: `UPDATE api_key k SET last_used_at = greatest(k.last_used_at, u.used_at)
      FROM unnest($1::int[], $2::timestamptz[]) AS u(id, used_at) WHERE k.id = u.id`,
    values: [plainArray([...used.keys()]), [...used.values()]],
  });
}

function toApiKey(row: ApiKeyRow, clientRef: string | null): ApiKey {
  return {
    id: row.id,
    name: row.name,
    scopes: [...row.scopes],
    clientRef,
    hint: row.hint,
    rateLimitPerMinute: row.rateLimitPerMinute,
    createdAt: row.createdAt,
    expiresAt: row.expiresAt ?? null,
    revokedAt: row.revokedAt ?? null,
    lastUsedAt: row.lastUsedAt ?? null,
  };
}
