import { describe, expect, test } from "vitest";
import { builtinTransformers } from "../../plugins/builtin.ts";
import { makeSampleEvent } from "../../server/whatsapp/sample.ts";

const at = new Date("2026-03-05T12:00:00Z");
const types = [
  "message.received",
  "message.reaction",
  "message.status",
  "message.sent",
  "whatsapp.error",
  "whatsapp.user_action",
  "whatsapp.account_update",
  "whatsapp.account_review_update",
  "whatsapp.message_template_status_update",
  "whatsapp.message_template_quality_update",
  "whatsapp.phone_number_quality_update",
  "whatsapp.phone_number_name_update",
  "whatsapp.user_preferences",
  "whatsapp.calls",
  "whatsapp.a_field_of_tomorrow",
];

describe("a sample event", () => {
  test.each(types)("of %s has its type, an item, and the time it is made at", (type) => {
    const event = makeSampleEvent(type, at);
    expect(event?.type).toBe(type);
    expect(Object.keys(JSON.parse(event!.item)).length).toBeGreaterThan(0);
    expect(event?.occurredAt).toEqual(at);
  });

  test("of a message says who sent it and belongs to a conversation", () => {
    for (const [type, sender] of [
      ["message.received", "user"],
      ["message.sent", "bot"],
    ] as const) {
      const event = makeSampleEvent(type, at);
      expect(event?.user?.phone).toMatch(/^[0-9]+$/);
      expect(event?.entry).toMatchObject({ sender, contentType: "text" });
      expect(event?.entry?.content).not.toBe("");
    }
  });

  test.each(["message.nothing", "posthorn.webhook.disabled", "whatsapp.", ""])(
    "of %j does not exist",
    (type) => {
      expect(makeSampleEvent(type, at)).toBeNull();
    },
  );

  test("exists for every type that the transformers of the gateway name", () => {
    const named = builtinTransformers.flatMap(({ handles }) => handles).filter((type) => !type.endsWith("*"));
    expect(named.length).toBeGreaterThan(0);
    for (const type of named) expect(makeSampleEvent(type, at)?.type).toBe(type);
  });
});
