/**
 * Who calls, and whether they may. Runs as Connect's request gate: after the headers, before the body is read, so a
 * stranger costs one hash and no memory.
 */

import assert from "node:assert/strict";
import { hash, timingSafeEqual } from "node:crypto";
import { type DescMethod, getOption } from "@bufbuild/protobuf";
import { createContextKey, type HandlerContext } from "@connectrpc/connect";
import { scope as scopeOption } from "../../gen/posthorn/v1/scope_pb.ts";
import { GatewayError } from "../domain/errors.ts";

/** Every scope that an rpc may ask for. */
export const scopes = [
  "webhooks:read",
  "webhooks:write",
  "deliveries:read",
  "deliveries:write",
  "events:read",
  "events:write",
] as const;
export type Scope = (typeof scopes)[number];

export interface Caller {
  /** The tenant whose things the call is about. */
  tenantId: number;
  scopes: ReadonlySet<Scope>;
  /** True for the operator key: every scope, in every tenant. */
  isOperator: boolean;
}

export interface AuthParts {
  /** SHA-256 of each operator key: one, or two while they are rotated. */
  operatorKeyDigests: readonly Uint8Array[];
  /** Undefined if there is no such tenant. */
  tenantIdByName(name: string): number | undefined;
}

const callerKey = createContextKey<Caller | null>(null, { description: "who calls" });
const everyScope: ReadonlySet<Scope> = new Set(scopes);
const defaultTenantName = "default";

/** The caller of a request that went through the gate. */
export function callerOf(context: HandlerContext): Caller {
  const caller = context.values.get(callerKey);
  assert(caller !== null, "no call reaches a handler without a caller");
  return caller;
}

/** The scope that an rpc declares; undefined for one that declares none, which the gate refuses to everybody. */
export function scopeOf(method: DescMethod): Scope | undefined {
  const declared = getOption(method, scopeOption);
  return scopes.find((scope) => scope === declared);
}

/** Makes the gate: it lets a call through with its caller noted for the handler, or throws what `authorize` does. */
export function createGate(parts: AuthParts): (context: HandlerContext) => void {
  return (context) => {
    const scope = scopeOf(context.method);
    assert(scope !== undefined, `${context.method} declares no scope that auth knows`);
    context.values.set(callerKey, authorize(context.requestHeader, scope, parts));
  };
}

/**
 * Says who calls, if they may: for rpcs, and for plain routes that do the same as one.
 *
 * @throws GatewayError `unauthenticated` for a key that is missing or unknown, `forbidden` for one that lacks the scope,
 *         `not_found` for a tenant that does not exist
 */
export function authorize(header: Headers, scope: Scope, parts: AuthParts): Caller {
  const caller = authenticate(header, parts);
  if (!caller.scopes.has(scope)) throw new GatewayError("forbidden", `the key lacks the scope ${scope}`);
  return caller;
}

function authenticate(header: Headers, parts: AuthParts): Caller {
  const key = /^Bearer +(\S+)$/i.exec(header.get("Authorization") ?? "")?.[1];
  if (key === undefined) {
    throw new GatewayError("unauthenticated", "send a key in the header Authorization: Bearer <key>");
  }
  const digest = hash("sha256", key, "buffer");
  if (!isOneOf(digest, parts.operatorKeyDigests)) {
    throw new GatewayError("unauthenticated", "the key is unknown, revoked or expired");
  }
  const tenantName = header.get("Posthorn-Tenant") ?? defaultTenantName;
  const tenantId = parts.tenantIdByName(tenantName);
  if (tenantId === undefined) {
    throw new GatewayError("not_found", "there is no tenant of the name that Posthorn-Tenant gives");
  }
  return { tenantId, scopes: everyScope, isOperator: true };
}

/** Compares with all of them, so that the time tells neither which one matched nor how much of it. */
function isOneOf(digest: Buffer, known: readonly Uint8Array[]): boolean {
  let isFound = false;
  for (const candidate of known) {
    if (timingSafeEqual(digest, candidate)) isFound = true;
  }
  return isFound;
}
