/** The `insights` format: the conversation as it stood when the event happened. README.md shows the payload. */

import {
  type Conversation,
  type ConversationMessage,
  defineTransformer,
  payloadBytesMax,
  respond,
} from "../transformer.ts";
import { clockOf } from "./clock.ts";

const historyDefault = 10;

export default defineTransformer({
  name: "insights",
  version: "1.0.0",
  description: "The conversation around a message: its latest messages, the contact, notes and labels.",
  handles: ["message.received", "message.sent"],
  signature: "insights",
  optionsSchema: {
    type: "object",
    properties: {
      history_size: {
        type: "integer",
        minimum: 1,
        maximum: 50,
        default: historyDefault,
        description: "How many of the latest messages the payload holds.",
      },
      timezone: {
        type: "string",
        format: "iana-time-zone",
        maxLength: 64,
        default: "UTC",
        description: "Time zone of the times in conversation_paragraph, such as Europe/Berlin.",
      },
    },
    additionalProperties: false,
  },
  history: { option: "history_size", default: historyDefault },
  pure: true,
  transform({ conversation, options, mediaUrl }) {
    if (conversation === null) return undefined;
    const { history_size = historyDefault, timezone = "UTC" } = options as InsightsOptions;
    return respond({ body: writeBody(conversation, history_size, timezone, mediaUrl) });
  },
});

/** As `optionsSchema` leaves them. */
interface InsightsOptions {
  history_size?: number;
  timezone?: string;
}

/**
 * Each content is in the body twice or more, so a history of long texts may outgrow what a payload may be: then the
 * oldest messages are left out rather than the delivery failed.
 */
function writeBody(
  conversation: Conversation,
  historySize: number,
  timezone: string,
  mediaUrl: string | null,
): string {
  let messageCount = Math.min(historySize, conversation.messages.length);
  for (;;) {
    const body = JSON.stringify(describe(conversation, messageCount, timezone, mediaUrl));
    const bytes = Buffer.byteLength(body);
    if (bytes <= payloadBytesMax || messageCount <= 1) return body;
    messageCount = Math.max(
      1,
      Math.min(messageCount - 1, Math.floor((messageCount * payloadBytesMax) / bytes)),
    );
  }
}

/** Keys in the order in which partners get them. */
function describe(
  conversation: Conversation,
  messageCount: number,
  timezone: string,
  mediaUrl: string | null,
) {
  const messages = conversation.messages.slice(0, messageCount);
  const { lastUserMessage, lastBotMessage } = conversation;
  return {
    last_messages: messages.map((message) => ({
      type: message.sender,
      content: message.content,
      timestamp: message.sentAt.toISOString(),
      content_type: contentTypeOf(message),
    })),
    conversation_paragraph: writeParagraph(messages, timezone),
    phone_number: conversation.phone ?? conversation.bsuid ?? "",
    recipient_name: conversation.name,
    user_id: conversation.userId,
    last_message_of_user: lastUserMessage?.content ?? "",
    last_message_of_bot: lastBotMessage?.content ?? "",
    message_type: contentTypeOf(messages[0]),
    user_last_message_time: unixSecondsOf(lastUserMessage),
    bot_last_message_time: unixSecondsOf(lastBotMessage),
    attachment_url: mediaUrl,
    note: conversation.note,
    note_automation: conversation.noteAutomation,
    labels: conversation.labels.join(", "),
  };
}

function writeParagraph(messages: readonly ConversationMessage[], timezone: string): string {
  const clock = clockOf(timezone);
  return messages
    .map(
      ({ sender, content, sentAt }) => `${sender === "user" ? "User" : "Bot"} (${clock(sentAt)}): ${content}`,
    )
    .join(" ; ");
}

const contentTypes: readonly string[] = ["text", "image", "audio", "video", "document", "location"];

/** Partners know six types; whatever else a newer gateway may come to store is a text to them. */
function contentTypeOf(message: ConversationMessage | undefined): string {
  return message !== undefined && contentTypes.includes(message.contentType) ? message.contentType : "text";
}

/** 0 if there is no message. */
function unixSecondsOf(message: ConversationMessage | null): number {
  return message === null ? 0 : Math.floor(message.sentAt.getTime() / 1000);
}
