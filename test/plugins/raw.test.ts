import { expect, test } from "vitest";
import raw from "../../plugins/raw/transformer.ts";
import { aTransformerInput, bodyOf } from "./builders.ts";

test("the body is the item, byte for byte", () => {
  const itemJson = '{"b":1.50,"a":12345678901234567890,"text":"\\u00e4ä"}';
  expect(bodyOf(raw, aTransformerInput({ itemJson }))).toBe(itemJson);
});

test("takes every message event, every other change and what the gateway tells of itself", () => {
  expect(raw.handles).toEqual(["message.*", "whatsapp.*", "posthorn.*"]);
});
