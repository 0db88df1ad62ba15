import { describe, expect, test } from "vitest";
import insights from "../../plugins/insights/transformer.ts";
import { optionFormats, payloadBytesMax, type TransformerInput } from "../../plugins/transformer.ts";
import { aConversation, aMessage, aTransformerInput, bodyOf } from "./builders.ts";

const question = aMessage({ content: "What are your hours?", sentAt: new Date("2025-06-09T22:08:11Z") });
const greeting = aMessage({
  sender: "bot",
  content: "Hello! How can I help?",
  sentAt: new Date("2025-06-09T21:45:30Z"),
});

describe("the payload, byte for byte", () => {
  test("a question after a greeting", () => {
    const input = aTransformerInput({
      conversation: aConversation({
        phone: "5215512345678",
        name: "Jane Roe",
        note: "prefers mornings",
        noteAutomation: "asked twice",
        labels: ["vip", "new lead"],
        messages: [question, greeting],
      }),
    });
    expect(bodyOf(insights, input)).toBe(
      '{"last_messages":[{"type":"user","content":"What are your hours?","timestamp":"2025-06-09T22:08:11.000Z","content_type":"text"},{"type":"bot","content":"Hello! How can I help?","timestamp":"2025-06-09T21:45:30.000Z","content_type":"text"}],"conversation_paragraph":"User (10:08:11 PM): What are your hours? ; Bot (9:45:30 PM): Hello! How can I help?","phone_number":"5215512345678","recipient_name":"Jane Roe","user_id":"0b9f6c52-3f0e-4a53-9a54-0d1f6d5f7c11","last_message_of_user":"What are your hours?","last_message_of_bot":"Hello! How can I help?","message_type":"text","user_last_message_time":1749506891,"bot_last_message_time":1749505530,"attachment_url":null,"note":"prefers mornings","note_automation":"asked twice","labels":"vip, new lead"}',
    );
  });

  test("a user's first message, of whom nothing more is known", () => {
    const input = aTransformerInput({
      conversation: aConversation({
        phone: null,
        bsuid: "US.13491208655302741918",
        name: "",
        messages: [question],
      }),
    });
    expect(bodyOf(insights, input)).toBe(
      '{"last_messages":[{"type":"user","content":"What are your hours?","timestamp":"2025-06-09T22:08:11.000Z","content_type":"text"}],"conversation_paragraph":"User (10:08:11 PM): What are your hours?","phone_number":"US.13491208655302741918","recipient_name":"","user_id":"0b9f6c52-3f0e-4a53-9a54-0d1f6d5f7c11","last_message_of_user":"What are your hours?","last_message_of_bot":"","message_type":"text","user_last_message_time":1749506891,"bot_last_message_time":0,"attachment_url":null,"note":"","note_automation":"","labels":""}',
    );
  });
});

describe("values", () => {
  test("an event that is no part of a conversation is skipped", () => {
    expect(insights.transform(aTransformerInput({ conversation: null }))).toBeUndefined();
  });

  test("the phone is preferred to the business-scoped id", () => {
    const conversation = aConversation({ phone: "4915112345678", bsuid: "DE.1" });
    expect(parsed({ conversation }).phone_number).toBe("4915112345678");
  });

  test("the last message of each side may lie before the history", () => {
    const farewell = aMessage({
      sender: "bot",
      content: "Bye!",
      sentAt: new Date("2024-01-01T00:00:00.999Z"),
    });
    expect(
      parsed({ conversation: aConversation({ messages: [question], lastBotMessage: farewell }) }),
    ).toMatchObject({
      last_message_of_bot: "Bye!",
      bot_last_message_time: 1704067200,
      last_message_of_user: "What are your hours?",
    });
  });

  test("times are floored to seconds, before 1970 too", () => {
    const at = (ms: number) =>
      parsed({ conversation: aConversation({ messages: [aMessage({ sentAt: new Date(ms) })] }) });
    expect(at(1_749_506_891_999).user_last_message_time).toBe(1_749_506_891);
    expect(at(-1).user_last_message_time).toBe(-1);
  });

  test("milliseconds are in the list, and not in the paragraph", () => {
    const message = aMessage({ sentAt: new Date("2025-06-09T22:08:11.045Z") });
    const payload = parsed({ conversation: aConversation({ messages: [message] }) });
    expect(payload.last_messages).toMatchObject([{ timestamp: "2025-06-09T22:08:11.045Z" }]);
    expect(payload.conversation_paragraph).toBe("User (10:08:11 PM): Hello!");
  });

  test.each(["text", "image", "audio", "video", "document", "location"] as const)(
    "message_type is that of the newest message: %s",
    (contentType) => {
      const newest = aMessage({ contentType, content: "" });
      const payload = parsed({ conversation: aConversation({ messages: [newest, greeting] }) });
      expect(payload.message_type).toBe(contentType);
      expect(payload.last_messages).toMatchObject([{ content_type: contentType }, { content_type: "text" }]);
    },
  );

  test("a type that is none of the six is text", () => {
    const newest = { ...aMessage(), contentType: "hologram" as "text" };
    const payload = parsed({ conversation: aConversation({ messages: [newest] }) });
    expect(payload.message_type).toBe("text");
    expect(payload.last_messages).toMatchObject([{ content_type: "text" }]);
  });

  test("attachment_url is the gateway's link to the media of this message", () => {
    const conversation = aConversation({ messages: [aMessage({ contentType: "image", content: "" })] });
    expect(parsed({ conversation, mediaUrl: "https://gateway.example/media/abc" }).attachment_url).toBe(
      "https://gateway.example/media/abc",
    );
  });

  test("a message without content leaves an empty place in the paragraph", () => {
    const conversation = aConversation({
      messages: [aMessage({ contentType: "image", content: "" }), greeting],
    });
    expect(parsed({ conversation }).conversation_paragraph).toBe(
      "User (10:08:11 PM):  ; Bot (9:45:30 PM): Hello! How can I help?",
    );
  });
});

describe("option history_size", () => {
  const conversation = aConversation({
    messages: Array.from({ length: 50 }, (_, index) => aMessage({ content: `message ${index}` })),
  });

  test.each([
    [{}, 10],
    [{ history_size: 1 }, 1],
    [{ history_size: 50 }, 50],
  ])("%j gives the newest %i messages", (options, count) => {
    const payload = parsed({ conversation, options });
    const expected = Array.from({ length: count }, (_, index) => `message ${index}`);
    expect(payload.last_messages.map(({ content }: { content: string }) => content)).toEqual(expected);
    expect(payload.conversation_paragraph.split(" ; ")).toEqual(
      expected.map((text) => `User (10:08:11 PM): ${text}`),
    );
  });

  test("a history too long for a payload loses its oldest messages, and only as many as it must", () => {
    const content = "x".repeat(8_000);
    const long = aConversation({
      messages: [question, ...Array.from({ length: 49 }, () => aMessage({ content }))],
    });
    const input = aTransformerInput({ conversation: long, options: { history_size: 50 } });
    const body = bodyOf(insights, input);
    expect(Buffer.byteLength(body)).toBeLessThanOrEqual(payloadBytesMax);
    expect(Buffer.byteLength(body)).toBeGreaterThan(payloadBytesMax - 3 * content.length);
    const payload = JSON.parse(body);
    expect(payload.last_messages[0].content).toBe("What are your hours?");
    expect(payload.conversation_paragraph.split(" ; ")).toHaveLength(payload.last_messages.length);
  });
});

describe("option timezone", () => {
  test.each([
    [undefined, "2025-06-09T22:08:11Z", "10:08:11 PM"],
    ["UTC", "2025-06-09T00:00:00Z", "12:00:00 AM"],
    ["UTC", "2025-06-09T00:59:59.999Z", "12:59:59 AM"],
    ["UTC", "2025-06-09T01:02:03Z", "1:02:03 AM"],
    ["UTC", "2025-06-09T09:09:10Z", "9:09:10 AM"],
    ["UTC", "2025-06-09T11:59:59Z", "11:59:59 AM"],
    ["UTC", "2025-06-09T12:00:00Z", "12:00:00 PM"],
    ["UTC", "2025-06-09T13:00:00Z", "1:00:00 PM"],
    ["UTC", "1969-12-31T23:59:59Z", "11:59:59 PM"],
    ["Etc/UTC", "2025-06-09T00:00:00Z", "12:00:00 AM"],
    ["Europe/Berlin", "2025-06-09T22:08:11Z", "12:08:11 AM"],
    ["Europe/Berlin", "2025-01-09T22:08:11Z", "11:08:11 PM"],
    ["Europe/Berlin", "2025-03-30T00:59:59Z", "1:59:59 AM"],
    ["Europe/Berlin", "2025-03-30T01:00:00Z", "3:00:00 AM"],
    ["America/New_York", "2025-06-09T16:00:00Z", "12:00:00 PM"],
    ["Asia/Kolkata", "2025-06-09T22:08:11Z", "3:38:11 AM"],
    ["Asia/Kathmandu", "2025-06-09T18:15:00Z", "12:00:00 AM"],
  ])("%s at %s reads %s", (timezone, at, expected) => {
    const conversation = aConversation({ messages: [aMessage({ sentAt: new Date(at) })] });
    const options = timezone === undefined ? {} : { timezone };
    expect(parsed({ conversation, options }).conversation_paragraph).toBe(`User (${expected}): Hello!`);
  });

  test("every time zone may be used, one after the other and again", () => {
    const conversation = aConversation({ messages: [question] });
    const read = () =>
      Intl.supportedValuesOf("timeZone").map(
        (timezone) => parsed({ conversation, options: { timezone } }).conversation_paragraph as string,
      );
    const paragraphs = read();
    for (const text of paragraphs) {
      expect(text).toMatch(/^User \((1[0-2]|[1-9]):\d\d:\d\d [AP]M\): What are your hours\?$/);
    }
    expect(read()).toEqual(paragraphs);
  });
});

test("options are checked before they get here: sizes by the schema, time zones by a format of the gateway", () => {
  expect(insights.optionsSchema.additionalProperties).toBe(false);
  expect(insights.optionsSchema.properties.history_size).toMatchObject({
    type: "integer",
    minimum: 1,
    maximum: 50,
    default: 10,
  });
  expect(insights.optionsSchema.properties.timezone).toMatchObject({ type: "string", default: "UTC" });
  expect(optionFormats[insights.optionsSchema.properties.timezone.format]?.("Mars/Olympus")).toBe(false);
});

test("takes messages of both sides, with as much of the conversation as the webhook says", () => {
  expect(insights).toMatchObject({
    name: "insights",
    version: "1.0.0",
    handles: ["message.received", "message.sent"],
    signature: "insights",
    history: { option: "history_size", default: 10 },
  });
});

function parsed(overrides: Parameters<typeof aTransformerInput>[0]) {
  const input: TransformerInput = aTransformerInput(overrides);
  return JSON.parse(bodyOf(insights, input));
}
