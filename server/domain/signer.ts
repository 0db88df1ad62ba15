/**
 * The headers that prove to a receiver who sent a request: Standard Webhooks for all, and the one header of the
 * webhook's scheme beside it. Everything is computed over the exact bytes of the body.
 */

import { createHmac } from "node:crypto";
import type { SignatureScheme } from "./webhook.ts";

export interface SignedRequest {
  /** Live secrets, oldest first; empty = unsigned. */
  secrets: readonly string[];
  /** Header beside `webhook-signature`; null = none. */
  scheme: SignatureScheme | null;
  deliveryId: string;
  /** Unix seconds of the attempt, as `webhook-timestamp` says it. */
  timestampSeconds: number;
  body: Uint8Array;
}

/**
 * Makes the signature headers of one request; `{}` when there is no secret.
 *
 * `webhook-signature` has one signature for each live secret, the newest first. The headers that hold a single value
 * are made with the oldest live secret, so a receiver that knows only that one never fails during a rotation.
 */
export function makeSignatureHeaders(request: SignedRequest): Record<string, string> {
  const oldest = request.secrets[0];
  if (oldest === undefined) return {};
  const headers: Record<string, string> = { "webhook-signature": signStandard(request) };
  if (request.scheme === "intelli") headers["X-Intelli-Signature"] = signIntelli(oldest, request.body);
  if (request.scheme === "insights") headers["X-Webhook-Signature"] = signInsights(oldest, request.body);
  return headers;
}

const standardPrefix = "whsec_";

/** https://www.standardwebhooks.com: `v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`, for each secret. */
function signStandard({ secrets, deliveryId, timestampSeconds, body }: SignedRequest): string {
  const start = `${deliveryId}.${timestampSeconds}.`;
  return secrets
    .map(
      (secret) =>
        `v1,${createHmac("sha256", standardKey(secret)).update(start).update(body).digest("base64")}`,
    )
    .reverse()
    .join(" ");
}

/** Not cached: decoding takes a tenth of a microsecond, the HMAC after it sixteen times that. */
function standardKey(secret: string): Buffer {
  return secret.startsWith(standardPrefix)
    ? Buffer.from(secret.slice(standardPrefix.length), "base64")
    : Buffer.from(secret, "utf8");
}

/** The key is the whole secret as text, `whsec_` included. */
function signIntelli(secret: string, body: Uint8Array): string {
  return `sha256=${createHmac("sha256", secret).update(body).digest("hex")}`;
}

/** 128 bytes in 171 characters, the shape that the vendor shows; its derivation is ours (README, signatures). */
function signInsights(secret: string, body: Uint8Array): string {
  const first = createHmac("sha512", secret).update(body).digest();
  const second = createHmac("sha512", secret).update(first).digest();
  return Buffer.concat([first, second]).toString("base64url");
}
