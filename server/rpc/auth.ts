/**
 * Who calls, whether they may, and whether not too often. Runs as Connect's request gate: after the headers, before the
 * body is read, so a stranger costs one hash and no memory.
 */

import assert from "node:assert/strict";
import { hash, timingSafeEqual } from "node:crypto";
import { type DescMethod, getOption } from "@bufbuild/protobuf";
import { createContextKey, type HandlerContext } from "@connectrpc/connect";
import { scope as scopeOption } from "../../gen/posthorn/v1/scope_pb.ts";
import type { Clock } from "../clock.ts";
import { GatewayError } from "../domain/errors.ts";
import type { Access } from "../store/access.ts";
import type { Directory, DirectoryApiKey } from "../store/configuration.ts";
import type { RateLimiter } from "../store/rate-limiter.ts";

/** Every scope that a tenant's key may have. */
export const scopes = [
  "webhooks:read",
  "webhooks:write",
  "deliveries:read",
  "deliveries:write",
  "events:read",
  "events:write",
  "clients:read",
  "clients:write",
  "contacts:read",
  "contacts:write",
  "messages:send",
] as const;
export type Scope = (typeof scopes)[number];

/** What an rpc may ask for: a scope, or the operator key. */
export type Requirement = Scope | "operator";

/** Whose things a call is about: those of a tenant, or of the one client that the key is narrowed to. */
export interface Caller extends Access {
  /** Name of the client that the key is narrowed to; null = none. */
  clientRef: string | null;
  scopes: ReadonlySet<string>;
  /** True for the operator key: every scope, in every tenant. */
  isOperator: boolean;
}

export interface AuthParts {
  /** SHA-256 of each operator key: one, or two while they are rotated. */
  operatorKeyDigests: readonly Uint8Array[];
  /** What this process knows of tenants, clients and keys. */
  readonly directory: Pick<Directory, "tenantIds" | "clients" | "apiKeys">;
  rateLimiter: RateLimiter;
  /** Notes that a key is used now. */
  noteKeyUsed(keyId: number): void;
  clock: Clock;
}

const callerKey = createContextKey<Caller | null>(null, { description: "who calls" });
const everyScope: ReadonlySet<string> = new Set(scopes);
const defaultTenantName = "default";

/** The caller of a request that went through the gate. */
export function callerOf(context: HandlerContext): Caller {
  const caller = context.values.get(callerKey);
  assert(caller !== null, "no call reaches a handler without a caller");
  return caller;
}

/** What an rpc declares that it takes; undefined for one that declares nothing, which the gate refuses to everybody. */
export function requirementOf(method: DescMethod): Requirement | undefined {
  const declared = getOption(method, scopeOption);
  return declared === "operator" ? declared : scopes.find((scope) => scope === declared);
}

/** Makes the gate: it lets a call through with its caller noted for the handler, or rejects as `admit` does. */
export function createGate(parts: AuthParts): (context: HandlerContext) => Promise<void> {
  return async (context) => {
    const requirement = requirementOf(context.method);
    assert(requirement !== undefined, `${context.method} declares no scope that auth knows`);
    const caller = await admit(context.requestHeader, context.responseHeader, requirement, parts);
    context.values.set(callerKey, caller);
  };
}

/**
 * Says who calls, if they may: for rpcs, and for plain routes that do the same as one.
 *
 * @param responseHeader  gets how much of its rate limit the key has left, whatever comes of the call
 * @throws GatewayError `unauthenticated` for a key that is missing, unknown, revoked or expired, `forbidden` for one that
 *         lacks the scope or names a tenant, `over_limit` for one that calls too often, `not_found` for a tenant that
 *         does not exist
 */
export async function admit(
  requestHeader: Headers,
  responseHeader: Headers,
  requirement: Requirement,
  parts: AuthParts,
): Promise<Caller> {
  const digest = digestOfKey(requestHeader);
  const tenantName = requestHeader.get("Posthorn-Tenant");
  if (isOneOf(digest, parts.operatorKeyDigests)) return operatorIn(tenantName ?? defaultTenantName, parts);
  const key = findApiKey(digest, parts);
  parts.noteKeyUsed(key.id);
  await countCall(key, responseHeader, parts);
  if (tenantName !== null) {
    throw new GatewayError(
      "forbidden",
      "Posthorn-Tenant is for the operator key: a tenant's key has its tenant",
    );
  }
  if (requirement === "operator")
    throw new GatewayError("forbidden", "this call takes the operator key only");
  if (!key.scopes.has(requirement)) {
    throw new GatewayError("forbidden", `the key lacks the scope ${requirement}`);
  }
  return {
    tenantId: key.tenantId,
    clientId: key.clientId,
    clientRef: key.clientId === null ? null : (parts.directory.clients.get(key.clientId)?.clientRef ?? null),
    actor: `key:${key.id}`,
    scopes: key.scopes,
    isOperator: false,
  };
}

/** True while a caller that was admitted would be admitted again: for calls that last. */
export function isStillAdmitted(
  caller: Caller,
  { directory, clock }: Pick<AuthParts, "directory" | "clock">,
): boolean {
  if (caller.isOperator) return [...directory.tenantIds.values()].includes(caller.tenantId);
  for (const key of directory.apiKeys.values()) {
    if (caller.actor === `key:${key.id}`) return isLive(key, directory, clock.now());
  }
  return false;
}

function digestOfKey(header: Headers): Buffer {
  const key = /^Bearer +(\S+)$/i.exec(header.get("Authorization") ?? "")?.[1];
  if (key !== undefined) return hash("sha256", key, "buffer");
  throw new GatewayError("unauthenticated", "send a key in the header Authorization: Bearer <key>");
}

function operatorIn(tenantName: string, { directory }: AuthParts): Caller {
  const tenantId = directory.tenantIds.get(tenantName);
  if (tenantId === undefined) {
    throw new GatewayError("not_found", "there is no tenant of the name that Posthorn-Tenant gives");
  }
  const everything = { clientId: null, clientRef: null, scopes: everyScope };
  return { tenantId, ...everything, actor: "operator", isOperator: true };
}

/** Which of the reasons it is, is nobody's business. Revoked keys, and those of deleted tenants, are not there. */
function findApiKey(digest: Buffer, { directory, clock }: AuthParts): DirectoryApiKey {
  const key = directory.apiKeys.get(digest.toString("hex"));
  if (key !== undefined && isLive(key, directory, clock.now())) return key;
  throw new GatewayError("unauthenticated", "the key is unknown, revoked or expired");
}

function isLive(key: DirectoryApiKey, { clients }: Pick<Directory, "clients">, now: Date): boolean {
  return (
    (key.expiresAt === null || key.expiresAt > now) && (key.clientId === null || clients.has(key.clientId))
  );
}

async function countCall(key: DirectoryApiKey, responseHeader: Headers, parts: AuthParts): Promise<void> {
  if (key.rateLimitPerMinute === 0) return;
  const { isAdmitted, limit, remaining, resetMs } = await parts.rateLimiter.count(
    key.id,
    key.rateLimitPerMinute,
  );
  responseHeader.set("X-RateLimit-Limit", String(limit));
  responseHeader.set("X-RateLimit-Remaining", String(remaining));
  responseHeader.set("X-RateLimit-Reset", String(Math.ceil((parts.clock.now().getTime() + resetMs) / 1000)));
  if (isAdmitted) return;
  const waitSeconds = Math.max(1, Math.ceil(resetMs / 1000));
  responseHeader.set("Retry-After", String(waitSeconds));
  throw new GatewayError(
    "over_limit",
    `the key may make ${limit} calls a minute: try again in ${waitSeconds} seconds`,
  );
}

/** Compares with all of them, so that the time tells neither which one matched nor how much of it. */
function isOneOf(digest: Buffer, known: readonly Uint8Array[]): boolean {
  let isFound = false;
  for (const candidate of known) {
    if (timingSafeEqual(digest, candidate)) isFound = true;
  }
  return isFound;
}
