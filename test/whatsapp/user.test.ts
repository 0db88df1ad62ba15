import { describe, expect, test } from "vitest";
import {
  aChange,
  aContact,
  anEcho,
  anEnvelope,
  aStatus,
  aTextMessage,
  business,
  customer,
  type Json,
} from "../helpers/whatsapp-bodies.ts";
import { splitOne } from "./split.ts";

const nobody = { phone: null, bsuid: null, waId: null, profileName: null };
const ben = { profile: { name: "Ben" }, wa_id: "4917600000001", user_id: "DE.5" };

function userOf(lists: Json, field?: string) {
  return splitOne(anEnvelope([aChange(lists, field)])).user;
}
function senderOf(message: Json, contacts: unknown = [aContact()]) {
  return userOf({ messages: [{ ...aTextMessage(), from: undefined, ...message }], contacts });
}

describe("the sender of a message", () => {
  const { phone, bsuid, name } = customer;
  const known = aContact({ user_id: bsuid });
  test.each([
    ["is known by the phone alone", { from: phone }, [], { ...nobody, phone }],
    [
      "is matched by wa_id, not by position",
      { from: phone },
      [ben, known],
      { phone, bsuid, waId: phone, profileName: name },
    ],
    [
      "is matched by user id when there is no phone",
      { from_user_id: bsuid },
      [ben, { profile: { name }, user_id: bsuid }],
      { ...nobody, bsuid, profileName: name },
    ],
    [
      "gets the phone of the contact matched by user id",
      { from_user_id: bsuid },
      [known],
      { phone, bsuid, waId: phone, profileName: name },
    ],
    ["takes nothing from a sole contact with other ids", { from: phone }, [ben], { ...nobody, phone }],
    [
      "takes nothing from a sole contact with a mistyped user id",
      { from_user_id: bsuid },
      [{ user_id: `u${bsuid}` }],
      { ...nobody, bsuid },
    ],
    [
      "is the sole contact when the message names nobody",
      {},
      [ben],
      { phone: ben.wa_id, bsuid: "DE.5", waId: ben.wa_id, profileName: "Ben" },
    ],
    ["is nobody when the message names nobody and two contacts could be meant", {}, [ben, known], null],
    ["is nobody when nothing is said", {}, [], null],
    [
      "keeps the digits of a formatted number",
      { from: "+1 555 888-0200" },
      [aContact()],
      { ...nobody, phone, waId: phone, profileName: name },
    ],
    ["has no phone when from is no number", { from: "bla" }, [{ wa_id: "bla" }], { ...nobody, waId: "bla" }],
    ["may have its user id in from", { from: "US.1234" }, [], { ...nobody, bsuid: "US.1234" }],
    ["may have any text as user id", { from_user_id: "foo_bar" }, [], { ...nobody, bsuid: "foo_bar" }],
    ["may be a JSON number", { from: 15558880200 }, [], { ...nobody, phone }],
    ["has no phone when from is longer than any number", { from: "1".repeat(16) }, [], null],
    ["has no user id when that is longer than any id", { from_user_id: "x".repeat(257) }, [], null],
    ["survives contacts that are no list", { from: phone }, { a: 1 }, { ...nobody, phone }],
  ])("%s", (_name, message, contacts, expected) => {
    expect(senderOf(message, contacts)).toEqual(expected);
  });

  test.each([
    ["Brazilian", "5511988887777", "551188887777"],
    ["Mexican", "5215512345678", "525512345678"],
    ["Argentinian", "5491123456789", "541123456789"],
  ])("is matched in both forms of a %s number, and keeps the one of the message", (_name, long, short) => {
    expect(senderOf({ from: short }, [{ wa_id: long }])).toEqual({ ...nobody, phone: short, waId: long });
    expect(senderOf({ from: long }, [{ wa_id: short }])).toEqual({ ...nobody, phone: long, waId: short });
  });

  test("of a system notice without one is the user whose id it calls previous", () => {
    const system = { type: "user_changed_user_id", user_id: "US.2", previous_user_id: "US.1" };
    expect(senderOf({ type: "system", system })).toMatchObject({ bsuid: "US.1" });
  });

  test("who is the business itself is no user, and starts no conversation with itself", () => {
    const event = splitOne(
      anEnvelope([aChange({ messages: [aTextMessage({ from: `+${business.phone}` })] })]),
    );
    expect(event).toMatchObject({ type: "message.received", user: null, entry: null });
  });

  test("has neither U+0000 nor lone surrogates, which the database would refuse", () => {
    const contacts = [{ wa_id: customer.phone, profile: { name: "A\u0000\ud800" } }];
    expect(senderOf({ from: customer.phone, from_user_id: "x\u0000" }, contacts)).toMatchObject({
      bsuid: "x\uFFFD",
      profileName: "A\uFFFD\uFFFD",
    });
  });
});

describe("the user of an echo is its recipient", () => {
  const echoUser = (overrides: Json, contacts: unknown[] = []) =>
    userOf({ message_echoes: [anEcho(overrides)], contacts }, "smb_message_echoes");
  test.each([
    ["by phone and user id", { to_user_id: "IN.2" }, { ...nobody, phone: customer.phone, bsuid: "IN.2" }],
    ["by user id alone", { to: undefined, to_user_id: "IN.2" }, { ...nobody, bsuid: "IN.2" }],
    ["but not a group", { to: "120363001", recipient_type: "group" }, null],
  ])("%s", (_name, overrides, expected) => {
    expect(echoUser(overrides)).toEqual(expected);
  });

  test("and never the business, even where the echo says so", () => {
    const swapped = { from: customer.phone, to: business.phone };
    expect(echoUser(swapped, [aContact()])).toMatchObject({ phone: customer.phone });
  });
});

describe("the user of a status is its recipient", () => {
  const statusUser = (overrides: Json) => userOf({ statuses: [aStatus(overrides)] });
  const group = { recipient_type: "group", recipient_id: "1203630" };
  test.each([
    ["by phone", {}, { ...nobody, phone: customer.phone }],
    [
      "by phone and user id",
      { recipient_user_id: "US.1" },
      { ...nobody, phone: customer.phone, bsuid: "US.1" },
    ],
    [
      "in a group the participant",
      { ...group, recipient_participant_id: "49176" },
      { ...nobody, phone: "49176" },
    ],
    [
      "in the other spelling too",
      { ...group, participant_recipient_id: "49176" },
      { ...nobody, phone: "49176" },
    ],
    [
      "by the participant's user id",
      { ...group, recipient_participant_user_id: "US.1" },
      { ...nobody, bsuid: "US.1" },
    ],
    ["but never the group", group, null],
  ])("%s", (_name, overrides, expected) => {
    expect(statusUser(overrides)).toEqual(expected);
  });
});
