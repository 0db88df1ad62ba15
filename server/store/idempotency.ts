/**
 * Calls that their caller may repeat: one runs, its answer is kept, and who asks the same again gets that answer.
 *
 * A claim is a row without answer. A call that fails deletes its row, which frees the key; one whose process dies leaves
 * the row behind, which may be claimed again after the longest time that a call can take.
 */

import type { EntityManager } from "@mikro-orm/postgresql";
import type { Database } from "./orm.ts";

export interface IdempotentCall {
  tenantId: number;
  rpc: string;
  key: string;
  /** SHA-256 of all that tells requests apart. */
  requestDigest: Uint8Array;
}

export type Claim =
  /** This call is to run now; `claimedAt` proves it. */
  | { kind: "claimed"; claimedAt: Date }
  /** It ran before. */
  | { kind: "answered"; response: Uint8Array }
  /** It runs now, in this process or another one. */
  | { kind: "running" }
  /** The key was used for another request. */
  | { kind: "other_request" };

export const keptMs = 24 * 60 * 60 * 1000;
/** No call runs for half as long. */
const abandonedAfterMs = 60_000;

export async function claimCall(database: Database, call: IdempotentCall, now: Date): Promise<Claim> {
  const em = database.em();
  const expired = new Date(now.getTime() - keptMs);
  const abandoned = new Date(now.getTime() - abandonedAfterMs);
  const claimed = await em.execute<unknown[]>(
    `INSERT INTO idempotency_key AS known (tenant_id, rpc, key, request_digest, created_at) VALUES (?, ?, ?, ?, ?)
     ON CONFLICT (tenant_id, rpc, key) DO UPDATE
       SET request_digest = excluded.request_digest, response = NULL, created_at = excluded.created_at
       WHERE known.created_at <= ? OR (known.response IS NULL AND known.created_at <= ?)
     RETURNING 1`,
    [call.tenantId, call.rpc, call.key, Buffer.from(call.requestDigest), now, expired, abandoned],
  );
  if (claimed.length > 0) return { kind: "claimed", claimedAt: now };
  const [row] = await em.execute<{ digest: string; response: string | null }[]>(
    `SELECT encode(request_digest, 'hex') AS digest, encode(response, 'base64') AS response FROM idempotency_key
     WHERE tenant_id = ? AND rpc = ? AND key = ?`,
    [call.tenantId, call.rpc, call.key],
  );
  // The call that held the key failed in between: whoever asks next gets it.
  if (row === undefined) return { kind: "running" };
  if (row.digest !== Buffer.from(call.requestDigest).toString("hex")) return { kind: "other_request" };
  if (row.response === null) return { kind: "running" };
  return { kind: "answered", response: Buffer.from(row.response, "base64") };
}

/**
 * Keeps the answer of a claimed call, in a transaction of the call itself or in one of its own. Does nothing if the claim
 * was taken over.
 */
export async function keepAnswer(
  em: EntityManager,
  call: IdempotentCall,
  claimedAt: Date,
  response: Uint8Array,
): Promise<void> {
  await em.execute(
    `UPDATE idempotency_key SET response = ?
     WHERE tenant_id = ? AND rpc = ? AND key = ? AND created_at = ? AND response IS NULL`,
    [Buffer.from(response), call.tenantId, call.rpc, call.key, claimedAt],
  );
}

/** Frees the key of a claimed call that failed; does nothing if its answer is kept. */
export async function freeCall(database: Database, call: IdempotentCall, claimedAt: Date): Promise<void> {
  await database.em().execute(
    `DELETE FROM idempotency_key
       WHERE tenant_id = ? AND rpc = ? AND key = ? AND created_at = ? AND response IS NULL`,
    [call.tenantId, call.rpc, call.key, claimedAt],
  );
}
