/** At most so many ids are looked for: a body of WhatsApp comes from one app, whose clients share its secret. */
const idCountMax = 1_000;

const idPattern = /"(?:phone_number_id|waba_id|id)"\s*:\s*(?:"([A-Za-z0-9_-]{1,128})"|(\d{1,128}))/g;

/**
 * Numbers and accounts that a body seems to name, to find the app secrets that may have signed it. The body is not
 * verified yet: nothing may be taken for true because it stands here. A search in the bytes, so that a stranger's body
 * costs no parsing. It may find other ids (those of messages hold a dot, and are none), and misses those that are
 * written with escapes, which WhatsApp does not do.
 */
export function findNamedIds(rawBody: Uint8Array): Set<string> {
  const text = Buffer.from(rawBody.buffer, rawBody.byteOffset, rawBody.byteLength).toString("latin1");
  const ids = new Set<string>();
  for (const match of text.matchAll(idPattern)) {
    ids.add(match[1] ?? match[2]!);
    if (ids.size === idCountMax) break;
  }
  return ids;
}
