/**
 * Hashes that recognise a repeat of the same item. The tenant is no part of them: it stands beside the hash.
 * Numbers and texts of the same digits give the same hash.
 */

import { hash } from "node:crypto";

/**
 * A message by number, id and type: the real message after an `unsupported` placeholder of the same id is new. Of what
 * the business sends no other type counts: an echo may have another one than the message had that was sent through us.
 *
 * @param direction  `sent` is what the business sends: echoes, and our own sends, which share the key of their echo
 * @param type       WhatsApp's message type, `unsupported` if it has none
 */
export function hashMessage(
  direction: "received" | "sent",
  phoneNumberId: string,
  wamid: string,
  type: string,
): string {
  const countedType = direction === "received" || type === "unsupported" ? type : "";
  return hashParts([direction, phoneNumberId, wamid, countedType]);
}

/** @param recipientId  the participant in groups, else the recipient's user id or phone */
export function hashStatus(wamid: string, status: string, recipientId: string, timestamp: string): string {
  return hashParts(["status", wamid, status, recipientId, timestamp]);
}

/** Everything else, and what lacks a part of its own key: the item itself and where it stood. */
export function hashItem(
  entryId: string | null,
  entryTime: string | null,
  field: string | null,
  item: string,
): string {
  return hashParts(["item", entryId ?? "", entryTime ?? "", field ?? "", item]);
}

/** No part holds U+0000 (ids are cleaned of it, JSON escapes it), so it cannot blur where one part ends. */
function hashParts(parts: string[]): string {
  return hash("sha256", parts.join("\0"), "hex").slice(0, 32);
}
