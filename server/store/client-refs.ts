/** Clients by the name that callers give them. */

import type { EntityManager } from "@mikro-orm/postgresql";
import { GatewayError } from "../domain/errors.ts";
import { ClientSchema } from "./entities/client.ts";

/**
 * @returns null for null
 * @throws GatewayError `invalid_input` if the tenant has no client of this name
 */
export async function findClientId(
  em: EntityManager,
  tenantId: number,
  clientRef: string | null,
): Promise<number | null> {
  if (clientRef === null) return null;
  const client = await em.findOne(ClientSchema, { tenantId, clientRef, deletedAt: null });
  if (client !== null) return client.id;
  throw new GatewayError("invalid_input", "client_ref: there is no client of this name", {
    field: "client_ref",
  });
}

/** Names of the clients that rows point to, by id; deleted ones included. */
export async function readClientRefs(
  em: EntityManager,
  rows: readonly { clientId?: number | null }[],
): Promise<Map<number, string>> {
  const ids = [...new Set(rows.map((row) => row.clientId ?? 0).filter((id) => id > 0))];
  const clients = ids.length === 0 ? [] : await em.find(ClientSchema, { id: { $in: ids } });
  return new Map(clients.map((client) => [client.id, client.clientRef]));
}
