import fc from "fast-check";
import { describe, expect, expectTypeOf, test } from "vitest";
import {
  contractVersionOf,
  DefinitionError,
  defineTransformer,
  isJsonObject,
  optionFormats,
  parseLossless,
  respond,
  type Transformer,
  type TransformerInput,
} from "../../plugins/transformer.ts";

describe("defineTransformer", () => {
  const sound: Transformer = {
    name: "my-format",
    version: "1.0.0",
    description: "What our CRM takes.",
    handles: ["message.received"],
    transform: () => null,
  };

  test.each<[string, Partial<Transformer>]>([
    ["the least that a transformer needs", {}],
    ["wildcards", { handles: ["message.*", "*", "whatsapp.account_update"] }],
    ["a history", { history: 50 }],
    [
      "a history that an option sets",
      {
        history: { option: "size", default: 5 },
        optionsSchema: { type: "object", properties: { size: {} } },
      },
    ],
  ])("takes %s and gives it back", (_what, overrides) => {
    const transformer = { ...sound, ...overrides };
    expect(defineTransformer(transformer)).toBe(transformer);
  });

  test.each<[string, Record<string, unknown>, RegExp]>([
    ["a name with capitals", { name: "MyFormat" }, /^transformer "MyFormat": "name" must be/],
    ["no name", { name: undefined }, /"name" must be/],
    ["a name too long", { name: "a".repeat(65) }, /"name" must be/],
    ["no version", { version: undefined }, /^transformer "my-format": "version" must be/],
    ["no description", { description: undefined }, /"description" must be/],
    ["no event types", { handles: [] }, /"handles" must name at least one/],
    [
      "a text for event types",
      { handles: "message.received" },
      /"handles" must be a list, such as \["message\.received"\]/,
    ],
    ["event types that are left out", { handles: undefined }, /"handles" must name at least one/],
    [
      "a star in the middle",
      { handles: ["message.*.x"] },
      /"handles" holds "message\.\*\.x": name an event type/,
    ],
    ["an empty event type", { handles: [""] }, /"handles" holds ""/],
    ["an unknown signature", { signature: "md5" }, /"signature" must be "intelli", "insights" or left out/],
    ["too much history", { history: 51 }, /"history" must be 0 to 50/],
    ["half a message of history", { history: 0.5 }, /"history" must be 0 to 50/],
    ["a null history", { history: null }, /"history" must be 0 to 50/],
    ["a history of no default", { history: { option: "size" } }, /"history" must be 0 to 50/],
    [
      "a history of no known option",
      { history: { option: "size", default: 1 } },
      /"history" names the option "size"/,
    ],
    ["no function", { transform: "x" }, /"transform" must be a function/],
    ["a version with blanks", { version: "1 0" }, /"version" must be a text such as "1\.0\.0"/],
    ["a purity that is no boolean", { pure: "yes" }, /"pure" must be true, false or left out/],
    [
      "an event type that does not exist",
      { handles: ["message.recieved"] },
      /"handles" holds "message\.recieved".*did you mean "message\.received"\?/,
    ],
    [
      "a prefix that covers nothing",
      { handles: ["messages.*"] },
      /"handles" holds "messages\.\*", which no event/,
    ],
    ["an event type twice", { handles: ["message.sent", "message.sent"] }, /holds "message\.sent" twice/],
    ["a schema that is no object", { optionsSchema: [] }, /"optionsSchema" must be a JSON Schema/],
    ["a schema of texts", { optionsSchema: { type: "string" } }, /"optionsSchema" is of type "string"/],
    [
      "a schema without a list of options",
      { optionsSchema: { properties: 1 } },
      /list the options in "properties"/,
    ],
    [
      "a field of another name",
      { optionSchema: {} },
      /"optionSchema" is no field.*did you mean "optionsSchema"\?/,
    ],
  ])("refuses %s, and says why", (_what, overrides, message) => {
    expect(() => defineTransformer({ ...sound, ...overrides } as Transformer)).toThrow(message);
  });
});

describe("what defineTransformer throws", () => {
  const transform = () => null;

  test("names every fault at once, each with its field", () => {
    const broken = { name: "Bad", version: "", description: "", handles: [], transform } as Transformer;
    const thrown = catchError(() => defineTransformer(broken));
    expect(thrown).toBeInstanceOf(DefinitionError);
    expect((thrown as DefinitionError).faults.map(({ field }) => field)).toEqual([
      "name",
      "version",
      "handles",
    ]);
    for (const { message } of (thrown as DefinitionError).faults) {
      expect((thrown as Error).message).toContain(message);
    }
  });

  test.each([[undefined], [null], ["text"], [[]], [() => null]])("is clear about %s", (nothing) => {
    expect(() => defineTransformer(nothing as unknown as Transformer)).toThrow(
      /^a transformer: it must be an object/,
    );
  });

  test("is clear about a schema that refers to itself, and about a frozen transformer", () => {
    const properties: Record<string, unknown> = {};
    properties.self = properties;
    const named = { name: "x", version: "1", description: "", handles: ["*"], transform };
    expect(() => defineTransformer({ ...named, optionsSchema: { properties } })).toThrow(
      /"optionsSchema" must be plain/,
    );
    expect(() => defineTransformer(Object.freeze({ ...named }))).toThrow(/it must not be frozen/);
  });
});

test("what defineTransformer made is known by its version of the contract, and nothing else is", () => {
  const plain = { name: "x", version: "1", description: "", handles: ["*"], transform: () => null };
  for (const other of [plain, null, undefined, "x", { contract: 1 }])
    expect(contractVersionOf(other)).toBeNull();
  const defined = defineTransformer({ ...plain });
  expect(contractVersionOf(defined)).toBe(1);
  expect(Object.keys(defined)).toEqual(Object.keys(plain));
});

describe("parseLossless", () => {
  test("JSON of any numbers comes back as it was written", () => {
    const digits = (minLength: number, maxLength: number) =>
      fc.string({ unit: fc.constantFrom(..."0123456789"), minLength, maxLength });
    const numberText = fc
      .tuple(
        fc.constantFrom("", "-"),
        fc.oneof(
          fc.constant("0"),
          fc.tuple(fc.constantFrom(..."123456789"), digits(0, 20)).map((parts) => parts.join("")),
        ),
        fc.oneof(
          fc.constant(""),
          digits(1, 20).map((fraction) => `.${fraction}`),
        ),
        fc.oneof(
          fc.constant(""),
          fc.tuple(fc.constantFrom("e", "E", "e+", "e-"), digits(1, 3)).map((parts) => parts.join("")),
        ),
      )
      .map((parts) => parts.join(""));
    const { json } = fc.letrec<{ json: string }>((tie) => ({
      json: fc.oneof(
        { maxDepth: 3 },
        numberText,
        fc.string().map((text) => JSON.stringify(text)),
        fc.constantFrom("null", "true", "false"),
        fc.array(tie("json"), { maxLength: 4 }).map((members) => `[${members.join(",")}]`),
        fc
          .array(tie("json"), { maxLength: 4 })
          .map((members) => `{${members.map((member, index) => `"key ${index}":${member}`).join(",")}}`),
      ),
    }));
    fc.assert(
      fc.property(json, (text) => {
        expect(JSON.stringify(parseLossless(text))).toBe(text);
      }),
      { numRuns: 2_000 },
    );
  });

  test.each(["-0", "1.0", "1e3", "0.0000001", "9007199254740993", "1234567890123456789012", "1E400", "0.10"])(
    "%s survives alone, in a list and behind blanks",
    (number) => {
      expect(JSON.stringify(parseLossless(number))).toBe(number);
      expect(JSON.stringify(parseLossless(`[0,${number}]`))).toBe(`[0,${number}]`);
      expect(JSON.stringify(parseLossless(`{"a" : \n ${number} }`))).toBe(`{"a":${number}}`);
    },
  );

  test("numbers that JavaScript writes alike are numbers, even beside others", () => {
    expect(parseLossless('{"a":1,"b":-2.5,"c":[0,999999999999999]}')).toEqual({
      a: 1,
      b: -2.5,
      c: [0, 999999999999999],
    });
    expect(parseLossless('{"a":1.0,"b":7}')).toMatchObject({ b: 7 });
  });

  test("__proto__ is a key like any other", () => {
    const text = '{"__proto__":{"a":1.0},"b":{"__proto__":2}}';
    expect(JSON.stringify(parseLossless(text))).toBe(text);
  });

  test("what is no JSON is refused", () => {
    expect(() => parseLossless("{")).toThrow(SyntaxError);
    expect(() => parseLossless("{1.0")).toThrow(SyntaxError);
  });
});

test("isJsonObject tells objects from lists, null, plain values and kept numbers", () => {
  expect(isJsonObject(parseLossless("{}"))).toBe(true);
  for (const text of ["[]", "null", '"x"', "1", "1.0"]) expect(isJsonObject(parseLossless(text))).toBe(false);
});

describe("option format iana-time-zone", () => {
  const isTimeZone = optionFormats["iana-time-zone"]!;

  test.each([
    "UTC",
    "Europe/Berlin",
    "Asia/Kolkata",
    "America/Argentina/Buenos_Aires",
    "Etc/GMT+5",
    "US/Pacific",
  ])("takes %s", (name) => {
    expect(isTimeZone(name)).toBe(true);
  });

  test.each([
    "",
    "Mars/Olympus",
    "+02:00",
    "-0500",
    "Europe/Berlin ",
    "Europe",
    "a".repeat(65),
    "Europe\u0000/Berlin",
  ])("refuses %j", (name) => {
    expect(isTimeZone(name)).toBe(false);
  });
});

test("options have the types of the schema, and transform those of the contract", () => {
  const defined = defineTransformer({
    name: "x",
    version: "1",
    description: "",
    handles: ["message.received"],
    transform(input) {
      expectTypeOf(input).toEqualTypeOf<TransformerInput>();
      return null;
    },
  });
  expectTypeOf(defined.name).toEqualTypeOf<"x">();
  expectTypeOf(defined).toExtend<Transformer>();
});

test("respond says JSON unless told otherwise", () => {
  expect(respond({ body: "{}" })).toEqual({ body: "{}", contentType: "application/json", headers: {} });
  expect(respond({ body: "a,b", contentType: "text/csv", headers: { "x-a": "1" } })).toMatchObject({
    contentType: "text/csv",
    headers: { "x-a": "1" },
  });
});

function catchError(run: () => unknown): unknown {
  try {
    return run();
  } catch (error) {
    return error;
  }
}
