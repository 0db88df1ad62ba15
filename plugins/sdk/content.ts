/** What a person would read of a message: one text for every WhatsApp type. */

import type { ConversationMessage, TransformerEvent } from "./input.ts";
import { listOf, parseLossless, recordOf, textOf } from "./json.ts";
import { summarizeOrder } from "./order.ts";

/** A message as one text. */
export interface MessageContent {
  /** The body, the caption, the chosen button's title, …; `""` if there is nothing to read. */
  readonly content: string;
  /** One of the six kinds that a conversation knows; `text` for everything without one of its own. */
  readonly contentType: ConversationMessage["contentType"];
}

/**
 * The content of an event's message as text, as conversations show it.
 *
 * Text: its body. Media: the caption. Location: `name, address (latitude, longitude)` as far as present. Contacts: the
 * names. Button and interactive replies: the title that was chosen, or a flow's `response_json`. Order: the number of
 * items and the total. Template: its name and the texts that fill it. Unknown types, and events that are no message: `""`.
 */
export function contentOf(event: TransformerEvent): string {
  if (!event.type.startsWith("message.") || event.type === "message.status") return "";
  return readContent(recordOf(parseLossless(event.itemJson)) ?? {}).content;
}

/**
 * The content of a raw WhatsApp message, an object of any shape.
 *
 * @param type  takes the place of the message's own `type`
 */
export function readContent(
  message: Readonly<Record<string, unknown>>,
  type: unknown = message.type,
): MessageContent {
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
      return { content: describeLocation(message.location), contentType: "location" };
    case "contacts":
      return asText(listOf(message.contacts).map(nameOfCard).filter(Boolean).join(", "));
    case "button":
      return asText(textOf(recordOf(message.button)?.text));
    case "interactive":
      return asText(readReply(recordOf(message.interactive)));
    case "order":
      return asText(summarizeOrder(message.order));
    case "template":
      return asText(describeTemplate(recordOf(message.template)));
    default:
      return asText(null);
  }
}

function asText(content: string | null): MessageContent {
  return { content: content ?? "", contentType: "text" };
}

function asMedia(media: unknown, contentType: MessageContent["contentType"]): MessageContent {
  return { content: textOf(recordOf(media)?.caption) ?? "", contentType };
}

/** `name: first, second, …`: the texts that fill it stand for what only WhatsApp knows, the text around them. */
function describeTemplate(template: Record<string, unknown> | null): string | null {
  const name = textOf(template?.name);
  const fillings = listOf(template?.components)
    .flatMap((component) => listOf(recordOf(component)?.parameters))
    .map((parameter) => textOf(recordOf(parameter)?.text))
    .filter((text) => text !== null);
  return name === null || fillings.length === 0 ? name : `${name}: ${fillings.join(", ")}`;
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

function readReply(interactive: Record<string, unknown> | null): string | null {
  return (
    textOf(recordOf(interactive?.button_reply)?.title) ??
    textOf(recordOf(interactive?.list_reply)?.title) ??
    textOf(recordOf(interactive?.nfm_reply)?.response_json)
  );
}
