/**
 * Links to the media of messages. A link is made once, when its event is committed, and frozen with the event: every
 * attempt shows the same one, whatever becomes of the master key or the public URL. Whoever has the link has the file,
 * so only the digest of its token is looked up; no look-up can then tell by its time how much of a guess was right.
 */

import { hash } from "node:crypto";

export interface MediaLink {
  url: string;
  /** SHA-256 of the token: 32 bytes. */
  tokenDigest: Buffer;
}

/** WhatsApp keeps the media of received messages for so long. */
const validMs = 7 * 24 * 3_600_000;

/** 192 bits: nobody guesses one. */
const tokenBytes = 24;
const tokenPattern = /^[A-Za-z0-9_-]{32}$/;

/**
 * @param baseUrl  where others reach the gateway, without a slash at its end; asked for every link
 * @param random   gives so many random bytes
 */
export function createMediaLinks(
  baseUrl: () => string,
  random: (byteCount: number) => Uint8Array,
): () => MediaLink {
  return () => {
    const token = Buffer.from(random(tokenBytes)).toString("base64url");
    return { url: `${baseUrl()}/media/${token}`, tokenDigest: hash("sha256", token, "buffer") };
  };
}

/** Null for what cannot be a token. */
export function digestOfToken(token: string): Buffer | null {
  return tokenPattern.test(token) ? hash("sha256", token, "buffer") : null;
}

/** A message that claims to come from the future is as old as its arrival. */
export function expiryOfLink(occurredAt: Date | null, receivedAt: Date): Date {
  return new Date(
    Math.min(occurredAt?.getTime() ?? Number.POSITIVE_INFINITY, receivedAt.getTime()) + validMs,
  );
}
