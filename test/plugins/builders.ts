/** Inputs of transformers with defaults, so that a test names only what it is about. */

import { assert } from "vitest";
import {
  type Conversation,
  type ConversationMessage,
  type EventUser,
  type Transformer,
  type TransformerEvent,
  type TransformerInput,
  TransformerResponse,
} from "../../plugins/transformer.ts";

interface InputOverrides {
  /** The raw item; alternatively its text, where the text matters. */
  item?: unknown;
  itemJson?: string;
  event?: Partial<Omit<TransformerEvent, "item" | "itemJson">>;
  conversation?: Conversation | null;
  options?: Record<string, unknown>;
  mediaUrl?: string | null;
}

/** A text message that John Doe sent to partner-123, with its conversation. */
export function aTransformerInput(overrides: InputOverrides = {}): TransformerInput {
  const itemJson =
    overrides.itemJson ?? JSON.stringify("item" in overrides ? overrides.item : aTextMessage());
  return {
    event: {
      id: "0199c0de-0000-7000-8000-00000000000e",
      type: "message.received",
      occurredAt: new Date("2026-03-05T12:00:00Z"),
      receivedAt: new Date("2026-03-05T12:00:02.345Z"),
      phoneNumberId: "106540000000001",
      businessPhone: "1234567890",
      wabaId: "102290000000001",
      clientRef: "partner-123",
      user: aUser(),
      ...overrides.event,
      item: JSON.parse(itemJson),
      itemJson,
    },
    conversation: overrides.conversation === undefined ? aConversation() : overrides.conversation,
    options: overrides.options ?? {},
    mediaUrl: overrides.mediaUrl ?? null,
  };
}

export function aTextMessage(): Record<string, unknown> {
  return {
    from: "0987654321",
    id: "wamid.xxx",
    timestamp: "1772712000",
    type: "text",
    text: { body: "Hello!" },
  };
}

export function aUser(overrides: Partial<EventUser> = {}): EventUser {
  return { phone: "0987654321", bsuid: null, waId: "0987654321", profileName: "John Doe", ...overrides };
}

export function aMessage(overrides: Partial<ConversationMessage> = {}): ConversationMessage {
  return {
    sender: "user",
    content: "Hello!",
    contentType: "text",
    sentAt: new Date("2025-06-09T22:08:11Z"),
    ...overrides,
  };
}

/** Unless told otherwise, the last message of each side is found among `messages`. */
export function aConversation(overrides: Partial<Conversation> = {}): Conversation {
  const messages = overrides.messages ?? [aMessage()];
  return {
    userId: "0b9f6c52-3f0e-4a53-9a54-0d1f6d5f7c11",
    phone: "0987654321",
    bsuid: null,
    name: "John Doe",
    note: "",
    noteAutomation: "",
    labels: [],
    messages,
    lastUserMessage: messages.find((message) => message.sender === "user") ?? null,
    lastBotMessage: messages.find((message) => message.sender === "bot") ?? null,
    ...overrides,
  };
}

/** The finished text that one of our transformers makes. */
export function bodyOf(transformer: Transformer, input: TransformerInput): string {
  const result = transformer.transform(input);
  assert(result instanceof TransformerResponse, `${transformer.name} answers with respond(…)`);
  assert(typeof result.body === "string", `${transformer.name} answers with text`);
  return result.body;
}
