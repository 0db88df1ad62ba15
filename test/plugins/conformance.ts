/**
 * What every transformer that comes with the gateway keeps to, whatever its format is. Each transformer is run on
 * everything that WhatsApp, or somebody with its signature, could make an item of.
 */

import { describe, expect, test } from "vitest";
import { eventOnlyTransformers } from "../../plugins/builtin.ts";
import { checkTransformer } from "../../plugins/testing.ts";
import {
  payloadBytesMax,
  respond,
  type Transformer,
  type TransformerInput,
  TransformerResponse,
} from "../../plugins/transformer.ts";
import { aConversation, aMessage, aTextMessage, aTransformerInput, aUser } from "./builders.ts";

/**
 * Registers the suite for one transformer.
 *
 * @param contentType  of whatever it makes
 */
export function describeConformance(transformer: Transformer, contentType = "application/json"): void {
  describe(`transformer ${transformer.name} keeps to the contract`, () => {
    test("its name, version and event types are well-formed", () => {
      expect(transformer.name).toMatch(/^[a-z][a-z0-9-]{0,63}$/);
      expect(transformer.version).toMatch(/^\d+\.\d+\.\d+$/);
      expect(transformer.description).not.toBe("");
      expect(transformer.handles.length).toBeGreaterThan(0);
      for (const pattern of transformer.handles) {
        expect(pattern).toMatch(/^(message|whatsapp|posthorn)\.([a-z_]+|\*)$/);
      }
      expect(new Set(transformer.handles).size).toBe(transformer.handles.length);
    });

    test("it is pure, so that it may run where requests are signed", () => {
      expect(transformer.pure).toBe(true);
    });

    test("its options schema refuses options that it does not know", () => {
      const schema = transformer.optionsSchema;
      if (schema !== undefined) expect(schema).toMatchObject({ type: "object", additionalProperties: false });
    });

    test("it is sound by the test kit's own measure", async () => {
      expect(await checkTransformer(transformer)).toEqual([]);
    });

    test.runIf(eventOnlyTransformers.has(transformer))(
      "it looks at the event alone, and gives the same without the conversation",
      () => {
        for (const { input } of hostileInputs(transformer)) {
          expect(transformer.transform({ ...input(), conversation: null })).toEqual(
            transformer.transform(input()),
          );
        }
      },
    );

    describe.each(hostileInputs(transformer))("given $what", ({ input }) => {
      test("it gives valid JSON or nothing, and no exception", () => {
        const result = transformer.transform(input());
        if (result === undefined) return;
        // Any other value is the JSON body itself.
        const response =
          result instanceof TransformerResponse ? result : respond({ body: JSON.stringify(result) });
        const { body, headers } = response;
        expect(response.contentType).toBe(contentType);
        expect(headers).toEqual({});
        const text = typeof body === "string" ? body : new TextDecoder("utf-8", { fatal: true }).decode(body);
        expect(() => JSON.parse(text)).not.toThrow();
        expect(text.isWellFormed(), "the text can be sent as UTF-8").toBe(true);
        expect(Buffer.byteLength(text)).toBeLessThanOrEqual(payloadBytesMax);
      });

      test("the same input gives the same bytes and is left as it was", () => {
        const frozen = deepFreeze(input());
        const before = structuredClone(frozen);
        const first = transformer.transform(frozen);
        expect(transformer.transform(frozen)).toEqual(first);
        expect(transformer.transform(input())).toEqual(first);
        expect(frozen).toEqual(before);
      });
    });
  });
}

interface HostileInput {
  what: string;
  /** Makes the input anew each time. */
  input: () => TransformerInput;
}

function hostileInputs(transformer: Transformer): HostileInput[] {
  const types = transformer.handles.map((pattern) => pattern.replace("*", "some_future_type"));
  const ofItems = types.flatMap((type) =>
    hostileItems.map(([what, itemJson]) => ({
      what: `${what} (${type})`,
      input: () => aTransformerInput({ itemJson, event: { type } }),
    })),
  );
  const ofContexts = types.flatMap((type) =>
    hostileContexts.map(([what, overrides]) => ({
      what: `${what} (${type})`,
      input: () => aTransformerInput({ ...overrides, event: { type, ...overrides.event } }),
    })),
  );
  return [...ofItems, ...ofContexts];
}

const hostileItems: readonly (readonly [string, string])[] = [
  ["null for an item", "null"],
  ["a number for an item", "1.50"],
  ["a text for an item", '"hi"'],
  ["a list for an item", '[{"id":"wamid.x"}]'],
  ["an empty item", "{}"],
  ["an item of nulls", '{"id":null,"type":null,"timestamp":null,"status":null,"from":null}'],
  ["an item of lists", '{"id":[],"type":[],"timestamp":[],"text":[],"reaction":[],"status":[]}'],
  ["an unknown type", '{"id":"wamid.x","type":"hologram","hologram":{"depth":3},"timestamp":"1"}'],
  ["a type without its object", '{"id":"wamid.x","type":"image","timestamp":"1"}'],
  ["a type named like an object's method", '{"id":"wamid.x","type":"toString","timestamp":"1"}'],
  ["a type named __proto__", '{"id":"wamid.x","type":"__proto__","__proto__":{"a":1}}'],
  ["a type named like a key", '{"id":"wamid.x","type":"from","from":"1","timestamp":"1"}'],
  ["a reaction that is null", '{"type":"reaction","reaction":null}'],
  ["a reaction that is a number", '{"type":"reaction","reaction":1.0}'],
  ["an empty reaction", '{"type":"reaction","reaction":{}}'],
  ["a toJSON key", '{"id":"wamid.x","type":"text","toJSON":"x","text":{"toJSON":{"a":1}}}'],
  ["numeric keys", '{"9":1,"id":"wamid.x","0":[{"7":2,"6":1}]}'],
  ["numbers beyond JavaScript's", '{"id":12345678901234567890,"a":1.50,"b":1e400,"c":-0,"d":0.00000001}'],
  ["control characters and half a character", '{"id":"\\u0000\\u0007\\u2028","text":"\\ud83d"}'],
  ["an item 500 levels deep", `{"id":"wamid.x","deep":${"[".repeat(500)}${"]".repeat(500)}}`],
  [
    "a text of 30,000 characters of three bytes",
    JSON.stringify({ ...aTextMessage(), text: { body: "क".repeat(30_000) } }),
  ],
];

const hostileContexts: readonly (readonly [string, NonNullable<Parameters<typeof aTransformerInput>[0]>])[] =
  [
    [
      "an event that names nobody",
      {
        conversation: null,
        event: {
          user: null,
          clientRef: null,
          businessPhone: null,
          phoneNumberId: null,
          wabaId: null,
          occurredAt: null,
        },
      },
    ],
    [
      "a user of whom nothing is known",
      { event: { user: aUser({ phone: null, waId: null, profileName: null }) } },
    ],
    [
      "names that need escaping",
      {
        event: { clientRef: 'a"\\\n', user: aUser({ profileName: '"},\u0000\ud83d', bsuid: 'US."x"' }) },
        conversation: aConversation({ name: '"\\\u2028', note: "\ud83d", labels: ['"', "\\"] }),
      },
    ],
    [
      "a conversation without messages",
      {
        conversation: aConversation({ messages: [], phone: null, name: "" }),
      },
    ],
    [
      "a time before 1970",
      {
        event: { occurredAt: new Date(-1) },
        conversation: aConversation({ messages: [aMessage({ sentAt: new Date(-1) })] }),
      },
    ],
    [
      "the last instant that JavaScript knows",
      {
        event: { occurredAt: new Date(8.64e15) },
        conversation: aConversation({ messages: [aMessage({ sentAt: new Date(8.64e15) })] }),
      },
    ],
    [
      "a conversation of long texts",
      {
        options: {},
        conversation: aConversation({
          messages: Array.from({ length: 50 }, () => aMessage({ content: "क".repeat(4096) })),
        }),
      },
    ],
  ];

function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null) {
    for (const member of Object.values(value)) deepFreeze(member);
    Object.freeze(value);
  }
  return value;
}
