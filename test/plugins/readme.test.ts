/** Partners copy what the READMEs show: it is run here as it stands there. */

import { readFileSync } from "node:fs";
import { assert, describe, expect, test } from "vitest";
import { builtinTransformers } from "../../plugins/builtin.ts";
import { TransformerResponse } from "../../plugins/transformer.ts";
import { aTextMessage, aTransformerInput } from "./builders.ts";

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

test.each(["cloudevents", "slack"])("the payload in the README of %s is what it makes", (format) => {
  const transformer = builtinTransformers.find(({ name }) => name === format)!;
  const item = format === "slack" ? { ...aTextMessage(), text: { body: "Is 3 < 4?" } } : aTextMessage();
  const made = transformer.transform(aTransformerInput({ item }));
  const body = made instanceof TransformerResponse ? String(made.body) : JSON.stringify(made);
  const shown = readBlock(format, "json");
  expect(JSON.parse(body)).toEqual(JSON.parse(shown));
  expect(Object.keys(JSON.parse(body))).toEqual(Object.keys(JSON.parse(shown)));
});

test("the template in the README of slack makes what stands beside it", () => {
  const readme = readReadme("slack");
  const [, option, body] = /^`("template": .*)` makes `(.*)`\.$/m.exec(readme) ?? [];
  assert(option !== undefined && body !== undefined, "the README shows a template");
  const item = { ...aTextMessage(), text: { body: "Is 3 < 4?" } };
  const slack = builtinTransformers.find(({ name }) => name === "slack")!;
  const made = slack.transform(aTransformerInput({ item, options: JSON.parse(`{${option}}`) }));
  expect(JSON.stringify(made)).toBe(body);
});

type IsGenuine = (rawBody: Buffer, headers: Record<string, string>, secret: string) => boolean;

async function loadSnippet(format: string): Promise<IsGenuine> {
  const module = await import(/* @vite-ignore */ asModule(readSnippet(format)));
  return module.isGenuine;
}

function readSnippet(format: string): string {
  return readBlock(format, "js");
}

function readBlock(format: string, language: string): string {
  const code = new RegExp(`\`\`\`${language}\\n(.*?)\`\`\``, "s").exec(readReadme(format))?.[1];
  assert(code !== undefined, `the README shows a block of ${language}`);
  return code;
}

function readReadme(format: string): string {
  return readFileSync(new URL(`../../plugins/${format}/README.md`, import.meta.url), "utf8");
}

function asModule(code: string): string {
  return `data:text/javascript,${encodeURIComponent(code)}`;
}
