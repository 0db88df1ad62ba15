/** Messages of the proto to what WhatsApp's Graph API takes, and scheduled messages back. */

import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type {
  ListScheduledMessagesRequest,
  MediaContent,
  ScheduledMessageSchema,
  SendMessageRequest,
} from "../../gen/posthorn/v1/message_service_pb.ts";
import { GatewayError } from "../domain/errors.ts";
import type { OutgoingContent, OutgoingState, Recipient } from "../domain/outgoing.ts";
import type { ScheduledFilter, ScheduledMessage } from "../store/outgoing-list.ts";

/** The request's rules say that it is one of the two. */
export function toRecipient(to: string): Recipient {
  if (/^[A-Z]{2}\./.test(to)) return { phone: null, bsuid: to };
  return { phone: to.replace(/\D/g, ""), bsuid: null };
}

/** @throws GatewayError `invalid_input` for a member that this kind of message does not have */
export function toContent({ content, replyTo }: SendMessageRequest): OutgoingContent {
  const { case: type } = content;
  if (type === undefined) throw refuse("content", "say what is sent");
  if (type === "reaction" && replyTo !== undefined) throw refuse("reply_to", "a reaction answers no message");
  const context = replyTo === undefined ? {} : { context: { message_id: replyTo } };
  return { type, json: JSON.stringify(wellFormed({ ...context, [type]: memberOf(content) })) };
}

type Content = SendMessageRequest["content"];

function memberOf(content: Content): unknown {
  switch (content.case) {
    case "text":
      return { body: content.value.body, preview_url: content.value.previewUrl };
    case "audio":
      return mediaOf("audio", content.value);
    case "image":
    case "video":
    case "document":
      return mediaOf(content.case, content.value);
    case "location": {
      const { latitude, longitude, name, address } = content.value;
      return { latitude, longitude, name, address };
    }
    case "template": {
      const { name, language, components } = content.value;
      return { name, language: { code: language?.code }, ...(components.length > 0 && { components }) };
    }
    case "reaction":
      return { message_id: content.value.messageId, emoji: content.value.emoji };
    default:
      throw refuse("content", "say what is sent");
  }
}

function mediaOf(type: "image" | "audio" | "video" | "document", media: MediaContent) {
  const { id, link, caption, filename } = media;
  if (caption !== undefined && type === "audio") throw refuse("audio.caption", "a sound has no caption");
  if (filename !== undefined && type !== "document") {
    throw refuse(`${type}.filename`, "only a document has a name");
  }
  return { id, link, caption, filename };
}

/** Texts that PostgreSQL can keep; members that are undefined are left out by JSON. */
function wellFormed(value: unknown): unknown {
  if (typeof value === "string") return value.toWellFormed().replaceAll("\0", "\uFFFD");
  if (Array.isArray(value)) return value.map(wellFormed);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, wellFormed(part)]));
}

function refuse(field: string, message: string): GatewayError {
  return new GatewayError("invalid_input", `${field}: ${message}`, { field });
}

export function toScheduledFilter(request: ListScheduledMessagesRequest): ScheduledFilter {
  return {
    states: request.states as OutgoingState[],
    clientRef: request.clientRef ?? null,
    webhookId: request.webhookId ?? null,
    deliveryId: request.deliveryId ?? null,
    userId: request.userId ?? null,
  };
}

export function fromScheduled(message: ScheduledMessage): MessageInitShape<typeof ScheduledMessageSchema> {
  const { to, content } = message;
  return {
    id: message.id,
    clientRef: message.clientRef,
    phoneNumberId: message.phoneNumberId,
    to: to.phone === null ? (to.bsuid ?? "") : `+${to.phone}`,
    userId: message.userId ?? undefined,
    text: (JSON.parse(content.json) as { text?: { body?: string } }).text?.body ?? "",
    webhookId: message.webhookId,
    deliveryId: message.deliveryId,
    position: message.position,
    state: message.state,
    dueAt: timestampFromDate(message.dueAt),
    createdAt: timestampFromDate(message.createdAt),
    settledAt: message.settledAt ? timestampFromDate(message.settledAt) : undefined,
    messageId: message.wamid ?? undefined,
    status: message.status ?? undefined,
    reason: message.reason ?? undefined,
    errorCode: message.errorCode ?? undefined,
    errorMessage: message.errorMessage ?? undefined,
  };
}
