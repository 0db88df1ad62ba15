/**
 * Configuration (tenants, clients, numbers, webhooks) is read by every event, so each process holds it in memory as a
 * Directory. Two things keep the copies right:
 *
 * - every change raises the one row of `configuration` and stamps what it touched with the new version, under the
 *   exclusive configuration lock;
 * - every publishing transaction takes the shared lock, and compares the version with its Directory's before it
 *   commits. So when a change has returned, each event acknowledged later was routed by it, on every process.
 *
 * The lock is an advisory one: it lives in memory, and publishers of many processes hold it side by side.
 */

import { randomBytes } from "node:crypto";
import type { EntityManager } from "@mikro-orm/postgresql";
import type pg from "pg";
import type { WebhookTarget } from "../domain/webhook.ts";
import type { Database } from "./orm.ts";
import type { Sealer } from "./sealer.ts";

const configurationLockKey = 7_305_003;

/** Where each change says its version as it commits. */
export const configurationChannel = "posthorn_configuration";

/** First statements of a publishing transaction; sent together, each sees what was committed before it. */
export const lockConfigurationShared = `SELECT pg_advisory_xact_lock_shared(${configurationLockKey})`;
export const readConfigurationVersion = "SELECT version FROM configuration";

/** Purposes that secrets are sealed for. */
export const sealedFor = {
  webhookSecret: "webhook_secret",
  webhookHeaders: "webhook_headers",
  accessToken: "client_access_token",
  appSecret: "client_app_secret",
} as const;

/**
 * Makes a change of configuration in one transaction.
 *
 * @param change  gets the transaction and the version to stamp on every row that it touches
 */
export async function changeConfiguration<T>(
  database: Database,
  change: (em: EntityManager, version: bigint) => Promise<T>,
): Promise<T> {
  return await database.em().transactional(async (em) => {
    await em.execute(`SELECT pg_advisory_xact_lock(${configurationLockKey})`);
    const [row] = await em.execute<[{ version: string }]>(
      `WITH raised AS (UPDATE configuration SET version = version + 1 RETURNING version)
       SELECT version, pg_notify('${configurationChannel}', version::text) FROM raised`,
    );
    return await change(em as EntityManager, BigInt(row.version));
  });
}

export interface DirectoryClient {
  id: number;
  tenantId: number;
  clientRef: string;
  /** Secret of an app of its own; null = the operator's apps send its events. */
  appSecret: string | null;
}

export interface DirectoryNumber {
  id: number;
  phoneNumberId: string;
  client: DirectoryClient;
}

/** A key that is not revoked; it may have expired. */
export interface DirectoryApiKey {
  id: number;
  tenantId: number;
  /** The only client whose things it reaches; null = every client of the tenant. */
  clientId: number | null;
  scopes: ReadonlySet<string>;
  /** 0 = no limit. */
  rateLimitPerMinute: number;
  expiresAt: Date | null;
}

/** What this process knows of the configuration; replaced in place as versions come. */
export interface Directory {
  version: bigint;
  numbers: Map<string, DirectoryNumber>;
  /** Clients by WABA id. */
  wabas: Map<string, DirectoryClient[]>;
  clients: Map<number, DirectoryClient>;
  /** Ids of the clients that have an app secret of their own. */
  clientsWithSecret: Set<number>;
  /** Webhooks that are not deleted, by tenant. */
  webhooksByTenant: Map<number, WebhookTarget[]>;
  webhooks: Map<number, WebhookTarget>;
  tenantIds: Map<string, number>;
  /** What could not be used as it is, since this was last emptied; for the log. */
  faults: string[];
  /** By the key's SHA-256 in hex. */
  apiKeys: Map<string, DirectoryApiKey>;
}

export function emptyDirectory(): Directory {
  return {
    version: 0n,
    numbers: new Map(),
    wabas: new Map(),
    clients: new Map(),
    clientsWithSecret: new Set(),
    webhooksByTenant: new Map(),
    webhooks: new Map(),
    tenantIds: new Map(),
    faults: [],
    apiKeys: new Map(),
  };
}

/**
 * Brings the directory up to what `client` sees now. Reads only rows that changed since its version.
 * Inside a publishing transaction nothing can change between this and the commit.
 */
export async function refreshDirectory(
  client: pg.ClientBase,
  directory: Directory,
  sealer: Sealer,
): Promise<void> {
  const since = directory.version;
  const [version, tenants, clients, numbers, wabas, webhooks, secrets, apiKeys] = await Promise.all([
    client.query<{ version: string }>(readConfigurationVersion),
    client.query("SELECT id, name, deleted_at FROM tenant WHERE version > $1 ORDER BY id", [since]),
    client.query(
      "SELECT id, tenant_id, client_ref, app_secret_sealed, deleted_at FROM client WHERE version > $1",
      [since],
    ),
    client.query("SELECT id, phone_number_id, client_id FROM phone_number WHERE version > $1", [since]),
    client.query("SELECT client_id, waba_id, removed_at FROM client_waba WHERE version > $1", [since]),
    client.query("SELECT * FROM webhook WHERE version > $1 ORDER BY id", [since]),
    client.query(
      `SELECT s.webhook_id, s.secret_sealed, s.expires_at FROM webhook_secret s JOIN webhook w ON w.id = s.webhook_id
       WHERE w.version > $1 AND w.deleted_at IS NULL ORDER BY s.webhook_id, s.id`,
      [since],
    ),
    client.query(
      `SELECT id, tenant_id, client_id, digest, scopes, rate_limit_per_minute, expires_at, revoked_at FROM api_key
       WHERE version > $1`,
      [since],
    ),
  ]);
  const found = BigInt(version.rows[0]!.version);
  // Two refreshes may overtake each other: what was read before the Directory's version would take it back.
  if (found < directory.version) return;
  for (const row of tenants.rows) {
    // In order of their ids: a name that was given anew is the later tenant's.
    if (!row.deleted_at) directory.tenantIds.set(row.name, row.id);
    else if (directory.tenantIds.get(row.name) === row.id) directory.tenantIds.delete(row.name);
  }
  for (const row of apiKeys.rows) applyApiKey(directory, row);
  for (const row of clients.rows) applyClient(directory, row, sealer);
  for (const row of numbers.rows) {
    const owner = row.client_id === null ? undefined : directory.clients.get(row.client_id);
    if (owner) {
      directory.numbers.set(row.phone_number_id, {
        id: row.id,
        phoneNumberId: row.phone_number_id,
        client: owner,
      });
    } else directory.numbers.delete(row.phone_number_id);
  }
  for (const row of wabas.rows) applyWaba(directory, row);
  const secretsByWebhook = Map.groupBy(secrets.rows, (row) => row.webhook_id as number);
  for (const row of webhooks.rows) {
    applyWebhook(directory, row, secretsByWebhook.get(row.id) ?? [], sealer);
  }
  directory.version = found;
}

// biome-ignore lint/suspicious/noExplicitAny: rows of a statement written above
type Row = any;

function applyClient(directory: Directory, row: Row, sealer: Sealer): void {
  if (row.deleted_at) {
    directory.clients.delete(row.id);
    directory.clientsWithSecret.delete(row.id);
    for (const [wabaId, owners] of directory.wabas) {
      const left = owners.filter((owner) => owner.id !== row.id);
      if (left.length === 0) directory.wabas.delete(wabaId);
      else if (left.length < owners.length) directory.wabas.set(wabaId, left);
    }
    return;
  }
  const appSecret = row.app_secret_sealed ? openAppSecret(directory, row, sealer) : null;
  if (appSecret === null) directory.clientsWithSecret.delete(row.id);
  else directory.clientsWithSecret.add(row.id);
  const known = directory.clients.get(row.id);
  // The same object stays, since numbers point to it.
  if (known) Object.assign(known, { clientRef: row.client_ref, appSecret });
  else {
    const { id, tenant_id: tenantId, client_ref: clientRef } = row;
    directory.clients.set(id, { id, tenantId, clientRef, appSecret });
  }
}

/** A secret that cannot be opened gives way to one that nobody knows: the client's bodies are refused, as they must be. */
function openAppSecret(directory: Directory, row: Row, sealer: Sealer): string {
  try {
    return sealer.open(row.app_secret_sealed, sealedFor.appSecret);
  } catch (error) {
    directory.faults.push(
      `events of client ${row.id} are refused: its app secret cannot be opened: ${(error as Error).message}`,
    );
    return randomBytes(32).toString("hex");
  }
}

function applyWaba(directory: Directory, row: Row): void {
  const owners = (directory.wabas.get(row.waba_id) ?? []).filter((known) => known.id !== row.client_id);
  const owner = row.removed_at ? undefined : directory.clients.get(row.client_id);
  if (owner) owners.push(owner);
  if (owners.length > 0) directory.wabas.set(row.waba_id, owners);
  else directory.wabas.delete(row.waba_id);
}

function applyApiKey(directory: Directory, row: Row): void {
  const digest = row.digest.toString("hex");
  if (row.revoked_at) {
    directory.apiKeys.delete(digest);
    return;
  }
  directory.apiKeys.set(digest, {
    id: row.id,
    tenantId: row.tenant_id,
    clientId: row.client_id,
    scopes: new Set(row.scopes),
    rateLimitPerMinute: row.rate_limit_per_minute,
    expiresAt: row.expires_at,
  });
}

function applyWebhook(directory: Directory, row: Row, secretRows: Row[], sealer: Sealer): void {
  const others = (directory.webhooksByTenant.get(row.tenant_id) ?? []).filter((known) => known.id !== row.id);
  if (row.deleted_at) {
    directory.webhooks.delete(row.id);
    directory.webhooksByTenant.set(row.tenant_id, others);
    return;
  }
  const target: WebhookTarget = {
    id: row.id,
    tenantId: row.tenant_id,
    clientId: row.client_id,
    clientRef: row.client_id === null ? null : (directory.clients.get(row.client_id)?.clientRef ?? null),
    url: row.url,
    isEnabled: row.is_enabled,
    isPaused: row.is_paused,
    incoming: row.incoming,
    outgoing: row.outgoing,
    scheduleActivity: row.schedule_activity,
    waitingDurationSeconds: row.waiting_duration_seconds,
    isSigned: row.is_signed,
    transformer: row.transformer,
    transformerOptions: row.transformer_options,
    eventTypes: row.event_types,
    maxInFlight: row.max_in_flight,
    description: row.description,
    disabledReason: row.disabled_reason,
    disabledAt: row.disabled_at,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
    secrets: [],
    headers: {},
    fault: null,
  };
  try {
    target.secrets = secretRows.map((secret) => ({
      secret: sealer.open(secret.secret_sealed, sealedFor.webhookSecret),
      expiresAt: secret.expires_at,
    }));
    if (row.headers_sealed)
      target.headers = JSON.parse(sealer.open(row.headers_sealed, sealedFor.webhookHeaders));
  } catch (error) {
    // Nothing may go out unsigned or without its headers, and no other webhook may suffer for it.
    target.fault = `its secrets cannot be opened: ${(error as Error).message}`;
    directory.faults.push(`webhook ${row.id} is held: ${target.fault}`);
  }
  directory.webhooks.set(target.id, target);
  directory.webhooksByTenant.set(row.tenant_id, [...others, target]);
}
