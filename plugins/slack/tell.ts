/** What a channel is told of an event, in words. Nothing in it is escaped yet. */

import {
  contentOf,
  isJsonObject,
  mediaOf,
  readContent,
  readItem,
  type TransformerInput,
  toE164,
  type WhatsAppMessage,
} from "../transformer.ts";

/** Keys are the placeholders of the option `template`; `""` for what there is not. */
export interface Told extends Readonly<Record<string, string>> {
  /** The user's name, else the number, else the business-scoped id. */
  readonly who: string;
  readonly phone: string;
  readonly client: string;
  /** `wrote`, `sent an image`, `reacted with 👍`, … */
  readonly what: string;
  readonly content: string;
  /** To the message's file. */
  readonly link: string;
}

/** @returns null for what the channel is not told */
export function tell(input: TransformerInput, statuses: "none" | "failed" | "all"): Told | null {
  const words = tellItem(input, statuses);
  if (words === null) return null;
  const { event, conversation } = input;
  const { user } = event;
  const phone = toE164(user?.phone) ?? "";
  const name = conversation?.name || user?.profileName;
  return {
    who: name || phone || user?.bsuid || "somebody",
    phone,
    client: event.clientRef ?? "",
    link: mediaOf(input)?.url ?? "",
    ...words,
  };
}

type Words = Pick<Told, "what" | "content">;

function tellItem({ event }: TransformerInput, statuses: "none" | "failed" | "all"): Words | null {
  const item = readItem(event);
  switch (item.type) {
    case "status": {
      if (statuses === "none" || (statuses === "failed" && item.status !== "failed")) return null;
      const [error] = item.errors;
      const reason = error?.error_data?.details ?? error?.message ?? error?.title ?? "";
      return { what: outcomes.get(item.status) ?? `has a message that is ${item.status}`, content: reason };
    }
    case "reaction":
      return item.reaction.emoji
        ? { what: `reacted with ${item.reaction.emoji}`, content: "" }
        : { what: "took a reaction back", content: "" };
    case "edit": {
      const edited = isJsonObject(item.edit.message) ? readContent(item.edit.message).content : "";
      return { what: "changed a message", content: edited };
    }
    case "revoke":
      return { what: "took a message back", content: "" };
    case "system":
      return { what: "is the subject of a notice by WhatsApp", content: item.system.body ?? "" };
    case "request_welcome":
      return { what: "opened the chat", content: "" };
    case "unsupported":
      return { what: "sent something that WhatsApp does not hand on", content: "" };
    case "unknown":
      return event.type === "message.status"
        ? null
        : { what: verb(event.type, "sent a message"), content: contentOf(event) };
    case "change":
      return null;
    default:
      return { what: verb(event.type, verbs[item.type]), content: contentOf(event) };
  }
}

const outcomes: ReadonlyMap<string, string> = new Map([
  ["sent", "is being sent a message"],
  ["delivered", "got a message"],
  ["read", "read a message"],
  ["played", "played a voice message"],
  ["failed", "did not get a message"],
]);

/** The business is not the one who is named in front. */
function verb(eventType: string, words: string): string {
  return eventType === "message.sent" ? `was answered: the business ${words}` : words;
}

const verbs: Readonly<
  Record<
    Exclude<
      WhatsAppMessage["type"],
      "reaction" | "edit" | "revoke" | "system" | "request_welcome" | "unsupported"
    >,
    string
  >
> = {
  text: "wrote",
  image: "sent an image",
  audio: "sent a voice or sound message",
  video: "sent a video",
  document: "sent a document",
  sticker: "sent a sticker",
  location: "sent a location",
  contacts: "sent contacts",
  button: "chose",
  interactive: "answered",
  order: "ordered",
  template: "sent a template",
};
