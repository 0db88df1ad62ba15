/**
 * What the endpoints should get, byte for byte: written from the description of the formats, apart from the
 * transformers. `insights` bodies are as of the item, so conversations are kept here as the scenes go on.
 */

import type { Json } from "../helpers/whatsapp-bodies.ts";

export type EndpointName = "intelli" | "insights" | "raw";

export interface Business {
  phone: string;
  phoneNumberId: string;
}

export interface Person {
  name: string;
  /** Null for a user who shows no number. */
  phone: string | null;
  /** Null where WhatsApp does not say it. */
  bsuid: string | null;
}

/** An item of a body, with what is known of it beside its bytes. */
export interface Item {
  eventType: string;
  business: Business;
  /** Null for news about the account. */
  person: Person | null;
  /** As WhatsApp sends it. */
  json: Json;
  /** How a conversation shows it; null for what is no part of one. */
  shown: { content: string; contentType: string } | null;
}

export interface ExpectedDelivery {
  endpoint: EndpointName;
  /** The exact body, `user_id` and the link to media masked; null for a delivery that sends nothing (state `skipped`). */
  body: string | null;
  /** Whose `user_id` an `insights` body has: one contact for each business and person. Null for other bodies. */
  contact: string | null;
}

/** The UUID of a contact is made by the gateway, so it cannot be known beforehand. */
export const maskedUserId = "the contact's UUID";
/** So is the link to a message's media. */
export const maskedMediaUrl = "the link to the file";

interface Line {
  type: "user" | "bot";
  content: string;
  timestamp: string;
  content_type: string;
}

const historySize = 10;

/** Gives the deliveries of an item; to be asked once for each, in the order in which they happen. */
export function createExpectations(): (item: Item) => ExpectedDelivery[] {
  const conversations = new Map<string, Line[]>();

  return (item) => {
    const { eventType, business, person, json } = item;
    if (person === null) return [{ endpoint: "raw", body: JSON.stringify(json), contact: null }];
    const expected: ExpectedDelivery[] = [];
    if (eventType !== "message.sent") {
      expected.push({ endpoint: "intelli", body: writeIntelli(item, person), contact: null });
    }
    if (eventType === "message.received" || eventType === "message.sent") {
      const contact = `${person.name} at ${business.phoneNumberId}`;
      expected.push({ endpoint: "insights", body: writeInsights(item, person, contact), contact });
    }
    return expected;
  };

  function writeInsights({ eventType, json, shown }: Item, person: Person, contact: string): string | null {
    if (shown === null) return null;
    const line: Line = {
      type: eventType === "message.sent" ? "bot" : "user",
      content: shown.content,
      timestamp: timeOf(json).toISOString(),
      content_type: shown.contentType,
    };
    const lines = [line, ...(conversations.get(contact) ?? [])];
    conversations.set(contact, lines);
    const latest = lines.slice(0, historySize);
    const ofUser = lines.find(({ type }) => type === "user");
    const ofBot = lines.find(({ type }) => type === "bot");
    return JSON.stringify({
      last_messages: latest,
      conversation_paragraph: latest.map(writeLine).join(" ; "),
      phone_number: person.phone ?? person.bsuid,
      recipient_name: person.name,
      user_id: maskedUserId,
      last_message_of_user: ofUser?.content ?? "",
      last_message_of_bot: ofBot?.content ?? "",
      message_type: shown.contentType,
      user_last_message_time: ofUser ? Date.parse(ofUser.timestamp) / 1000 : 0,
      bot_last_message_time: ofBot ? Date.parse(ofBot.timestamp) / 1000 : 0,
      attachment_url: hasMedia(json) ? maskedMediaUrl : null,
      note: "",
      note_automation: "",
      labels: "",
    });
  }
}

function writeIntelli({ eventType, business, json }: Item, person: Person): string {
  const number = person.phone === null ? null : `+${person.phone}`;
  const bsuid = person.bsuid === null ? {} : { bsuid: person.bsuid };
  const head = {
    event: eventType,
    timestamp: timeOf(json).toISOString().replace(".000Z", "Z"),
    client_ref: business.phoneNumberId,
    phone_number: `+${business.phone}`,
  };
  if (eventType === "message.status") {
    const { id, status, timestamp, ...rest } = json;
    return JSON.stringify({ ...head, to: number, ...bsuid, status: { id, status, timestamp, ...rest } });
  }
  const { from: _, id, type, timestamp, ...rest } = json;
  const name = String(type);
  const content = name === "reaction" ? completeReaction(json.reaction as Json) : json[name];
  return JSON.stringify({
    ...head,
    from: number,
    // Named before `rest`, which holds the content too, so that its place is the one here.
    message: { id, type, [name]: null, timestamp, ...rest, [name]: content },
    contact: { name: person.name, wa_id: person.phone, ...bsuid },
  });
}

/** A reaction that was taken back has no emoji at WhatsApp, and an empty one here. */
function completeReaction({ message_id, emoji = "" }: Json): Json {
  return { message_id, emoji };
}

function hasMedia(json: Json): boolean {
  return ["image", "video", "audio", "document", "sticker"].includes(String(json.type));
}

function timeOf(json: Json): Date {
  return new Date(Number(json.timestamp) * 1000);
}

/** `User (10:08:11 PM): Hello!` */
function writeLine({ type, content, timestamp }: Line): string {
  const at = new Date(timestamp);
  const [minutes, seconds] = [at.getUTCMinutes(), at.getUTCSeconds()].map((part) =>
    String(part).padStart(2, "0"),
  );
  const half = at.getUTCHours() < 12 ? "AM" : "PM";
  const clock = `${at.getUTCHours() % 12 || 12}:${minutes}:${seconds} ${half}`;
  return `${type === "user" ? "User" : "Bot"} (${clock}): ${content}`;
}
