/** How Meta proves itself: the signature of `POST /whatsapp/webhook` and the handshake of `GET /whatsapp/webhook`. */

import { createHmac, hash, timingSafeEqual } from "node:crypto";

const headerPattern = /^sha256=([0-9a-fA-F]{64})$/;

/**
 * Finds the app secret that signed a body: `X-Hub-Signature-256` is `sha256=` and the hex HMAC-SHA256 of the raw
 * bytes. Each comparison takes constant time. A blank secret matches nothing: with it anybody could sign.
 *
 * @param rawBody  the bytes as received, before any parsing
 * @param header   value of `X-Hub-Signature-256`; anything but that shape matches nothing
 * @returns the index of the first secret that made the signature, so that a client's own secret can be told from
 *          the operator's; -1 when none did
 */
export function verifySignature(
  rawBody: Uint8Array,
  header: string | undefined,
  secrets: readonly string[],
): number {
  const digits = headerPattern.exec(header ?? "")?.[1];
  if (digits === undefined) return -1;
  const given = Buffer.from(digits, "hex");
  return secrets.findIndex(
    (secret) =>
      secret.trim() !== "" && timingSafeEqual(given, createHmac("sha256", secret).update(rawBody).digest()),
  );
}

/**
 * Answers Meta's verification request, which carries no signature.
 *
 * @param query        of the GET request: `hub.mode`, `hub.verify_token`, `hub.challenge`
 * @param verifyToken  the configured token; unset or blank refuses everything
 * @returns the text to answer with 200 as `text/plain`; null = refuse with 403
 */
export function answerHandshake(query: URLSearchParams, verifyToken: string | undefined): string | null {
  if (verifyToken === undefined || verifyToken.trim() === "") return null;
  if (query.get("hub.mode") !== "subscribe") return null;
  const token = query.get("hub.verify_token");
  if (token === null || !isSameText(token, verifyToken)) return null;
  return query.get("hub.challenge") || null;
}

/** Compares digests, so that neither content nor length of the expected text shows in the time it takes. */
function isSameText(given: string, expected: string): boolean {
  return timingSafeEqual(hash("sha256", given, "buffer"), hash("sha256", expected, "buffer"));
}
