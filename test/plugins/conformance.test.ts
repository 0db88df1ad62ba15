import { expect, test } from "vitest";
import { builtinTransformers } from "../../plugins/builtin.ts";
import { describeConformance } from "./conformance.ts";

test("cloudevents, insights, intelli, raw and slack come with the gateway", () => {
  expect(builtinTransformers.map(({ name }) => name)).toEqual([
    "cloudevents",
    "insights",
    "intelli",
    "raw",
    "slack",
  ]);
});

const contentTypes = new Map([["cloudevents", "application/cloudevents+json; charset=utf-8"]]);

for (const transformer of builtinTransformers) {
  describeConformance(transformer, contentTypes.get(transformer.name));
}
