/**
 * Clients as configuration: every change runs under the configuration lock and stamps what it touches, so that
 * publishers follow it at once (`configuration.ts`). Access tokens and app secrets go in sealed.
 */

import type { EntityManager } from "@mikro-orm/postgresql";
import type { Client, ClientNumber } from "../domain/client.ts";
import { GatewayError } from "../domain/errors.ts";
import type { Access, Owner } from "./access.ts";
import { noteAudit } from "./audit.ts";
import { setNumbers, setWabas } from "./client-numbers.ts";
import { changeConfiguration, sealedFor } from "./configuration.ts";
import type { ClientRow } from "./entities/client.ts";
import { ClientSchema, ClientWabaSchema, PhoneNumberSchema } from "./entities/index.ts";
import type { Database } from "./orm.ts";
import { readStopReasons, resumeNumbers } from "./outgoing-list.ts";
import type { Sealer } from "./sealer.ts";
import { refuseDeletedTenant } from "./tenants.ts";

export interface NewClient {
  clientRef: string;
  phoneNumbers: readonly ClientNumber[];
  wabaIds: readonly string[];
  accessToken: string | null;
  appSecret: string | null;
}

/** What is left out stays as it is; null removes a secret. */
export interface ClientChange {
  phoneNumbers?: readonly ClientNumber[];
  wabaIds?: readonly string[];
  accessToken?: string | null;
  appSecret?: string | null;
  /** Called inside the transaction with the numbers that would be new; throws to refuse them. */
  mayAddNumbers?: (added: readonly string[]) => void;
}

/** @throws GatewayError `already_exists` if the tenant has a client of this name, or a number belongs to a client */
export async function createClient(
  database: Database,
  sealer: Sealer,
  access: Access,
  client: NewClient,
  now: Date,
): Promise<Client> {
  const { tenantId, actor } = access;
  return await changeConfiguration(database, async (em, version) => {
    await refuseDeletedTenant(em, tenantId);
    if ((await em.count(ClientSchema, { tenantId, clientRef: client.clientRef, deletedAt: null })) > 0) {
      throw new GatewayError("already_exists", "client_ref: there is a client of this name already", {
        field: "client_ref",
      });
    }
    const row = em.create(ClientSchema, {
      tenantId,
      clientRef: client.clientRef,
      accessTokenSealed: seal(sealer, client.accessToken, sealedFor.accessToken),
      appSecretSealed: seal(sealer, client.appSecret, sealedFor.appSecret),
      version,
      createdAt: now,
      deletedAt: null,
    });
    await em.flush();
    await setNumbers(em, row.id, client.phoneNumbers, { version, now });
    await setWabas(em, row.id, client.wabaIds, { version, now });
    const { accessToken, appSecret, ...visible } = client;
    const changes = describeChange({
      ...visible,
      ...(accessToken !== null && { accessToken }),
      ...(appSecret !== null && { appSecret }),
    });
    await noteAudit(
      em,
      { tenantId, actor, action: "client.created", subjectId: client.clientRef, changes },
      now,
    );
    return await readClient(em, row);
  });
}

/** @throws GatewayError `not_found` */
export async function getClient(database: Database, owner: Owner, clientRef: string): Promise<Client> {
  const em = database.em();
  return await readClient(em, await findClient(em, owner, clientRef));
}

/**
 * The client's access token, if it has one.
 *
 * @throws GatewayError `not_found`
 */
export async function readAccessToken(
  database: Database,
  sealer: Sealer,
  owner: Owner,
  clientRef: string,
): Promise<string | null> {
  const { accessTokenSealed } = await findClient(database.em(), owner, clientRef);
  return accessTokenSealed ? sealer.open(accessTokenSealed, sealedFor.accessToken) : null;
}

/** Clients that the owner may see, newest first; `[]` if there are none. */
export async function listClients(
  database: Database,
  owner: Owner,
  page: { limit: number; beforeId: number | null },
): Promise<Client[]> {
  const em = database.em();
  const olderOnly = page.beforeId === null ? [] : [{ id: { $lt: page.beforeId } }];
  const onlyOne = owner.clientId === null ? [] : [{ id: owner.clientId }];
  const rows = await em.find(
    ClientSchema,
    { tenantId: owner.tenantId, deletedAt: null, $and: [...olderOnly, ...onlyOne] },
    { orderBy: { id: "desc" }, limit: page.limit, populate: secretColumns },
  );
  return await readClients(em, rows);
}

/** @throws GatewayError `not_found`, `already_exists` if a number belongs to another client, or what `mayAddNumbers` throws */
export async function updateClient(
  database: Database,
  sealer: Sealer,
  access: Access,
  clientRef: string,
  change: ClientChange,
  now: Date,
): Promise<Client> {
  const { tenantId, actor } = access;
  return await changeConfiguration(database, async (em, version) => {
    const row = await findClient(em, access, clientRef);
    row.version = version;
    if (change.accessToken !== undefined) {
      row.accessTokenSealed = seal(sealer, change.accessToken, sealedFor.accessToken);
      if (change.accessToken !== null) await resumeNumbers(em, row.id);
    }
    if (change.appSecret !== undefined) {
      row.appSecretSealed = seal(sealer, change.appSecret, sealedFor.appSecret);
    }
    await em.flush();
    if (change.phoneNumbers) {
      await setNumbers(em, row.id, change.phoneNumbers, { version, now }, change.mayAddNumbers);
    }
    if (change.wabaIds) await setWabas(em, row.id, change.wabaIds, { version, now });
    const changes = describeChange(change);
    await noteAudit(em, { tenantId, actor, action: "client.updated", subjectId: clientRef, changes }, now);
    return await readClient(em, row);
  });
}

const secretColumns = ["accessTokenSealed", "appSecretSealed"] as const;

/**
 * Finds a client that is not deleted, with its sealed secrets.
 *
 * @throws GatewayError `not_found`, also for one that the owner may not see
 */
export async function findClient(em: EntityManager, owner: Owner, clientRef: string): Promise<ClientRow> {
  const { tenantId, clientId } = owner;
  const row = await em.findOne(
    ClientSchema,
    { tenantId, clientRef, deletedAt: null },
    { populate: secretColumns },
  );
  if (row !== null && (clientId === null || clientId === row.id)) return row as ClientRow;
  throw new GatewayError("not_found", "client_ref: there is no client of this name", { field: "client_ref" });
}

async function readClient(em: EntityManager, row: ClientRow): Promise<Client> {
  return (await readClients(em, [row]))[0]!;
}

async function readClients(em: EntityManager, rows: readonly Partial<ClientRow>[]): Promise<Client[]> {
  const clientId = { $in: rows.map((row) => row.id!) };
  const numbers = await em.find(PhoneNumberSchema, { clientId }, { orderBy: { id: "asc" } });
  const wabas = await em.find(
    ClientWabaSchema,
    { clientId, removedAt: null },
    { orderBy: { wabaId: "asc" } },
  );
  const stopReasons = await readStopReasons(
    em,
    numbers.map((number) => number.id),
  );
  const numbersByClient = Map.groupBy(numbers, (number) => number.clientId);
  const wabasByClient = Map.groupBy(wabas, (waba) => waba.clientId);
  return rows.map((row) => ({
    id: row.id!,
    tenantId: row.tenantId!,
    clientRef: row.clientRef!,
    phoneNumbers: (numbersByClient.get(row.id!) ?? []).map((number) => ({
      phoneNumberId: number.phoneNumberId,
      displayPhoneNumber: number.displayPhoneNumber ?? null,
      ...(stopReasons.has(number.id) && { sendsStoppedReason: stopReasons.get(number.id)! }),
    })),
    wabaIds: (wabasByClient.get(row.id!) ?? []).map((waba) => waba.wabaId),
    hasAccessToken: row.accessTokenSealed != null,
    hasAppSecret: row.appSecretSealed != null,
    createdAt: row.createdAt!,
  }));
}

function seal(sealer: Sealer, secret: string | null, purpose: string): Buffer | null {
  return secret === null ? null : sealer.seal(secret, purpose);
}

/** For the audit: which fields, and of secrets only that they changed. */
function describeChange(change: ClientChange): Record<string, unknown> {
  const changes: Record<string, unknown> = {};
  const { phoneNumbers, wabaIds, accessToken, appSecret } = change;
  if (phoneNumbers) changes.phone_numbers = phoneNumbers.map((number) => number.phoneNumberId);
  if (wabaIds) changes.waba_ids = wabaIds;
  if (accessToken !== undefined) changes.access_token = accessToken === null ? "removed" : "set";
  if (appSecret !== undefined) changes.app_secret = appSecret === null ? "removed" : "set";
  return changes;
}
