import { describe, expect, test } from "vitest";
import { splitBody } from "../../server/whatsapp/envelope.ts";
import {
  aChange,
  aContact,
  aMessage,
  anAccountChange,
  anEcho,
  anEnvelope,
  anInboundBody,
  aReaction,
  aStatus,
  aTextMessage,
  baseTimestamp,
  business,
  customer,
} from "../helpers/whatsapp-bodies.ts";
import { eventOf, receivedAt, split, splitOne } from "./split.ts";

const typesOf = (body: unknown) => split(body).events.map((event) => event.type);

test("a text becomes an event with its number, user, time, raw item and conversation entry", () => {
  const message = aTextMessage({ body: "Grüße 👋" });
  const event = splitOne(anInboundBody(message));
  expect(event).toMatchObject({
    type: "message.received",
    phoneNumberId: business.phoneNumberId,
    businessPhone: business.phone,
    wabaId: business.wabaId,
    occurredAt: new Date("2026-03-05T12:00:00Z"),
    user: { phone: customer.phone, bsuid: null, waId: customer.phone, profileName: customer.name },
    entry: {
      sender: "user",
      wamid: "wamid.received-1",
      content: "Grüße 👋",
      contentType: "text",
      mediaId: null,
    },
    revision: null,
  });
  expect(event.item).toBe(JSON.stringify(message));
});

describe("each item becomes one event of its kind", () => {
  const error = { code: 130429, title: "Rate limit hit" };
  test.each([
    ["a message", aChange({ messages: [aTextMessage()] }), ["message.received"]],
    [
      "a message of a type yet unknown",
      aChange({ messages: [aMessage("hologram", {})] }),
      ["message.received"],
    ],
    ["a message without a type", aChange({ messages: [{ id: "wamid.1" }] }), ["message.received"]],
    ["a reaction", aChange({ messages: [aReaction()] }), ["message.reaction"]],
    [
      "a removed reaction",
      aChange({ messages: [aReaction({ reaction: { message_id: "x" } })] }),
      ["message.reaction"],
    ],
    ["a status", aChange({ statuses: [aStatus()] }), ["message.status"]],
    [
      "an echo of the Business app",
      aChange({ message_echoes: [anEcho()] }, "smb_message_echoes"),
      ["message.sent"],
    ],
    ["an echo of another app", aChange({ message_echoes: [anEcho()] }, "message_echoes"), ["message.sent"]],
    ["an echo under messages", aChange({ messages: [anEcho()] }, "smb_message_echoes"), ["message.sent"]],
    [
      "echoes under both keys",
      aChange(
        { messages: [anEcho()], message_echoes: [anEcho({ id: "wamid.sent-2" })] },
        "smb_message_echoes",
      ),
      ["message.sent", "message.sent"],
    ],
    ["two errors", aChange({ errors: [error, error] }), ["whatsapp.error", "whatsapp.error"]],
    [
      "a user action",
      aChange({ user_actions: [{ action_type: "landing_page_view" }] }),
      ["whatsapp.user_action"],
    ],
    ["a call with errors", aChange({ calls: [{}], errors: [error] }, "calls"), ["whatsapp.calls"]],
    ["an import", aChange({ messages: [aTextMessage()] }, "history"), ["whatsapp.history"]],
    [
      "what another app owns",
      aChange({ standby: { messages: [aTextMessage()] } }, "standby"),
      ["whatsapp.standby"],
    ],
    ["an account update", anAccountChange("account_update", { event: "X" }), ["whatsapp.account_update"]],
    ["an empty value of an unknown field", anAccountChange("brand_new", {}), ["whatsapp.brand_new"]],
    ["a new kind of item under messages", aChange({ waves: [{}] }), ["whatsapp.messages"]],
    ["a field that is no name", anAccountChange("a b\u0000", { x: 1 }), ["whatsapp.unknown"]],
    ["a field that is too long", anAccountChange("f".repeat(101), { x: 1 }), ["whatsapp.unknown"]],
  ])("%s", (_name, change, expected) => {
    const result = split(anEnvelope([change]));
    expect(result.events.map((event) => event.type)).toEqual(expected);
    expect(result).toMatchObject({ isSensible: true, faults: [] });
  });

  test("over every entry, change and list", () => {
    const change = aChange({ messages: [aTextMessage()], statuses: [aStatus()], errors: [{ code: 1 }] });
    const entry = { id: "1", changes: [change, anAccountChange("security", { event: "PIN_CHANGED" })] };
    expect(typesOf({ object: "whatsapp_business_account", entry: [entry, entry] }).sort()).toEqual([
      "message.received",
      "message.received",
      "message.status",
      "message.status",
      "whatsapp.error",
      "whatsapp.error",
      "whatsapp.security",
      "whatsapp.security",
    ]);
  });
});

describe("shortened bodies are read as far as they go", () => {
  const { value } = aChange({ messages: [aTextMessage()] });
  test.each([
    ["no object", { entry: [{ id: "1", changes: [{ field: "messages", value }] }] }],
    ["no entry id and no field", { entry: [{ changes: [{ value }] }] }],
    ["no metadata", { entry: [{ changes: [{ value: { messages: [aTextMessage()] } }] }] }],
    ["field and object beside changes", { entry: [{ changes: [{ value }], field: "messages" }] }],
    ["a bare entry", { id: "1", changes: [{ field: "messages", value }] }],
    ["a bare change", { field: "messages", value }],
    ["a bare value", value],
  ])("%s", (_name, body) => {
    expect(typesOf(body)).toEqual(["message.received"]);
  });
});

describe("what makes no sense is left to be kept raw", () => {
  test.each([
    ["nothing", ""],
    ["no JSON", "{invalid-json"],
    ["a page", "<html></html>"],
    ["null", "null"],
    ["a text", '"nonsense"'],
    ["a list", "[]"],
    ["another object", '{"hello":"world"}'],
    [
      "another product",
      '{"object":"page","entry":[{"changes":[{"field":"messages","value":{"messages":[{}]}}]}]}',
    ],
    ["entries that are no list", '{"entry":"not a list"}'],
    ["an entry that is an object", '{"object":"whatsapp_business_account","entry":{}}'],
    ["no entries", '{"object":"whatsapp_business_account","entry":[]}'],
    ["an entry without changes", '{"entry":[{"id":"1"}]}'],
    ["a messages change that holds nothing", '{"entry":[{"changes":[{"field":"messages","value":{}}]}]}'],
    ["lists without items", '{"entry":[{"changes":[{"field":"messages","value":{"messages":[]}}]}]}'],
  ])("%s", (_name, text) => {
    expect(splitBody(Buffer.from(text), receivedAt)).toMatchObject({ events: [], isSensible: false });
  });
});

test("a part that cannot be read is named and costs none of its siblings", () => {
  const body = anEnvelope([
    null,
    { field: "security", value: null },
    aChange({ messages: [null, aTextMessage(), 7], statuses: {}, errors: [null], contacts: [null, 3] }),
  ]);
  const result = split(body);
  expect(result.events.map((event) => event.type)).toEqual(["message.received"]);
  expect(result.faults).toEqual([
    "entry[0].changes[0]: has no value",
    "entry[0].changes[1]: has no value",
    "entry[0].changes[2].value.messages[0]: is not an object",
    "entry[0].changes[2].value.messages[2]: is not an object",
    "entry[0].changes[2].value.statuses: is not a list",
    "entry[0].changes[2].value.errors[0]: is not an object",
  ]);
});

describe("whose number it is", () => {
  const placeOf = (change: unknown, entry = {}) => {
    const { phoneNumberId, businessPhone, wabaId } = splitOne(anEnvelope([change], entry));
    return { phoneNumberId, businessPhone, wabaId };
  };
  test.each([
    ["+1 (555) 777-0100", "15557770100"],
    ["1-555-777-0100", "15557770100"],
    [15557770100, "15557770100"],
    ["PHONE_NUMBER", null],
  ])("a display number %j is read as %j", (display, expected) => {
    const value = { metadata: { display_phone_number: display, phone_number_id: 12 }, errors: [{}] };
    const place = placeOf({ field: "messages", value });
    expect(place).toEqual({ phoneNumberId: "12", businessPhone: expected, wabaId: business.wabaId });
  });

  test("a handover names the number under recipient, settings name it under theirs", () => {
    const recipient = { phone_number_id: "11", display_phone_number: "15550000011" };
    expect(placeOf({ field: "messaging_handovers", value: { recipient } })).toMatchObject({
      phoneNumberId: "11",
      businessPhone: "15550000011",
    });
    const settings = { phone_number_settings: { phone_number_id: "12" } };
    expect(placeOf({ field: "account_settings_update", value: settings }).phoneNumberId).toBe("12");
  });

  test("the account of an account update stands inside, where the entry may be a portfolio", () => {
    const value = { event: "PARTNER_ADDED", waba_info: { waba_id: "42" } };
    expect(placeOf({ field: "account_update", value }, { id: "999" }).wabaId).toBe("42");
  });

  test("the dashboard's account 0 is nobody's", () => {
    expect(placeOf(aChange({ messages: [aTextMessage()] }), { id: "0" }).wabaId).toBeNull();
  });
});

describe("when it happened", () => {
  test.each([
    ["a text of seconds", "1772712000", "2026-03-05T12:00:00.000Z"],
    ["a number of seconds", 1772712000, "2026-03-05T12:00:00.000Z"],
    ["milliseconds", 1772712000123, "2026-03-05T12:00:00.123Z"],
    ["a time before 2000", "946684799", null],
    ["a time after 2099", "4102444800", null],
    ["no number", "asdf", null],
    ["a negative number", -5, null],
    ["an object", {}, null],
    ["30 digits", "9".repeat(30), null],
  ])("%s", (_name, timestamp, expected) => {
    const { occurredAt, dedup } = eventOf(aTextMessage({ timestamp }));
    expect(occurredAt?.toISOString() ?? null).toBe(expected);
    expect(dedup.placedAt).toEqual(occurredAt);
  });

  test("the entry's time stands in for a missing one", () => {
    const event = splitOne(
      anEnvelope([anAccountChange("security", { event: "X" })], { time: baseTimestamp }),
    );
    expect(event.occurredAt).toEqual(new Date(baseTimestamp * 1000));
    expect(event.dedup.placedAt).toEqual(event.occurredAt);
  });

  test("a call happened when its own part says so", () => {
    const event = splitOne(anEnvelope([aChange({ calls: [{ timestamp: "1772712000" }] }, "calls")]));
    expect(event.occurredAt).toEqual(new Date(baseTimestamp * 1000));
  });

  test("an import did not happen when its messages did, but they place its key", () => {
    const history = [{ threads: [{ messages: [{ timestamp: "1772712000" }] }] }];
    const event = splitOne(anEnvelope([aChange({ history }, "history")]));
    expect(event.occurredAt).toBeNull();
    expect(event.dedup.placedAt).toEqual(new Date(baseTimestamp * 1000));
  });
});

test("events come by time, then by their place in the body, those without a time as if just received", () => {
  const at = (id: string, offset: number | null) =>
    aTextMessage({ id, timestamp: offset === null ? null : String(baseTimestamp + offset) });
  const first = aChange({ messages: [at("none", null), at("c", 3), at("a", 1)] });
  const second = aChange({ messages: [at("b2", 2), at("late", 60), at("a2", 1)], contacts: [aContact()] });
  const ids = split(anEnvelope([first, second])).events.map((event) => JSON.parse(event.item).id);
  expect(ids).toEqual(["a", "a2", "b2", "c", "none", "late"]);
});
