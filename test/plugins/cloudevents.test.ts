import { CloudEvent, HTTP } from "cloudevents";
import { describe, expect, test } from "vitest";
import cloudevents from "../../plugins/cloudevents/transformer.ts";
import { samples, transformSample } from "../../plugins/testing.ts";
import type { TransformerResponse } from "../../plugins/transformer.ts";
import { aTransformerInput, bodyOf } from "./builders.ts";

const contentType = "application/cloudevents+json; charset=utf-8";

test("the payload, byte for byte", () => {
  expect(bodyOf(cloudevents, aTransformerInput())).toBe(
    '{"specversion":"1.0","id":"0199c0de-0000-7000-8000-00000000000e","source":"/whatsapp/102290000000001/106540000000001","type":"message.received","time":"2026-03-05T12:00:00.000Z","subject":"wamid.xxx","clientref":"partner-123","datacontenttype":"application/json","data":{"from":"0987654321","id":"wamid.xxx","timestamp":"1772712000","type":"text","text":{"body":"Hello!"}}}',
  );
});

test("the content type is that of structured JSON", () => {
  expect((cloudevents.transform(aTransformerInput()) as TransformerResponse).contentType).toBe(contentType);
});

describe.each(samples())("the official SDK takes the sample $name", (sample) => {
  test("as a valid event with the item for its data", async () => {
    const result = await transformSample(cloudevents, sample);
    if (result.kind !== "made") throw new Error(`${sample.name}: ${JSON.stringify(result)}`);
    const received = HTTP.toEvent({ headers: { "content-type": result.contentType }, body: result.text });
    if (Array.isArray(received)) throw new Error("one event is expected");
    const event = received as CloudEvent<unknown>;
    expect(event.validate()).toBe(true);
    expect(event).toMatchObject({ specversion: "1.0", type: sample.type, id: sample.task.event.id });
    expect(event.data).toEqual(JSON.parse(sample.task.event.itemJson));
    // In strict mode the SDK checks every attribute against the specification once more.
    expect(() => new CloudEvent(JSON.parse(result.text))).not.toThrow();
  });
});

describe("attributes", () => {
  test("source holds as much as is known", () => {
    const source = (event: object) => parsed({ event }).source;
    expect(source({ wabaId: null })).toBe("/whatsapp/106540000000001");
    expect(source({ wabaId: null, phoneNumberId: null })).toBe("/whatsapp");
    expect(source({ wabaId: "a/b ü" })).toBe("/whatsapp/a%2Fb%20%C3%BC/106540000000001");
  });

  test("source and the prefix of the type are what the webhook says", () => {
    const options = { source: "https://gateway.example.com/", type_prefix: "com.example.whatsapp." };
    expect(parsed({ options })).toMatchObject({
      source: "https://gateway.example.com/",
      type: "com.example.whatsapp.message.received",
    });
  });

  test("time is the receive time when WhatsApp gave none", () => {
    expect(parsed({ event: { occurredAt: null } }).time).toBe("2026-03-05T12:00:02.345Z");
  });

  test("an event about no message has no subject, one of no client no clientref", () => {
    const account = parsed({
      item: { id: "x" },
      event: { type: "whatsapp.account_update", clientRef: null },
    });
    expect(account).not.toHaveProperty("subject");
    expect(account).not.toHaveProperty("clientref");
  });

  test.each([
    ["empty", ""],
    ["of control characters", "a\u0000b"],
    ["half a character", "a\ud83d"],
    ["a noncharacter", "a\uffff"],
    ["too long", "a".repeat(257)],
    ["a number", 7],
  ])("an id that is %s is left out, as the specification has no such texts", (_what, id) => {
    expect(parsed({ item: { id, type: "text" } })).not.toHaveProperty("subject");
  });

  test("a time that RFC 3339 cannot say is left out", () => {
    expect(parsed({ event: { occurredAt: new Date(8.64e15) } })).not.toHaveProperty("time");
  });
});

test("numbers of the item stay as WhatsApp wrote them", () => {
  const itemJson = '{"id":"wamid.x","a":12345678901234567890,"b":1.50}';
  expect(bodyOf(cloudevents, aTransformerInput({ itemJson }))).toContain(`"data":${itemJson}}`);
});

function parsed(overrides: Parameters<typeof aTransformerInput>[0]): Record<string, unknown> {
  return JSON.parse(bodyOf(cloudevents, aTransformerInput(overrides)));
}
