/** What a conversation shows of a message, by its WhatsApp type. */

import type { ContentType, ConversationEntry, Revision } from "../domain/event.ts";
import { idOf, listOf, recordOf, textOf } from "./json.ts";
import { summarizeOrder } from "./order.ts";

type Item = Record<string, unknown>;

/** Content as a conversation keeps it, without who said it. */
interface Shown {
  content: string;
  contentType: ContentType;
  mediaId: string | null;
  fileName?: string;
}

/** Longer than any file system allows. */
const fileNameMax = 512;

/** Types that say something about a conversation but are no part of it. `unknown` is the older `unsupported`. */
const outsideConversation = new Set([
  "reaction",
  "system",
  "edit",
  "revoke",
  "request_welcome",
  "unsupported",
  "unknown",
]);

/** The message's WhatsApp type; one without any is `unsupported`. */
export function messageTypeOf(message: Item): string {
  return idOf(message.type) ?? "unsupported";
}

/** The message as part of its conversation; null when its type is no part of one. */
export function readEntry(
  message: Item,
  type: string,
  sender: ConversationEntry["sender"],
): ConversationEntry | null {
  if (outsideConversation.has(type)) return null;
  return { sender, wamid: idOf(message.id), ...show(message, type) };
}

/** What an edit or revoke does; null for other messages, and for one that does not say what it changes. */
export function readRevision(message: Item, type: string): Revision | null {
  if (type === "revoke") {
    const wamid = idOf(recordOf(message.revoke)?.original_message_id);
    return wamid === null ? null : { wamid, content: null, contentType: "text" };
  }
  if (type !== "edit") return null;
  const edit = recordOf(message.edit);
  const wamid = idOf(edit?.original_message_id);
  const edited = recordOf(edit?.message);
  if (wamid === null || edited === null) return null;
  const { content, contentType } = show(edited, messageTypeOf(edited));
  return { wamid, content, contentType };
}

function show(message: Item, type: string): Shown {
  switch (type) {
    case "text":
      return asText(textOf(recordOf(message.text)?.body));
    case "image":
    case "video":
    case "document":
    case "audio":
      return asMedia(message[type], type);
    case "voice":
      return asMedia(message.voice, "audio");
    case "sticker":
      return asMedia(message.sticker, "image");
    case "location":
      return { content: describeLocation(message.location), contentType: "location", mediaId: null };
    case "contacts":
      return asText(listOf(message.contacts).map(nameOfCard).filter(Boolean).join(", "));
    case "button":
      return asText(textOf(recordOf(message.button)?.text));
    case "interactive":
      return asText(readReply(recordOf(message.interactive)));
    case "order":
      return asText(summarizeOrder(message.order));
    default:
      return asText(null);
  }
}

function asText(content: string | null): Shown {
  return { content: content ?? "", contentType: "text", mediaId: null };
}

function asMedia(value: unknown, contentType: ContentType): Shown {
  const media = recordOf(value);
  const shown = { content: textOf(media?.caption) ?? "", contentType, mediaId: idOf(media?.id) };
  const fileName = textOf(media?.filename);
  return fileName === null ? shown : { ...shown, fileName: fileName.slice(0, fileNameMax).toWellFormed() };
}

/** `name, address (latitude, longitude)`, as far as present; 0 is a place like any other. */
function describeLocation(value: unknown): string {
  const location = recordOf(value);
  const place = [textOf(location?.name), textOf(location?.address)]
    .filter((part) => part !== null)
    .join(", ");
  const latitude = coordinateOf(location?.latitude);
  const longitude = coordinateOf(location?.longitude);
  const point = latitude === null || longitude === null ? "" : `(${latitude}, ${longitude})`;
  return [place, point].filter(Boolean).join(" ");
}

function coordinateOf(value: unknown): string | null {
  const text = textOf(value);
  return text !== null && /^-?\d{1,3}(?:\.\d+)?$/.test(text) ? text : null;
}

/** The card's formatted name; newer cards may have it as `FN` of a vCard only. */
function nameOfCard(value: unknown): string | null {
  const card = recordOf(value);
  const formatted = textOf(recordOf(card?.name)?.formatted_name);
  if (formatted !== null) return formatted;
  return /^FN(?:;[^:\n]*)?:(.*)$/m.exec(textOf(card?.vcard) ?? "")?.[1]?.trim() ?? null;
}

function readReply(interactive: Item | null): string | null {
  return (
    textOf(recordOf(interactive?.button_reply)?.title) ??
    textOf(recordOf(interactive?.list_reply)?.title) ??
    textOf(recordOf(interactive?.nfm_reply)?.response_json)
  );
}
