/** The test kit finds what is wrong with a transformer, and only that. */

import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import {
  assertSnapshot,
  assertSound,
  checkTransformer,
  measure,
  printResults,
  readSamples,
  sampleOf,
  samples,
  transformSample,
} from "../../plugins/testing.ts";
import {
  contentOf,
  defineTransformer,
  respond,
  type Transformer,
  type TransformerInput,
} from "../../plugins/transformer.ts";

describe("samples", () => {
  test("cover every event type that messages have, and account events", () => {
    const types = new Set(samples().map(({ type }) => type));
    for (const type of ["message.received", "message.reaction", "message.status", "message.sent"]) {
      expect(types).toContain(type);
    }
    expect(types).toContain("whatsapp.account_update");
    expect(types).toContain("whatsapp.error");
  });

  test("have names of their own", () => {
    const names = samples().map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    expect(() => sampleOf("txt")).toThrow(/there is no sample "txt"; there are text, /);
  });

  test("are read from bodies of one's own, one for each event in them", () => {
    const value = {
      metadata: { phone_number_id: "7" },
      messages: [aMessage("a"), aMessage("b")],
      statuses: [{ id: "wamid.c", status: "sent", timestamp: "1772712000", recipient_id: "15550100200" }],
    };
    const body = {
      object: "whatsapp_business_account",
      entry: [{ id: "1", changes: [{ field: "messages", value }] }],
    };
    const read = readSamples(JSON.stringify(body), { name: "mine" });
    expect(read.map(({ name, type }) => [name, type])).toEqual([
      ["mine 1", "message.received"],
      ["mine 2", "message.received"],
      ["mine 3", "message.status"],
    ]);
  });

  test.each([
    ["a message", aMessage("a"), "message.received"],
    ["a reaction", { ...aMessage("a"), type: "reaction", reaction: { message_id: "x" } }, "message.reaction"],
    ["a status", { id: "wamid.a", status: "read", recipient_id: "1" }, "message.status"],
    ["an echo", { ...aMessage("a"), to: "15550100200" }, "message.sent"],
    ["a change", { field: "account_update", value: { event: "X" } }, "whatsapp.account_update"],
  ])("are read from %s alone, its text untouched", (_what, item, type) => {
    const json = JSON.stringify(item).replace(/}$/, ',"exact":1.50}');
    const [sample] = readSamples(json);
    expect(sample?.type).toBe(type);
    if (type.startsWith("message.")) expect(sample?.task.event.itemJson).toBe(json);
  });

  test.each([
    ["{", /^not JSON: /],
    ["[]", /^not a body of a WhatsApp webhook.*: body: is not a JSON object$/],
    ["{}", /^not a body of a WhatsApp webhook/],
    ['{"object":"page","entry":[]}', /object: is not whatsapp_business_account/],
  ])("are not read from %s, and the reason is told", (json, message) => {
    expect(() => readSamples(json)).toThrow(message);
  });
});

describe("a transformer gets", () => {
  test("as much of the conversation as its history asks for", async () => {
    const counts: number[] = [];
    const transform = ({ conversation }: TransformerInput) => {
      counts.push(conversation!.messages.length);
      return null;
    };
    for (const history of [0, 1, 50]) {
      await transformSample(aTransformer({ history, transform }), sampleOf("text"));
    }
    expect(counts).toEqual([0, 1, 2]);
  });

  test("no options that its own schema refuses", async () => {
    const optionsSchema = { type: "object", properties: { size: { type: "integer" } } };
    const run = transformSample(aTransformer({ optionsSchema }), sampleOf("text"), { size: "big" });
    await expect(run).rejects.toThrow("transformer mine does not take these options: size must be integer");
  });
});

describe("checkTransformer", () => {
  test("finds nothing wrong with a sound one", async () => {
    const sound = aTransformer({ pure: true, transform: ({ event }) => ({ text: contentOf(event) }) });
    expect(await checkTransformer(sound)).toEqual([]);
    await assertSound(sound);
  });

  test.each<[string, Partial<Transformer>, RegExp]>([
    [
      "what it throws",
      { transform: fail },
      /^text \(message\.received\) and 1 more: it fails: Error: oh no$/,
    ],
    ["a promise that is rejected", { transform: async () => fail() }, /it fails: Error: oh no/],
    [
      "a promise that never settles",
      { transform: (() => new Promise(() => {})) as never },
      /it fails: .*longer than 250 ms/,
    ],
    [
      "too much work",
      { transform: workTooLong },
      /and 1 more: it takes longer than the 250 ms that the gateway gives it/,
    ],
    [
      "a payload that is no JSON value",
      { transform: () => () => 1 },
      /it fails: TypeError: the transformer returned a function/,
    ],
    [
      "a payload that is too long",
      { transform: () => "x".repeat(256 * 1024) },
      /it fails: the payload has \d+ bytes/,
    ],
    [
      "a header that is the gateway's",
      { transform: () => respond({ body: "", headers: { "webhook-id": "1" } }) },
      /it fails: header "webhook-id" is set by the gateway/,
    ],
    [
      "JSON that is none",
      { transform: () => respond({ body: "{" }) },
      /its content type is application\/json, but the body is no JSON/,
    ],
    [
      "a changed item",
      { transform: ({ event }) => Object.assign(event.item as object, { x: 1 }) },
      /it changes its input.*Cannot add property x/,
    ],
    [
      "a changed conversation",
      { history: 5, transform: sortMessages },
      /it changes its input.*Cannot assign to read only/,
    ],
    [
      "a Date that is set",
      { transform: ({ event }) => event.receivedAt.setFullYear(1999) },
      /it changes its input.*a Date in it was set/,
    ],
    [
      "a clock in a pure one",
      { pure: true, transform: () => new Date() },
      /says "pure": true, but the same input gives other bytes/,
    ],
    [
      "a clock that shows the day only",
      { pure: true, transform: () => new Date().toDateString() },
      /says "pure": true/,
    ],
    ["chance in a pure one", { pure: true, transform: () => Math.random() }, /says "pure": true/],
    ["nothing to handle", { handles: ["posthorn.*"] }, /^it handles none of the sample events/],
    [
      "nothing that is sent",
      { transform: () => undefined },
      /^it makes a payload of none of the sample events/,
    ],
    [
      "a required option",
      { optionsSchema: { type: "object", required: ["url"] } },
      /^its optionsSchema refuses the options \{\}: must have required property 'url'/,
    ],
  ])("finds %s", async (_what, overrides, fault) => {
    const samples = ["text", "image"].map(sampleOf);
    const faults = await checkTransformer(aTransformer(overrides), { samples });
    expect(faults).toHaveLength(1);
    expect(faults[0]).toMatch(fault);
  });

  test("lets one that is not pure have a clock, and one that is parse times", async () => {
    expect(await checkTransformer(aTransformer({ transform: () => Date.now() }))).toEqual([]);
    const parse = ({ event }: TransformerInput) => [
      new Date(event.receivedAt),
      new Date(2026, 0, 1),
      new Date(0),
    ];
    expect(await checkTransformer(aTransformer({ pure: true, transform: parse }))).toEqual([]);
  });

  test("finds bodies that do not fit a JSON Schema, with the path", async () => {
    const transformer = aTransformer({ transform: ({ event }) => ({ type: event.type, extra: 1 }) });
    const bodySchema = {
      type: "object",
      required: ["id"],
      properties: { type: { type: "integer" }, id: {} },
      additionalProperties: false,
    };
    const [fault] = await checkTransformer(transformer, { bodySchema, samples: [sampleOf("text")] });
    expect(fault).toMatch(/^text \(message\.received\): the body does not fit the schema: /);
    expect(fault).toContain("must have required property 'id'");
    expect(fault).toContain("/type must be integer");
    expect(fault).toContain('("extra")');
  });

  test("asks for defineTransformer", async () => {
    const plain = { name: "x", version: "1", description: "", handles: ["*"], transform: () => null };
    expect(await checkTransformer(plain)).toEqual([
      "the transformer must be made by defineTransformer({ … }) of posthorn/plugin",
    ]);
  });

  test("as an assertion lists every fault", async () => {
    await expect(assertSound(aTransformer({ transform: fail }))).rejects.toThrow(
      /^mine:\n {2}- text .*oh no/,
    );
  });

  test("leaves the clock as it was, whatever the transformer does", async () => {
    const RealDate = globalThis.Date;
    await checkTransformer(aTransformer({ pure: true, transform: fail }));
    await checkTransformer(aTransformer({ pure: true, transform: () => Date.now() }));
    expect(globalThis.Date).toBe(RealDate);
  });
});

describe("assertSnapshot", () => {
  let directory: string;
  let file: string;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "posthorn-snapshot-"));
    file = join(directory, "results.txt");
    vi.stubEnv("CI", "");
    vi.stubEnv("UPDATE_SNAPSHOTS", "");
  });
  afterEach(async () => {
    vi.unstubAllEnvs();
    await rm(directory, { recursive: true, force: true });
  });
  const before = aTransformer({ transform: ({ event }) => ({ text: contentOf(event) }) });
  const after = aTransformer({ transform: ({ event }) => ({ text: contentOf(event).toUpperCase() }) });

  test("writes the results at first, and takes the same ones from then on", async () => {
    await assertSnapshot(before, file);
    expect(await readFile(file, "utf8")).toBe(await printResults(before));
    await assertSnapshot(before, file);
  });

  test("names the sample and the line that differs, and keeps the file", async () => {
    await assertSnapshot(before, file);
    const kept = await readFile(file, "utf8");
    await expect(assertSnapshot(after, file)).rejects.toThrow(
      /=== text \(message\.received\), line 4\n {2}was: .*Hello!.*\n {2}is: {2}.*HELLO!/,
    );
    expect(await readFile(file, "utf8")).toBe(kept);
  });

  test("writes them anew when it is told to", async () => {
    await assertSnapshot(before, file);
    vi.stubEnv("UPDATE_SNAPSHOTS", "1");
    await assertSnapshot(after, file);
    expect(await readFile(file, "utf8")).toBe(await printResults(after));
  });

  test("finds a file that was cut short", async () => {
    const results = await printResults(before);
    await writeFile(file, results.slice(0, results.length / 2));
    await expect(assertSnapshot(before, file)).rejects.toThrow(/was: /);
  });

  test("fails for a missing file where CI is set", async () => {
    vi.stubEnv("CI", "true");
    await expect(assertSnapshot(before, file)).rejects.toThrow(/results\.txt is missing/);
  });
});

test("results show content type, headers, body, what is skipped and what fails", async () => {
  const transformer = aTransformer({
    handles: ["message.received", "message.reaction", "message.sent"],
    transform({ event }) {
      if (event.type === "message.reaction") return undefined;
      if (event.type === "message.sent") throw new Error("oh no");
      return respond({ body: "Hi", contentType: "text/plain", headers: { "x-kind": "greeting" } });
    },
  });
  const chosen = ["text", "reaction", "sent text", "status sent"].map(sampleOf);
  expect(await printResults(transformer, { samples: chosen })).toBe(
    "=== text (message.received)\ntext/plain\nx-kind: greeting\n\nHi\n\n" +
      "=== reaction (message.reaction)\nskipped\n\n" +
      "=== sent text (message.sent)\nfailed: Error: oh no\n",
  );
});

test("measure tells microseconds for an event, and the sample that costs most", async () => {
  const transform = ({ event }: TransformerInput) => {
    let sum = 0;
    const count = contentOf(event) === "The box, opened" ? 300_000 : 1;
    for (let index = 0; index < count; index++) sum += index % 7;
    return sum;
  };
  const chosen = ["text", "image", "video"].map(sampleOf);
  const cost = await measure(aTransformer({ transform }), { samples: chosen, rounds: 20 });
  expect(cost.runCount).toBeGreaterThanOrEqual(3);
  expect(cost.runCount).toBeLessThanOrEqual(60);
  expect(cost.slowest.name).toBe("image");
  expect(cost.medianUs).toBeGreaterThan(0);
  expect(cost.p99Us).toBeGreaterThanOrEqual(cost.medianUs);
});

function aTransformer(overrides: Partial<Transformer> = {}): Transformer {
  return defineTransformer({
    name: "mine",
    version: "1.0.0",
    description: "",
    handles: ["message.received"],
    transform: () => ({ a: 1 }),
    ...overrides,
  });
}

function aMessage(id: string) {
  return {
    from: "15550100200",
    id: `wamid.${id}`,
    timestamp: "1772712000",
    type: "text",
    text: { body: "Hi" },
  };
}

function fail(): never {
  throw new Error("oh no");
}

function sortMessages({ conversation }: TransformerInput): unknown {
  return (conversation!.messages as unknown[]).reverse();
}

function workTooLong(): unknown {
  const untilMs = performance.now() + 260;
  while (performance.now() < untilMs);
  return null;
}
