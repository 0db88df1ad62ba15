import fc from "fast-check";
import { describe, expect, test } from "vitest";
import intelli from "../../plugins/intelli/transformer.ts";
import type { TransformerInput } from "../../plugins/transformer.ts";
import { aTextMessage, aTransformerInput, aUser, bodyOf } from "./builders.ts";

describe("the payloads of the contract, byte for byte", () => {
  test("a received message", () => {
    const input = aTransformerInput({
      itemJson:
        '{"from":"0987654321","id":"wamid.xxx","timestamp":"1772712000","text":{"body":"Hello!"},"type":"text"}',
    });
    expect(bodyOf(intelli, input)).toBe(
      '{"event":"message.received","timestamp":"2026-03-05T12:00:00Z","client_ref":"partner-123","phone_number":"+1234567890","from":"+0987654321","message":{"id":"wamid.xxx","type":"text","text":{"body":"Hello!"},"timestamp":"1772712000"},"contact":{"name":"John Doe","wa_id":"0987654321"}}',
    );
  });

  test("a reaction", () => {
    const input = aTransformerInput({
      itemJson:
        '{"from":"0987654321","id":"wamid.yyy","timestamp":"1772712060","type":"reaction","reaction":{"message_id":"wamid.xxx","emoji":"\\ud83d\\udc4d"}}',
      event: { type: "message.reaction", occurredAt: new Date("2026-03-05T12:01:00Z") },
    });
    expect(bodyOf(intelli, input)).toBe(
      '{"event":"message.reaction","timestamp":"2026-03-05T12:01:00Z","client_ref":"partner-123","phone_number":"+1234567890","from":"+0987654321","message":{"id":"wamid.yyy","type":"reaction","reaction":{"message_id":"wamid.xxx","emoji":"👍"},"timestamp":"1772712060"},"contact":{"name":"John Doe","wa_id":"0987654321"}}',
    );
  });

  test("a status", () => {
    const input = aTransformerInput({
      itemJson:
        '{"id":"wamid.zzz","recipient_id":"0987654321","status":"delivered","timestamp":"1772712061"}',
      event: { type: "message.status", occurredAt: new Date("2026-03-05T12:01:01Z") },
    });
    expect(bodyOf(intelli, input)).toBe(
      '{"event":"message.status","timestamp":"2026-03-05T12:01:01Z","client_ref":"partner-123","phone_number":"+1234567890","to":"+0987654321","status":{"id":"wamid.zzz","status":"delivered","timestamp":"1772712061","recipient_id":"0987654321"}}',
    );
  });
});

describe("around the item", () => {
  test("milliseconds of WhatsApp's time are cut, not rounded", () => {
    const input = aTransformerInput({ event: { occurredAt: new Date("2026-03-05T12:00:00.999Z") } });
    expect(parsed(input).timestamp).toBe("2026-03-05T12:00:00Z");
  });

  test("the receive time stands in when WhatsApp gave none", () => {
    const input = aTransformerInput({
      event: { occurredAt: null, receivedAt: new Date("2026-03-05T12:00:02.345Z") },
    });
    expect(parsed(input).timestamp).toBe("2026-03-05T12:00:02Z");
  });

  test("what is not known is null, and the keys stay", () => {
    const event = { clientRef: null, businessPhone: null, user: null };
    expect(bodyOf(intelli, aTransformerInput({ event }))).toBe(
      '{"event":"message.received","timestamp":"2026-03-05T12:00:00Z","client_ref":null,"phone_number":null,"from":null,"message":{"id":"wamid.xxx","type":"text","text":{"body":"Hello!"},"timestamp":"1772712000"},"contact":{"name":null,"wa_id":null}}',
    );
    const status = aTransformerInput({
      itemJson: '{"id":"wamid.zzz","status":"sent"}',
      event: { ...event, type: "message.status" },
    });
    expect(bodyOf(intelli, status)).toBe(
      '{"event":"message.status","timestamp":"2026-03-05T12:00:00Z","client_ref":null,"phone_number":null,"to":null,"status":{"id":"wamid.zzz","status":"sent"}}',
    );
  });

  test("a user known only by a business-scoped id is null in from, and last in contact", () => {
    const user = aUser({ phone: null, waId: null, bsuid: "US.13491208655302741918" });
    const body = bodyOf(intelli, aTransformerInput({ event: { user } }));
    expect(body).toContain('"from":null,"message":');
    expect(body).toMatch(/"contact":{"name":"John Doe","wa_id":null,"bsuid":"US.13491208655302741918"}}$/);
  });

  test("in a status the business-scoped id follows to", () => {
    const input = aTransformerInput({
      itemJson: '{"id":"wamid.zzz","status":"read"}',
      event: { type: "message.status", user: aUser({ bsuid: "US.13491208655302741918" }) },
    });
    expect(bodyOf(intelli, input)).toContain(
      '"to":"+0987654321","bsuid":"US.13491208655302741918","status":{"id":"wamid.zzz","status":"read"}}',
    );
  });
});

describe("message", () => {
  test.each([
    {
      rule: "the rest keeps the order in which it came",
      item: '{"context":{"id":"wamid.a"},"from":"1","from_user_id":"US.1","referral":{"ref":"x"},"timestamp":"1","errors":[{"code":131051}],"id":"wamid.b","group_id":"g","type":"text","text":{"body":"x"}}',
      message:
        '{"id":"wamid.b","type":"text","text":{"body":"x"},"timestamp":"1","context":{"id":"wamid.a"},"from_user_id":"US.1","referral":{"ref":"x"},"errors":[{"code":131051}],"group_id":"g"}',
    },
    {
      rule: "numbers keep their source text",
      item: '{"id":"wamid.b","type":"location","location":{"latitude":37.480,"longitude":-122.1500000000000000001,"a":[1e3,-0,12345678901234567890]},"timestamp":1772712000.0}',
      message:
        '{"id":"wamid.b","type":"location","location":{"latitude":37.480,"longitude":-122.1500000000000000001,"a":[1e3,-0,12345678901234567890]},"timestamp":1772712000.0}',
    },
    {
      rule: "only the message's own from is left out",
      item: '{"from":"1","id":"wamid.b","type":"text","text":{"body":"x","from":"2"},"context":{"from":"3","id":"wamid.a"}}',
      message:
        '{"id":"wamid.b","type":"text","text":{"body":"x","from":"2"},"context":{"from":"3","id":"wamid.a"}}',
    },
    {
      rule: "without a type nothing is invented",
      item: '{"from":"1","text":{"body":"x"},"timestamp":"1","id":"wamid.b"}',
      message: '{"id":"wamid.b","timestamp":"1","text":{"body":"x"}}',
    },
    {
      rule: "a type that is no text stays where it is",
      item: '{"5":"x","type":5,"timestamp":"1","id":"wamid.b"}',
      message: '{"id":"wamid.b","type":5,"timestamp":"1","5":"x"}',
    },
    {
      rule: "without the object named after the type nothing is invented",
      item: '{"from":"1","timestamp":"1","type":"image","id":"wamid.b"}',
      message: '{"id":"wamid.b","type":"image","timestamp":"1"}',
    },
    {
      rule: "without id and timestamp nothing is invented",
      item: '{"context":null,"text":{"body":"x"},"type":"text"}',
      message: '{"type":"text","text":{"body":"x"},"context":null}',
    },
    {
      rule: "a null stays a null",
      item: '{"type":null,"timestamp":null,"id":null,"from":null}',
      message: '{"id":null,"type":null,"timestamp":null}',
    },
    {
      rule: "a type named id is written once",
      item: '{"type":"id","id":"wamid.b"}',
      message: '{"id":"wamid.b","type":"id"}',
    },
    {
      rule: "a type named type is written once",
      item: '{"type":"type","id":"wamid.b"}',
      message: '{"id":"wamid.b","type":"type"}',
    },
    {
      rule: "a type named timestamp is written once",
      item: '{"timestamp":"1","type":"timestamp","id":"wamid.b"}',
      message: '{"id":"wamid.b","type":"timestamp","timestamp":"1"}',
    },
    {
      rule: "a type named from does not bring from back",
      item: '{"from":"1","type":"from","id":"wamid.b"}',
      message: '{"id":"wamid.b","type":"from"}',
    },
    {
      rule: "a key __proto__ is a key like any other",
      item: '{"__proto__":{"type":"x"},"id":"wamid.b","text":{"__proto__":1},"type":"text"}',
      message: '{"id":"wamid.b","type":"text","text":{"__proto__":1},"__proto__":{"type":"x"}}',
    },
    {
      rule: "a type named __proto__ has its object",
      item: '{"timestamp":"1","__proto__":{"a":1},"type":"__proto__","id":"wamid.b"}',
      message: '{"id":"wamid.b","type":"__proto__","__proto__":{"a":1},"timestamp":"1"}',
    },
    {
      rule: "a type named toString finds no inherited method",
      item: '{"timestamp":"1","type":"toString","constructor":1,"id":"wamid.b"}',
      message: '{"id":"wamid.b","type":"toString","timestamp":"1","constructor":1}',
    },
    {
      rule: "escapes become plain UTF-8",
      item: '{"id":"wamid.b","type":"text","text":{"body":"\\u00e4 \\/ \\u003c \\ud83d\\udc4d \\n"}}',
      message: '{"id":"wamid.b","type":"text","text":{"body":"ä / < 👍 \\n"}}',
    },
    { rule: "an item that is no object passes as it is", item: "1.50", message: "1.50" },
    { rule: "a list passes as it is", item: '[1.50,"x"]', message: '[1.50,"x"]' },
  ])("$rule", ({ item, message }) => {
    expect(messageOf(aTransformerInput({ itemJson: item }))).toBe(message);
  });

  test.each([
    ["no emoji", '{"message_id":"wamid.a"}', '{"message_id":"wamid.a","emoji":""}'],
    ["a null emoji", '{"emoji":null,"message_id":"wamid.a"}', '{"message_id":"wamid.a","emoji":""}'],
    ["an empty emoji", '{"message_id":"wamid.a","emoji":""}', '{"message_id":"wamid.a","emoji":""}'],
    [
      "no emoji, but keys to come",
      '{"message_id":"wamid.a","x":1.0}',
      '{"message_id":"wamid.a","emoji":"","x":1.0}',
    ],
    ["no key at all", "{}", '{"emoji":""}'],
    [
      "an emoji, which stays",
      '{"x":1,"emoji":"❤️","message_id":"wamid.a"}',
      '{"message_id":"wamid.a","emoji":"❤️","x":1}',
    ],
    ["null for an object", "null", "null"],
    ["a number for an object", "1.0", "1.0"],
  ])("a reaction with %s", (_what, reaction, expected) => {
    const itemJson = `{"from":"1","id":"wamid.b","timestamp":"1","type":"reaction","reaction":${reaction},"context":{}}`;
    const input = aTransformerInput({ itemJson, event: { type: "message.reaction" } });
    expect(messageOf(input)).toBe(
      `{"id":"wamid.b","type":"reaction","reaction":${expected},"timestamp":"1","context":{}}`,
    );
  });

  test("no key and no value is lost but from, whatever WhatsApp sends", () => {
    const keys = fc.oneof(
      fc.constantFrom("id", "type", "text", "timestamp", "from", "context", "__proto__", "toString", "0", ""),
      fc.string(),
    );
    const types = fc.oneof(fc.constantFrom("text", "id", "from", "__proto__", "context", ""), fc.jsonValue());
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.tuple(keys, fc.jsonValue()), { selector: ([key]) => key }),
        types,
        (members, type) => {
          const item = Object.fromEntries([...members.filter(([key]) => key !== "type"), ["type", type]]);
          const body = JSON.parse(bodyOf(intelli, aTransformerInput({ item })));
          const expected = Object.entries(JSON.parse(JSON.stringify(item))).filter(([key]) => key !== "from");
          expect(sorted(Object.entries(body.message))).toEqual(sorted(expected));
        },
      ),
    );
  });
});

describe("status", () => {
  test.each([
    {
      rule: "the rest keeps the order in which it came, with the caller's own data",
      item: '{"pricing":{"billable":true},"recipient_id":"1","errors":[{"code":131047}],"timestamp":"1","biz_opaque_callback_data":"mine","status":"failed","recipient_user_id":"US.1","id":"wamid.z","conversation":{"id":"c"}}',
      status:
        '{"id":"wamid.z","status":"failed","timestamp":"1","recipient_id":"1","pricing":{"billable":true},"errors":[{"code":131047}],"biz_opaque_callback_data":"mine","recipient_user_id":"US.1","conversation":{"id":"c"}}',
    },
    {
      rule: "a status that nobody knows yet passes through, with a from if it has one",
      item: '{"from":"1","id":"wamid.z","status":"pondered"}',
      status: '{"id":"wamid.z","status":"pondered","from":"1"}',
    },
    {
      rule: "a payment status keeps its type and its numbers",
      item: '{"type":"payment","payment":{"amount":{"value":1000.00,"offset":100}},"id":"wamid.z","status":"captured"}',
      status:
        '{"id":"wamid.z","status":"captured","type":"payment","payment":{"amount":{"value":1000.00,"offset":100}}}',
    },
    { rule: "nothing is invented", item: "{}", status: "{}" },
    { rule: "an item that is no object passes as it is", item: "null", status: "null" },
  ])("$rule", ({ item, status }) => {
    const body = bodyOf(intelli, aTransformerInput({ itemJson: item, event: { type: "message.status" } }));
    expect(body.slice(body.indexOf(',"status":') + ',"status":'.length, -1)).toBe(status);
  });
});

test("takes what users do and what becomes of messages, without the conversation", () => {
  expect(intelli).toMatchObject({
    name: "intelli",
    version: "1.0.0",
    handles: ["message.received", "message.reaction", "message.status"],
    signature: "intelli",
    history: 0,
  });
  const withoutConversation = aTransformerInput({ item: aTextMessage(), conversation: null });
  expect(bodyOf(intelli, withoutConversation)).toBe(
    bodyOf(intelli, aTransformerInput({ item: aTextMessage() })),
  );
});

function parsed(input: TransformerInput): Record<string, unknown> {
  return JSON.parse(bodyOf(intelli, input));
}

/** The text of `message`, which stands between `from` and `contact`. */
function messageOf(input: TransformerInput): string {
  const body = bodyOf(intelli, input);
  return body.slice(body.indexOf(',"message":') + ',"message":'.length, body.lastIndexOf(',"contact":'));
}

function sorted(entries: [string, unknown][]): [string, unknown][] {
  return entries.toSorted(([left], [right]) => (left < right ? -1 : 1));
}
