import fc from "fast-check";
import { describe, expect, expectTypeOf, test } from "vitest";
import { sampleOf, samples } from "../../plugins/testing.ts";
import {
  type InteractiveMessage,
  type MediaFile,
  readItem,
  type TransformerInput,
  type WhatsAppItem,
} from "../../plugins/transformer.ts";
import { aTransformerInput } from "./builders.ts";

const typeBySample: Record<string, WhatsAppItem["type"]> = {
  text: "text",
  "text in a reply": "text",
  "text from an advertisement": "text",
  "text in a group": "text",
  "text of a user without a number": "text",
  image: "image",
  video: "video",
  "voice note": "audio",
  audio: "audio",
  document: "document",
  sticker: "sticker",
  location: "location",
  "location without a name": "location",
  contacts: "contacts",
  "button of a template": "button",
  "button reply": "interactive",
  "list reply": "interactive",
  "flow reply": "interactive",
  "call permission": "interactive",
  order: "order",
  reaction: "reaction",
  "reaction taken back": "reaction",
  "new number": "system",
  edit: "edit",
  revoke: "revoke",
  "opened chat": "request_welcome",
  unsupported: "unsupported",
  "type that is new": "unknown",
  "text without a body": "unknown",
  "status sent": "status",
  "status delivered": "status",
  "status read": "status",
  "status failed": "status",
  "status that is new": "status",
  "sent text": "text",
  "sent image": "image",
  "sent template": "template",
  error: "change",
  "user action": "change",
  "account update": "change",
  "account review": "change",
  "template status": "change",
  "phone number quality": "change",
  preferences: "change",
  call: "change",
  "field that is new": "change",
};

test("every sample has the type that it should have", () => {
  const read = Object.fromEntries(samples().map(({ name }) => [name, itemOf(name).type]));
  expect(read).toEqual(typeBySample);
});

test("an item's content has WhatsApp's own names", () => {
  const text = itemOf("text in a reply");
  expect(text).toMatchObject({
    type: "text",
    id: "wamid.SAMPLE-1",
    text: { body: "Yes, that one." },
    context: { id: "wamid.SAMPLE-0" },
    referral: null,
    groupId: null,
  });
  expect(itemOf("text in a group")).toMatchObject({ groupId: "SampleGroupId" });
  expect(itemOf("text from an advertisement")).toMatchObject({ referral: { source_type: "ad" } });
});

test("a status tells why it failed", () => {
  expect(itemOf("status failed")).toMatchObject({
    type: "status",
    status: "failed",
    errors: [{ code: 131047, error_data: { details: expect.stringContaining("24 hours") } }],
  });
});

test("what is new or broken is unknown, with its own type and all that came", () => {
  expect(itemOf("type that is new")).toMatchObject({
    originalType: "hologram",
    raw: { hologram: { depth: 3 } },
  });
  expect(itemOf("text without a body")).toMatchObject({ originalType: "text", raw: { text: null } });
});

describe("a member of another kind than documented makes an item unknown", () => {
  test.each([
    ["text", { body: 7 }],
    ["text", []],
    ["image", { caption: { a: 1 } }],
    ["image", "x"],
    ["location", { latitude: "52", longitude: 13 }],
    ["contacts", [{ phones: [{ phone: 1 }] }]],
    ["contacts", {}],
    ["interactive", { type: "button_reply", button_reply: null }],
    ["interactive", { type: "button_reply", list_reply: { title: "x" } }],
    ["interactive", { type: "__proto__" }],
    ["order", { product_items: [null] }],
    ["reaction", { emoji: "x" }],
    ["edit", { original_message_id: "x", message: 1 }],
    ["toString", {}],
    ["constructor", {}],
  ])("%s %j", (type, content) => {
    const { event } = aTransformerInput({ item: { id: "wamid.x", type, [type]: content } });
    expect(readItem(event)).toMatchObject({ type: "unknown", originalType: type });
  });
});

test("null stands for absent, and unknown members are left in place", () => {
  const { event } = aTransformerInput({
    item: { id: null, type: "image", image: { id: "1", caption: null, newer: [1] }, context: 5 },
  });
  expect(readItem(event)).toMatchObject({
    type: "image",
    id: null,
    context: null,
    image: { id: "1", caption: null, newer: [1] },
  });
});

test("nothing that JSON can say makes it throw", () => {
  const type = fc.constantFrom(...Object.values(typeBySample), "hologram", "__proto__");
  const item = type.chain((name) =>
    fc.record({
      type: fc.constant(name),
      id: fc.jsonValue(),
      [name]: fc.jsonValue(),
      context: fc.jsonValue(),
      errors: fc.jsonValue(),
    }),
  );
  fc.assert(
    fc.property(
      fc.oneof(item, fc.jsonValue()),
      fc.constantFrom("message.received", "message.status", "message.sent", "whatsapp.calls"),
      (value, eventType) => {
        const { event } = aTransformerInput({ item: value, event: { type: eventType } });
        expect(typeof readItem(event).type).toBe("string");
      },
    ),
  );
});

test("types narrow by type, and the unknown kinds ask to be looked at", () => {
  const item = itemOf("text");
  expectTypeOf(readItem).parameter(0).toEqualTypeOf<TransformerInput["event"]>();
  if (item.type === "text") expectTypeOf(item.text.body).toEqualTypeOf<string>();
  if (item.type === "image") expectTypeOf(item.image).toEqualTypeOf<MediaFile>();
  if (item.type === "reaction") expectTypeOf(item.reaction.emoji).toEqualTypeOf<string | null | undefined>();
  if (item.type === "location") expectTypeOf(item.location.latitude).toEqualTypeOf<number>();
  if (item.type === "change") expectTypeOf(item.value).toEqualTypeOf<unknown>();
  if (item.type === "unknown") expectTypeOf(item.raw).toEqualTypeOf<unknown>();
  if (item.type === "interactive") {
    expectTypeOf(item.interactive).toEqualTypeOf<InteractiveMessage["interactive"]>();
    if (item.interactive.type === "list_reply") {
      expectTypeOf(item.interactive.list_reply.title).toEqualTypeOf<string>();
    }
    // @ts-expect-error the kind of answer is not known yet
    item.interactive.button_reply;
  }
  // @ts-expect-error which content there is hangs on the type
  item.text;
});

function itemOf(sampleName: string): WhatsAppItem {
  const { event } = sampleOf(sampleName).task;
  return readItem(aTransformerInput({ itemJson: event.itemJson, event: { type: event.type } }).event);
}
