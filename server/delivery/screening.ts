/**
 * Who may bring which events. Judged by the configuration that routes them, so that whatever is committed was allowed
 * by the very version it was committed under; what is refused, is refused by a configuration that was read for it.
 */

import { GatewayError } from "../domain/errors.ts";
import type { IncomingEvent } from "../domain/event.ts";
import type { Directory } from "../store/configuration.ts";
import type { DirectoryKeeper } from "../store/directory.ts";
import type { PublishedEvent } from "./plan.ts";
import { maySign, routeOf, type Signer } from "./routing.ts";

/** What a caller may publish. */
export interface PublishScope {
  /** Only events of this tenant's clients; null = anybody's. */
  tenantId: number | null;
  /** Only events of this client of the tenant; null or left out = of any. */
  clientId?: number | null;
  /** Where an event stood, for the message that refuses it; left out = its number in the call. */
  pathOf?: ((index: number) => string) | undefined;
  /** Who signed the body; left out = the caller proved itself with a key. */
  signer?: Signer;
}

/** An event that waits for its commit. */
export interface Waiting {
  event: IncomingEvent;
  /** Its position in its call. */
  index: number;
  /** One object a call. */
  scope: PublishScope;
  resolve(published: PublishedEvent): void;
  reject(error: unknown): void;
}

/** True if its call is stored as a whole or not at all. */
export function isLimited({ scope }: Waiting): boolean {
  return scope.tenantId !== null;
}

/** True if every event may be stored. */
export function areAllowed(current: Directory, waiting: readonly Waiting[]): boolean {
  return waiting.every((one) => !isForeign(current, one) && !isUnsigned(current, one));
}

/**
 * Refuses, by the configuration as it is now, calls with an event outside their scope, and drops events that their
 * signer may not bring.
 *
 * @returns what may be stored, and what was dropped
 */
export async function dropRefused<T extends Waiting>(
  directory: DirectoryKeeper,
  waiting: readonly T[],
): Promise<{ allowed: T[]; dropped: T[] }> {
  await directory.refresh();
  const { current } = directory;
  const refusals = new Map<PublishScope, GatewayError>();
  for (const one of waiting) {
    if (!refusals.has(one.scope) && isForeign(current, one)) refusals.set(one.scope, refuse(one));
  }
  const allowed: T[] = [];
  const dropped: T[] = [];
  for (const one of waiting) {
    const refusal = refusals.get(one.scope);
    if (refusal) one.reject(refusal);
    else if (!isUnsigned(current, one)) allowed.push(one);
    else {
      one.resolve({ eventId: null, isDuplicate: false, isRefused: true, deliveryCount: 0 });
      dropped.push(one);
    }
  }
  return { allowed, dropped };
}

function isForeign(current: Directory, { event, scope }: Waiting): boolean {
  if (scope.tenantId === null) return false;
  const route = routeOf(current, event, false);
  const isOthers = scope.clientId != null && route.client?.id !== scope.clientId;
  return route.tenantId !== scope.tenantId || isOthers;
}

function isUnsigned(current: Directory, { event, scope }: Waiting): boolean {
  return scope.signer !== undefined && !maySign(current, event, routeOf(current, event, false), scope.signer);
}

function refuse({ event, index, scope }: Waiting): GatewayError {
  const path = scope.pathOf?.(index) ?? `events[${index}]`;
  const whose =
    scope.clientId == null ? "no client of this tenant has" : "the client of this key does not have";
  return new GatewayError(
    "forbidden",
    `${path}: this event (${event.type}) is of a number or account that ${whose}`,
    { field: path },
  );
}
