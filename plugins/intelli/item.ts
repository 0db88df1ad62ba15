/**
 * WhatsApp's own items with their main keys in a fixed order. Nothing but a message's `from` is lost, nothing but a
 * removed reaction's `emoji` is added; an item that is no object passes as it is.
 *
 * The text is put together member by member: an object built in another order would treat a key such as `__proto__`
 * or `42` in its own way.
 */

import { isJsonObject, parseLossless } from "../transformer.ts";

type JsonObject = Record<string, unknown>;

/** `id`, `type`, the object named after the type, `timestamp`, then the rest as received, without `from`. */
export function writeMessage(itemJson: string): string {
  const item = parseLossless(itemJson);
  if (!isJsonObject(item)) return JSON.stringify(item);
  if (item.type === "reaction" && isJsonObject(item.reaction)) {
    return writeInOrder(
      { ...item, reaction: completeReaction(item.reaction) },
      messageOrder("reaction"),
      "from",
    );
  }
  return writeInOrder(item, messageOrder(item.type), "from");
}

/** `id`, `status`, `timestamp`, `recipient_id`, then the rest as received. */
export function writeStatus(itemJson: string): string {
  const item = parseLossless(itemJson);
  return isJsonObject(item) ? writeInOrder(item, statusOrder) : JSON.stringify(item);
}

const statusOrder = ["id", "status", "timestamp", "recipient_id"];
const typelessOrder = ["id", "type", "timestamp"];

/** Takes care of a type that is missing, or that is the name of a key with a place of its own. */
function messageOrder(type: unknown): readonly string[] {
  if (typeof type !== "string" || type === "from" || typelessOrder.includes(type)) return typelessOrder;
  return ["id", "type", type, "timestamp"];
}

/** A removed reaction comes without `emoji`, or with null or "": partners get `"emoji":""` behind `message_id`. */
function completeReaction(reaction: JsonObject): JsonObject {
  const leading = { message_id: reaction.message_id, emoji: reaction.emoji ?? "" };
  return { ...leading, ...reaction, emoji: leading.emoji };
}

/** The members named in `order` that are there, then the others as received, all but `dropped`. */
function writeInOrder(object: JsonObject, order: readonly string[], dropped?: string): string {
  let members = "";
  for (const key of order) {
    if (Object.hasOwn(object, key)) members += `,${JSON.stringify(key)}:${JSON.stringify(object[key])}`;
  }
  for (const key of Object.keys(object)) {
    if (key === dropped || order.includes(key)) continue;
    members += `,${JSON.stringify(key)}:${JSON.stringify(object[key])}`;
  }
  return `{${members.slice(1)}}`;
}
