/** What `posthorn/plugin` gives to authors beside the contract itself. */

import fc from "fast-check";
import { describe, expect, expectTypeOf, test } from "vitest";
import { sampleOf } from "../../plugins/testing.ts";
import {
  contentOf,
  mediaOf,
  type OptionsOf,
  readOptions,
  timeOf,
  toE164,
  toIsoTime,
} from "../../plugins/transformer.ts";
import { aTransformerInput } from "./builders.ts";

describe("toE164", () => {
  test.each([
    ["15550001111", "+15550001111"],
    ["+1 (555) 000-1111", "+15550001111"],
    [15550001111, "+15550001111"],
    [null, null],
    [undefined, null],
    ["", null],
    ["US.13491208655302741918", null],
    ["1".repeat(16), null],
    [{}, null],
  ])("%j as %j", (value, shown) => {
    expect(toE164(value)).toBe(shown);
  });
});

describe("toIsoTime", () => {
  test.each([
    [new Date("2026-03-05T12:00:00.999Z"), "2026-03-05T12:00:00Z"],
    ["1772712000", "2026-03-05T12:00:00Z"],
    [1772712000, "2026-03-05T12:00:00Z"],
    ["1772712000123", "2026-03-05T12:00:00Z"],
    [null, null],
    ["yesterday", null],
    [new Date(Number.NaN), null],
  ])("%j as %j", (value, shown) => {
    expect(toIsoTime(value)).toBe(shown);
  });

  test("with milliseconds where they are asked for", () => {
    expect(toIsoTime(new Date("2026-03-05T12:00:00.007Z"), "milliseconds")).toBe("2026-03-05T12:00:00.007Z");
    expect(toIsoTime("1772712000", "milliseconds")).toBe("2026-03-05T12:00:00.000Z");
  });

  test("timeOf reads what an item says", () => {
    expect(timeOf("1772712000")).toEqual(new Date("2026-03-05T12:00:00Z"));
    expect(timeOf("0")).toBeNull();
  });
});

describe("contentOf", () => {
  test.each([
    ["text", "Hello! Is 3 < 4 & 5 > 4? 👍"],
    ["image", "The box, opened"],
    ["video", ""],
    ["location", "Office, Main St 1 (52.52, 13.405)"],
    ["location without a name", "(0, -0.5)"],
    ["contacts", "Ann Sample"],
    ["button of a template", "Confirm"],
    ["list reply", "Prices"],
    ["flow reply", '{"flow_token":"t-1","size":"M"}'],
    ["order", "2 items, 85.5 USD"],
    ["sent text", "We are on it."],
    ["reaction", ""],
    ["status failed", ""],
    ["account update", ""],
    ["type that is new", ""],
    ["text without a body", ""],
  ])("of %s is %j", (name, content) => {
    expect(contentOf(inputOf(name).event)).toBe(content);
  });

  test("keeps the digits of coordinates as WhatsApp wrote them", () => {
    const itemJson = '{"type":"location","location":{"latitude":37.10,"longitude":7}}';
    expect(contentOf(aTransformerInput({ itemJson }).event)).toBe("(37.10, 7)");
  });

  test("takes any JSON for an item", () => {
    fc.assert(
      fc.property(fc.json(), (itemJson) => {
        expect(typeof contentOf(aTransformerInput({ itemJson }).event)).toBe("string");
      }),
    );
  });
});

describe("mediaOf", () => {
  test("tells all of a file, with the gateway's link to it", () => {
    const mediaUrl = "https://gateway.example.com/media/x";
    expect(mediaOf({ ...inputOf("document"), mediaUrl })).toEqual({
      kind: "document",
      url: mediaUrl,
      mimeType: "application/pdf",
      fileName: "Rechnung Nº 7/2026.pdf",
      caption: "Our bill",
      sha256: expect.any(String),
      isVoice: false,
    });
  });

  test("tells a voice note from other sounds", () => {
    expect(mediaOf(inputOf("voice note"))).toMatchObject({ kind: "audio", isVoice: true, url: null });
    expect(mediaOf(inputOf("audio"))).toMatchObject({ kind: "audio", isVoice: false });
  });

  test("is null for what has no file", () => {
    for (const name of ["text", "status sent", "account update", "type that is new"]) {
      expect(mediaOf(inputOf(name))).toBeNull();
    }
  });
});

describe("readOptions", () => {
  const schema = {
    type: "object",
    properties: {
      greeting: { type: "string", default: "Hello" },
      size: { type: "integer" },
      mode: { enum: ["short", "long"], default: "short" },
      tags: { type: "array", items: { type: "string" } },
      place: { type: "string" },
      depth: { type: "object" },
    },
    required: ["place"],
  } as const;

  test("fills in the defaults, and leaves what is given", () => {
    expect(readOptions(schema, { size: 3, mode: "long", place: "here" })).toEqual({
      greeting: "Hello",
      size: 3,
      mode: "long",
      tags: undefined,
      place: "here",
      depth: undefined,
    });
  });

  test("a given null, false or 0 is given, and inherited names are not", () => {
    const odd = {
      type: "object",
      properties: { toString: { default: "x" }, off: { default: true } },
    } as const;
    expect(readOptions(odd, { off: false })).toEqual({ toString: "x", off: false });
  });

  test("has the types of the schema", () => {
    expectTypeOf<OptionsOf<typeof schema>>().toEqualTypeOf<{
      readonly greeting: string;
      readonly size: number | undefined;
      readonly mode: "short" | "long";
      readonly tags: readonly string[] | undefined;
      readonly place: string;
      readonly depth: unknown;
    }>();
  });
});

function inputOf(sampleName: string) {
  const { event } = sampleOf(sampleName).task;
  return aTransformerInput({ itemJson: event.itemJson, event: { type: event.type } });
}
