/** Partners copy what the READMEs show: it is run here as it stands there. */

import { readFileSync } from "node:fs";
import { assert, describe, expect, test } from "vitest";
import { aTransformerInput } from "./builders.ts";

// The vector of the contract, section 7.
const secret = "whsec_UG9zdGhvcm4tZXhhbXBsZS1zZWNyZXQtMzJieXRlcyE=";
const rawBody = Buffer.from('{"event":"message.received","timestamp":"2026-03-05T12:00:00Z"}');

describe.each([
  {
    format: "intelli",
    header: "x-intelli-signature",
    signature: "sha256=39b8268f3237553502df13bed62633b3ab8b1652a41f13a243795f9337ee2c66",
  },
  {
    format: "insights",
    header: "x-webhook-signature",
    signature:
      "I8L2SgkeI2sgzkim1Ik1mcrx5LNfrQXa8vSdic_CQExnfFIwV2y1Ri5T9546TjWFaP5apkaM4UtCdk10bGcIs_Mui7JhBy6D2YhqAliyjKl3gOCpfmIfgbCoB94kN0uREucIdY_EMV5nxn3fkaP5LfMVTyse9_2ywxMORjlrvMQ",
  },
])("the snippet in the README of $format", ({ format, header, signature }) => {
  test("takes a genuine signature", async () => {
    const isGenuine = await loadSnippet(format);
    expect(isGenuine(rawBody, { [header]: signature }, secret)).toBe(true);
  });

  test("refuses another body, another secret, a cut signature and none", async () => {
    const isGenuine = await loadSnippet(format);
    expect(isGenuine(Buffer.from(`${rawBody} `), { [header]: signature }, secret)).toBe(false);
    expect(isGenuine(rawBody, { [header]: signature }, `${secret}x`)).toBe(false);
    expect(isGenuine(rawBody, { [header]: signature.slice(0, -1) }, secret)).toBe(false);
    expect(isGenuine(rawBody, {}, secret)).toBe(false);
  });
});

test("the transformer in the README of raw loads and maps a message", async () => {
  const contract = new URL("../../plugins/transformer.ts", import.meta.url).href;
  const code = readSnippet("raw").replace("posthorn/plugin", contract);
  const { default: transformer } = await import(/* @vite-ignore */ asModule(code));
  const input = aTransformerInput({
    itemJson: '{"id":"wamid.x","type":"location","location":{"latitude":1.50}}',
  });
  expect(JSON.stringify(transformer.transform(input))).toBe(
    '{"customer":"0987654321","message":{"id":"wamid.x","type":"location","location":{"latitude":1.50}}}',
  );
});

type IsGenuine = (rawBody: Buffer, headers: Record<string, string>, secret: string) => boolean;

async function loadSnippet(format: string): Promise<IsGenuine> {
  const module = await import(/* @vite-ignore */ asModule(readSnippet(format)));
  return module.isGenuine;
}

function readSnippet(format: string): string {
  const readme = readFileSync(new URL(`../../plugins/${format}/README.md`, import.meta.url), "utf8");
  const code = readme.match(/```js\n(.*?)```/s)?.[1];
  assert(code !== undefined, "the README shows a snippet");
  return code;
}

function asModule(code: string): string {
  return `data:text/javascript,${encodeURIComponent(code)}`;
}
