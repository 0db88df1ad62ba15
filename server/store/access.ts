/** On whose behalf a thing is read or changed. What lies outside is `not_found`, as if it were not there. */

import type { Actor } from "./audit.ts";

export interface Owner {
  tenantId: number;
  /** Only things of this client; null = of the whole tenant. */
  clientId: number | null;
}

export interface Access extends Owner {
  /** Who makes the change, for the audit. */
  actor: Actor;
}

/** The part of a search that keeps to what an owner may reach, for rows with a tenant and a client. */
export function ownedBy(owner: Owner): { tenantId: number; clientId?: number } {
  const { tenantId, clientId } = owner;
  return clientId === null ? { tenantId } : { tenantId, clientId };
}
