import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { splitBody } from "../../server/whatsapp/envelope.ts";
import {
  aChange,
  aContact,
  anEcho,
  anEnvelope,
  aStatus,
  aTextMessage,
  toBytes,
} from "../helpers/whatsapp-bodies.ts";
import { receivedAt } from "./split.ts";

const good = JSON.stringify(aTextMessage({ id: "wamid.good" }));

/** The items that come out of a messages change whose list is written as given. */
function itemsOf(...messages: string[]): string[] {
  const text = `{"entry":[{"changes":[{"field":"messages","value":{"messages":[${messages.join(",")}]}}]}]}`;
  return splitBody(Buffer.from(text), receivedAt).events.map((event) => event.item);
}

describe("an item keeps the source text of its numbers", () => {
  test.each([
    ["37.10"],
    ["-0"],
    ["0.0"],
    ["1e999"],
    ["1E+2"],
    ["12345678901234567890"],
    ["-9007199254740993"],
    ["1234567890.1234567890123456789012345678901234567890"],
    ["5"],
    ["1745337174"],
    ["9007199254740991"],
  ])("%s", (number) => {
    expect(itemsOf(`{"a":${number},"b":[${number}, ${number}]}`)).toEqual([
      `{"a":${number},"b":[${number},${number}]}`,
    ]);
  });

  test("and writes no number that stands in a text", () => {
    expect(itemsOf('{"a":"x: 1.50, 2.50","b":[1.50]}')).toEqual(['{"a":"x: 1.50, 2.50","b":[1.50]}']);
  });
});

test("an item is compact, with real letters for escapes and escapes for lone surrogates and U+0000", () => {
  expect(itemsOf('{ "a" : "\\u00e4\\/\\ud83d\\udc4d" , "b":"\\ud800\\u0000" }')).toEqual([
    '{"a":"ä/👍","b":"\\ud800\\u0000"}',
  ]);
});

test.each([
  ["a __proto__ key", '{"__proto__":{"id":"x","type":"text"},"n":1.50}'],
  ["a constructor key", '{"constructor":{"prototype":null},"toString":1}'],
])("%s is data like any other", (_name, item) => {
  expect(itemsOf(good, item)).toEqual([good, item]);
  expect(({} as Record<string, unknown>).id).toBeUndefined();
});

describe("what is nested too deep", () => {
  const deep = "[".repeat(100_000) + "]".repeat(100_000);
  test("is no body by itself", () => {
    expect(splitBody(Buffer.from(deep), receivedAt)).toMatchObject({ events: [], isSensible: false });
  });

  test.each([
    ["alone", ""],
    ["beside numbers that need care", ',"n":1.50'],
  ])("costs no sibling, %s", (_name, extra) => {
    expect(itemsOf(`{"a":${deep}${extra}}`, good)).toContain(good);
  });
});

test("bytes that are no UTF-8 are read with replacement letters, and said to be", () => {
  const bytes = Buffer.from(
    JSON.stringify(anEnvelope([aChange({ messages: [aTextMessage({ body: "?" })] })])),
  );
  bytes[bytes.indexOf('"?"') + 1] = 0xff;
  const result = splitBody(bytes, receivedAt);
  expect(result.events[0]?.entry?.content).toBe("\uFFFD");
  expect(result.faults).toEqual(["body: is not UTF-8"]);
});

test("a byte order mark is no part of the body", () => {
  const bytes = Buffer.concat([
    Buffer.from([0xef, 0xbb, 0xbf]),
    toBytes(anEnvelope([aChange({ errors: [{}] })])),
  ]);
  expect(splitBody(bytes, receivedAt)).toMatchObject({ isSensible: true, faults: [] });
});

test("a body of more items than WhatsApp would send is not split at all", () => {
  const list = (count: number) => Buffer.from(`{"messages":[${"{},".repeat(count - 1)}{}]}`);
  expect(splitBody(list(20_000), receivedAt).events).toHaveLength(20_000);
  expect(splitBody(list(20_001), receivedAt)).toMatchObject({ events: [], isSensible: false });
});

test("faults are named up to a bound", () => {
  const body = anEnvelope([aChange({ messages: [...Array(200).fill(null), aTextMessage()] })]);
  const result = splitBody(toBytes(body), receivedAt);
  expect(result.events).toHaveLength(1);
  expect(result.faults).toHaveLength(50);
});

test("thousands of contacts beside thousands of messages are matched in one pass", () => {
  const numbers = Array.from({ length: 4_000 }, (_, index) => String(49_176_000_000 + index));
  const contacts = numbers.map((number) => aContact({ wa_id: number, profile: { name: number } })).reverse();
  const messages = numbers.map((number) => aTextMessage({ from: number, id: number }));
  const { events } = splitBody(toBytes(anEnvelope([aChange({ contacts, messages })])), receivedAt);
  expect(events.every((event) => event.user?.profileName === event.user?.phone)).toBe(true);
});

describe("nothing makes it throw", () => {
  const template = anEnvelope(
    [
      aChange({
        contacts: [aContact()],
        messages: [aTextMessage()],
        statuses: [aStatus()],
        errors: [{ code: 1 }],
      }),
      aChange({ message_echoes: [anEcho()] }, "smb_message_echoes"),
      { field: "account_update", value: { event: "X", waba_info: { waba_id: "1" } } },
    ],
    { time: 1772712000 },
  );

  test("no bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        splitBody(bytes, receivedAt);
      }),
    );
  });

  test("no JSON, wherever in an envelope it stands", () => {
    const places = pathsOf(template);
    fc.assert(
      fc.property(fc.constantFrom(...places), fc.jsonValue({ stringUnit: "binary" }), (path, value) => {
        const body = replaceAt(template, path, value);
        const { events } = splitBody(Buffer.from(JSON.stringify(body)), receivedAt);
        for (const event of events) JSON.parse(event.item);
      }),
      { numRuns: 500 },
    );
  });

  test("and a well-formed envelope gives one event for each item that is not null", () => {
    const item = fc.option(
      fc.dictionary(fc.constantFrom("id", "type", "from", "text", "timestamp"), fc.jsonValue()),
    );
    const list = fc.array(item, { maxLength: 5 });
    fc.assert(
      fc.property(list, list, list, (messages, statuses, errors) => {
        const body = anEnvelope([
          aChange({ messages, statuses, errors }),
          aChange({ message_echoes: messages }, "message_echoes"),
        ]);
        const expected = [...messages, ...statuses, ...errors, ...messages].filter(
          (each) => each !== null,
        ).length;
        expect(splitBody(toBytes(body), receivedAt).events).toHaveLength(expected);
      }),
    );
  });
});

/** The path of every value inside, the outermost one (`[]`) too. */
function pathsOf(value: unknown): string[][] {
  if (typeof value !== "object" || value === null) return [[]];
  const inner = Object.entries(value).flatMap(([key, part]) => pathsOf(part).map((path) => [key, ...path]));
  return [[], ...inner];
}

function replaceAt(value: unknown, path: string[], replacement: unknown): unknown {
  const [key, ...rest] = path;
  if (key === undefined) return replacement;
  const copy = Array.isArray(value) ? [...value] : { ...(value as object) };
  const record = copy as Record<string, unknown>;
  record[key] = replaceAt(record[key], rest, replacement);
  return copy;
}
