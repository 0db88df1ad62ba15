import { describe, expect, test } from "vitest";
import { hashMessage } from "../../server/whatsapp/dedup.ts";
import {
  aChange,
  anAccountChange,
  anEcho,
  anEnvelope,
  aStatus,
  aTextMessage,
  baseTimestamp,
  business,
  type Json,
} from "../helpers/whatsapp-bodies.ts";
import { split, splitOne } from "./split.ts";

const keyOf = (change: unknown, entry: Json = {}) => splitOne(anEnvelope([change], entry)).dedup.hash;
const messageKey = (overrides: Json = {}) => keyOf(aChange({ messages: [aTextMessage(overrides)] }));
const statusKey = (overrides: Json = {}) => keyOf(aChange({ statuses: [aStatus(overrides)] }));
const echoKey = (overrides: Json = {}) =>
  keyOf(aChange({ message_echoes: [anEcho(overrides)] }, "smb_message_echoes"));

test("a key is 32 hex digits", () => {
  expect(messageKey()).toMatch(/^[0-9a-f]{32}$/);
});

describe("a message repeats one of the same number, id and type", () => {
  test("whatever else is different", () => {
    expect(messageKey({ body: "other", timestamp: "1" })).toBe(messageKey());
    expect(keyOf(aChange({ messages: [aTextMessage()] }), { id: "other", time: 5 })).toBe(messageKey());
    expect(messageKey({ id: 12345 })).toBe(messageKey({ id: "12345" }));
  });

  test("and no other", () => {
    expect(messageKey({ id: "wamid.received-2" })).not.toBe(messageKey());
    expect(messageKey({ type: "unsupported" })).not.toBe(messageKey());
    const value = { metadata: { phone_number_id: "other" }, messages: [aTextMessage()] };
    expect(keyOf({ field: "messages", value })).not.toBe(messageKey());
  });

  test("one without a type repeats one of type unsupported", () => {
    expect(messageKey({ type: undefined })).toBe(messageKey({ type: "unsupported" }));
  });

  test("and an echo is not a message of the same id", () => {
    expect(echoKey({ id: "wamid.received-1" })).not.toBe(messageKey());
  });

  test("and an echo repeats the send that it is the echo of", () => {
    expect(echoKey()).toBe(hashMessage("sent", business.phoneNumberId, "wamid.sent-1", "text"));
    expect(keyOf(aChange({ messages: [anEcho()] }, "message_echoes"))).toBe(echoKey());
  });

  test("and an echo of another type repeats it, but for a placeholder", () => {
    expect(echoKey({ type: "interactive" })).toBe(echoKey());
    expect(echoKey({ type: "unsupported" })).not.toBe(echoKey());
  });

  test.for([
    ["2026-03-05T00:00:00Z", ["2026-03-05", "2026-03-04"]],
    ["2026-03-05T00:09:59Z", ["2026-03-05", "2026-03-04"]],
    ["2026-03-05T00:10:00Z", ["2026-03-05", undefined]],
    ["2026-03-05T12:00:00Z", ["2026-03-05", undefined]],
    ["2026-03-05T23:49:59Z", ["2026-03-05", undefined]],
    ["2026-03-05T23:50:00Z", ["2026-03-05", "2026-03-06"]],
    ["2026-03-05T23:59:59Z", ["2026-03-05", "2026-03-06"]],
  ] as [string, (string | undefined)[]][])("and the key of an echo of %s lies at %j", ([time, days]) => {
    const timestamp = String(Date.parse(time) / 1000);
    const change = aChange({ message_echoes: [anEcho({ timestamp })] }, "smb_message_echoes");
    const { placedAt, alsoPlacedAt } = splitOne(anEnvelope([change])).dedup;
    expect([placedAt, alsoPlacedAt].map((at) => at?.toISOString().slice(0, 10))).toEqual(days);
  });
});

describe("a status repeats one of the same id, status, recipient and time", () => {
  const group = { recipient_type: "group", recipient_id: "12036" };
  test("whatever else is different", () => {
    expect(statusKey({ pricing: { billable: true } })).toBe(statusKey());
    expect(statusKey({ timestamp: baseTimestamp })).toBe(statusKey());
    expect(statusKey({ recipient_user_id: "US.1", recipient_id: "2" })).toBe(
      statusKey({ recipient_user_id: "US.1" }),
    );
  });

  test.each([
    ["id", { id: "wamid.sent-2" }],
    ["status", { status: "read" }],
    ["recipient", { recipient_id: "49176" }],
    ["time", { timestamp: String(baseTimestamp + 1) }],
  ])("and not one of another %s", (_name, overrides) => {
    expect(statusKey(overrides)).not.toBe(statusKey());
  });

  test("and in a group each participant has their own", () => {
    const first = statusKey({ ...group, recipient_participant_id: "1" });
    expect(statusKey({ ...group, recipient_participant_id: "2" })).not.toBe(first);
    expect(statusKey({ ...group, recipient_id: "9", recipient_participant_id: "1" })).toBe(first);
  });
});

describe("an item that lacks a part of its key goes by its content", () => {
  test.each([
    ["a message without id", (body: Json) => messageKey({ id: undefined, ...body })],
    ["a message with an endless id", (body: Json) => messageKey({ id: "x".repeat(257), ...body })],
    ["a message without number", (body: Json) => keyOf({ value: { messages: [aTextMessage(body)] } })],
    ["a status without time", (body: Json) => statusKey({ timestamp: undefined, ...body })],
    ["a status without recipient", (body: Json) => statusKey({ recipient_id: undefined, ...body })],
  ])("%s", (_name, key) => {
    expect(key({ extra: "a" })).toBe(key({ extra: "a" }));
    expect(key({ extra: "a" })).not.toBe(key({ extra: "b" }));
  });
});

describe("any other change repeats one of the same entry, entry time, field and value", () => {
  const change = anAccountChange("security", { event: "PIN_CHANGED" });
  const first = keyOf(change, { id: "1", time: 1772712000 });
  test.each([
    ["entry", change, { id: "2", time: 1772712000 }],
    ["entry time", change, { id: "1", time: 1772712001 }],
    ["field", anAccountChange("safety", { event: "PIN_CHANGED" }), { id: "1", time: 1772712000 }],
    ["value", anAccountChange("security", { event: "PIN_RESET" }), { id: "1", time: 1772712000 }],
  ])("and not one of another %s", (_name, other, entry) => {
    expect(keyOf(change, { id: "1", time: 1772712000 })).toBe(first);
    expect(keyOf(other, entry)).not.toBe(first);
  });

  test("and one without any time has no place, so that its key soon ends", () => {
    expect(splitOne(anEnvelope([change])).dedup.placedAt).toBeNull();
  });
});

test("a message that stands twice in one body has the same key twice", () => {
  const keys = split(anEnvelope([aChange({ messages: [aTextMessage(), aTextMessage()] })])).events.map(
    (event) => event.dedup.hash,
  );
  expect(keys).toEqual([messageKey(), messageKey()]);
});
