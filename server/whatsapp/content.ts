/** What a conversation shows of a message, by its WhatsApp type. Transformers read the same text of a message. */

import { readContent } from "../../plugins/sdk/content.ts";
import type { ContentType, ConversationEntry, Revision } from "../domain/event.ts";
import { idOf, recordOf, textOf } from "./json.ts";

type Item = Record<string, unknown>;

/** Content as a conversation keeps it, without who said it. */
interface Shown {
  content: string;
  contentType: ContentType;
  mediaId: string | null;
  fileName?: string;
}

/** Types whose member of that name is a file. `voice` is an older `audio`. */
const mediaTypes = new Set(["image", "video", "document", "audio", "voice", "sticker"]);

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
  const shown = { ...readContent(message, type), mediaId: null };
  return mediaTypes.has(type) ? { ...shown, ...readMedia(recordOf(message[type])) } : shown;
}

function readMedia(media: Item | null): Pick<Shown, "mediaId" | "fileName"> {
  const mediaId = idOf(media?.id);
  const fileName = textOf(media?.filename);
  return fileName === null
    ? { mediaId }
    : { mediaId, fileName: fileName.slice(0, fileNameMax).toWellFormed() };
}
