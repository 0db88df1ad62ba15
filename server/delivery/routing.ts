/** Whose an event is: the tenant, and the client and number where they are known. */

import type { IncomingEvent, WhatsAppUser } from "../domain/event.ts";
import type { Directory, DirectoryClient, DirectoryNumber } from "../store/configuration.ts";
import type { ContactAsked, ContactName } from "../store/contacts.ts";
import { ScopedMap } from "../store/scoped-map.ts";

/** Tenant of events that are nobody's: kept, and routed when a client with their number is added. */
export const nobodysTenantId = 0;

export interface Route {
  /** `nobodysTenantId` if nobody has the number or account. */
  tenantId: number;
  client: DirectoryClient | null;
  number: DirectoryNumber | null;
}

const nobody: Route = { tenantId: nobodysTenantId, client: null, number: null };

/**
 * The number decides; events without one go by their WhatsApp business account, to no client if several have it.
 *
 * @param isAnybodys  true if account-level events of unknown accounts go to tenant `default` (development)
 */
export function routeOf(current: Directory, event: IncomingEvent, isAnybodys: boolean): Route {
  if (event.owner) {
    const client = current.clients.get(event.owner.clientId ?? 0) ?? null;
    return { tenantId: event.owner.tenantId, client, number: null };
  }
  if (event.phoneNumberId !== null) {
    const number = current.numbers.get(event.phoneNumberId);
    return number ? { tenantId: number.client.tenantId, client: number.client, number } : nobody;
  }
  const owners = event.wabaId === null ? [] : (current.wabas.get(event.wabaId) ?? []);
  const tenantId = owners[0]?.tenantId;
  if (tenantId !== undefined && owners.every((owner) => owner.tenantId === tenantId)) {
    return { tenantId, client: owners.length === 1 ? owners[0]! : null, number: null };
  }
  const fallback = isAnybodys && owners.length === 0 ? current.tenantIds.get("default") : undefined;
  return fallback === undefined ? nobody : { tenantId: fallback, client: null, number: null };
}

/** Who signed the body that an event came in. */
export interface Signer {
  /** True for the operator's apps; in development, without a secret, for anybody. */
  isOperator: boolean;
  /** The app secret that made the signature; null = none did. */
  secret: string | null;
}

/**
 * True if the signer may bring this event: a client with an app secret of its own takes what that secret signed, other
 * clients what the operator's apps did. Of an account that several clients have, one that may take it is enough.
 */
export function maySign(current: Directory, event: IncomingEvent, route: Route, signer: Signer): boolean {
  const accountOwners = event.phoneNumberId === null ? current.wabas.get(event.wabaId ?? "") : undefined;
  const owners = route.client ? [route.client] : (accountOwners ?? []);
  if (owners.length === 0) return signer.isOperator;
  return owners.some(({ appSecret }) =>
    appSecret === null ? signer.isOperator : appSecret === signer.secret,
  );
}

/** The contacts that an event speaks of, in the order in which it does. */
export interface EventContacts {
  /** Those that go by other names from here on, or have to stay as they are meanwhile. */
  changes: ContactAsked[];
  /** Whose messages it imports, in the order of `event.imported`; null where that is not known. */
  imports: (ContactAsked | null)[];
  /** Whose message it is; null if it is no message of a client's conversation. */
  message: ContactAsked | null;
}

/**
 * @param isPaired  true if both names are known to be of one contact: an event that is no message tells nothing new then
 */
export function contactsOf(
  event: IncomingEvent,
  route: Route,
  isPaired: (asked: ContactAsked) => boolean = () => false,
): EventContacts {
  const { entry, user, revision, identityChanges = [], imported = [] } = event;
  const { client, number } = route;
  const changes: ContactAsked[] = [];
  if (client) {
    // A change concerns the contact with all numbers; 0 is no number.
    const numberId = number?.id ?? 0;
    for (const { from, to } of identityChanges) {
      changes.push({ clientId: client.id, numberId, ...from, profileName: null, becomes: to });
    }
  }
  const bystander = entry || changes.length > 0 ? null : contactAsked(user, number);
  if (bystander) {
    const { phone, bsuid } = bystander;
    const hasBoth = phone !== null && bsuid !== null;
    // Two names in one event are one contact's, whatever the event is. Nobody may join the conversation of who edits with
    // another while it is revised.
    if (revision || (hasBoth && !isPaired(bystander))) {
      const becomes = hasBoth ? { phone, bsuid } : { phone: null, bsuid: null };
      changes.push({ ...bystander, profileName: null, becomes });
    }
  }
  return {
    changes,
    imports: imported.map((thread) => contactAsked(thread.user, number)),
    message: entry ? contactAsked(user, number) : null,
  };
}

function contactAsked(user: WhatsAppUser | null, number: DirectoryNumber | null): ContactAsked | null {
  if (!user || !number || (user.phone === null && user.bsuid === null)) return null;
  return {
    clientId: number.client.id,
    numberId: number.id,
    phone: user.phone,
    bsuid: user.bsuid,
    profileName: user.profileName,
  };
}

/** Those that the events speak of, one after the other. */
export function listContacts(contacts: readonly EventContacts[]): ContactAsked[] {
  return contacts.flatMap(({ changes, imports, message }) =>
    [...changes, ...imports, message].filter((one) => one !== null),
  );
}

/** Leaves out most of what would look for the same once more: whatever its name was asked for with just before. */
export function distinctContacts(asked: readonly ContactAsked[]): ContactAsked[] {
  const seen = new ScopedMap<ContactAsked>();
  return asked.filter((one) => {
    const name = one.bsuid ?? one.phone!;
    const before = seen.get(one.numberId, name);
    seen.set(one.numberId, name, one);
    return !(before && isSameAsked(before, one));
  });
}

function isSameAsked(first: ContactAsked, second: ContactAsked): boolean {
  const isSameName = (one: ContactName | undefined, other: ContactName | undefined) =>
    one?.phone === other?.phone && one?.bsuid === other?.bsuid;
  return (
    first.clientId === second.clientId &&
    isSameName(first, second) &&
    isSameName(first.becomes, second.becomes)
  );
}
