/** Which extra request headers a webhook or a transformer may ask for (contract, section 3, `headers`). */

/** At most so many extra headers on one request from one source. */
export const extraHeadersMax = 20;

const namePattern = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}$/;
const reservedPattern = /^(content-.*|host|webhook-.*|x-.*-signature|user-agent|expect)$/i;
/** They speak about one connection, not about the request (RFC 9110, 7.6.1). */
const hopByHopNames = new Set([
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

/**
 * Says what is wrong with an extra header, as the rest of a sentence that starts with its name; null if it may be
 * sent. The value itself is never repeated: it may be a secret.
 */
export function findHeaderFault(name: string, value: unknown): string | null {
  if (!namePattern.test(name)) return "is no valid header name";
  if (isReservedHeader(name))
    return "is set by the gateway or belongs to the connection, so it cannot be given";
  if (typeof value !== "string") return "has a value that is no text";
  if (value.length > 4096) return "has a value longer than 4096 characters";
  if (hasControlCharacter(value)) return "has a value with a line break or another control character";
  return null;
}

export function isReservedHeader(name: string): boolean {
  return reservedPattern.test(name) || hopByHopNames.has(name.toLowerCase());
}

export function isHeaderName(name: string): boolean {
  return namePattern.test(name);
}

function hasControlCharacter(value: string): boolean {
  for (let index = 0; index < value.length; index++) {
    const code = value.charCodeAt(index);
    if ((code < 0x20 && code !== 0x09) || code === 0x7f) return true;
  }
  return false;
}
