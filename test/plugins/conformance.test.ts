import { expect, test } from "vitest";
import { builtinTransformers } from "../../plugins/builtin.ts";
import { describeConformance } from "./conformance.ts";

test("insights, intelli and raw come with the gateway", () => {
  expect(builtinTransformers.map(({ name }) => name)).toEqual(["insights", "intelli", "raw"]);
});

for (const transformer of builtinTransformers) describeConformance(transformer);
