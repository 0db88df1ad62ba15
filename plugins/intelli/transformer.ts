/** The `intelli` format: the WhatsApp item in a fixed order, beside whom it concerns. README.md shows the payloads. */

import { defineTransformer, type EventUser, respond, type TransformerEvent } from "../transformer.ts";
import { writeMessage, writeStatus } from "./item.ts";

export default defineTransformer({
  name: "intelli",
  version: "1.0.0",
  description: "Messages, reactions and statuses with the WhatsApp item inside.",
  handles: ["message.received", "message.reaction", "message.status"],
  signature: "intelli",
  optionsSchema: { type: "object", properties: {}, additionalProperties: false },
  history: 0,
  pure: true,
  transform({ event }) {
    const parts = event.type === "message.status" ? writeStatusParts(event) : writeMessageParts(event);
    return respond({ body: `{${writeHead(event)},${parts}}` });
  },
});

function writeHead(event: TransformerEvent): string {
  const at = event.occurredAt ?? event.receivedAt;
  const timestamp = `${at.toISOString().slice(0, -".000Z".length)}Z`;
  const type = JSON.stringify(event.type);
  const clientRef = JSON.stringify(event.clientRef);
  const phoneNumber = writePhone(event.businessPhone);
  return `"event":${type},"timestamp":"${timestamp}","client_ref":${clientRef},"phone_number":${phoneNumber}`;
}

function writeMessageParts({ itemJson, user }: TransformerEvent): string {
  const from = writePhone(user?.phone ?? null);
  return `"from":${from},"message":${writeMessage(itemJson)},"contact":${writeContact(user)}`;
}

function writeStatusParts({ itemJson, user }: TransformerEvent): string {
  return `"to":${writePhone(user?.phone ?? null)}${writeBsuid(user)},"status":${writeStatus(itemJson)}`;
}

function writeContact(user: EventUser | null): string {
  const name = JSON.stringify(user?.profileName ?? null);
  const waId = JSON.stringify(user?.waId ?? null);
  return `{"name":${name},"wa_id":${waId}${writeBsuid(user)}}`;
}

/** Nothing at all when the id is not known. */
function writeBsuid(user: EventUser | null): string {
  return user === null || user.bsuid === null ? "" : `,"bsuid":${JSON.stringify(user.bsuid)}`;
}

function writePhone(digits: string | null): string {
  return digits === null ? "null" : JSON.stringify(`+${digits}`);
}
