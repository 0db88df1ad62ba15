/** What a plugin can do wrong, and that it costs the delivery that it did it for, and no other. */

import { existsSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { TransformOutcome } from "../../server/workers/plugin-host.ts";
import {
  makePluginDirectory,
  openTestPlugins,
  type PluginDirectory,
  pluginSource,
} from "../helpers/plugins.ts";
import { waitFor } from "../helpers/wait.ts";
import { aTask } from "./builders.ts";

/** By name: what `transform` does when the option `fault` says so, and how it ends. */
const faults: Record<string, [body: string, message: RegExp]> = {
  "an endless loop": ["for (;;);", /took longer than 400 ms and did not stop/],
  "an endless loop after a wait": [
    "return new Promise((resolve) => setTimeout(resolve, 5)).then(() => { for (;;); })",
    /took longer than 400 ms and did not stop/,
  ],
  "a regular expression that never ends": [
    "return /^(a+)+$/.test('a'.repeat(60) + 'b')",
    /took longer than 400 ms and did not stop/,
  ],
  "a wait in the system": [
    "Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)",
    /took longer than 400 ms and did not stop/,
  ],
  "a promise that never settles": ["return new Promise(() => {})", /took longer than 400 ms$/],
  "work beyond its time that ends": [
    "const end = Date.now() + 450; while (Date.now() < end); return 1",
    /took longer than 400 ms$/,
  ],
  "process.exit": ["process.exit(0)", /ended its thread/],
  "process.exit after a wait": [
    "return new Promise(() => setTimeout(() => process.exit(0), 5))",
    /ended its thread/,
  ],
  "a signal to its process": [
    "process.kill(process.pid, 'SIGKILL'); for (;;);",
    /ended its process|took longer/,
  ],
  "a heap bomb of many objects": [
    "const all = []; for (;;) all.push({ a: all.length })",
    /more than 64 MiB of heap|more memory than it may|took longer/,
  ],
  // Ends a process that has it in a thread, whatever the thread's limits are.
  "a heap bomb of one large object": [
    "const all = new Map(); let i = 0; for (;;) all.set(i++, i)",
    /more than 64 MiB of heap|more memory than it may|took longer/,
  ],
  "a bomb of buffers": [
    "const all = []; for (;;) all.push(new Uint8Array(5e7).fill(1))",
    /more than 512 MiB of memory|more memory than it may|took longer|Array buffer allocation failed/,
  ],
  "a stack that is too deep": [
    "const deeper = () => deeper() + 1; return deeper()",
    /RangeError: Maximum call stack/,
  ],
  "a thrown non-error": ["throw { not: 'an error' }", /threw object: \[object Object\]/],
  "a thrown nothing": ["throw undefined", /threw undefined/],
  "a thrown error that cannot be looked at": [
    "throw new Proxy({}, { get() { throw 1 }, getPrototypeOf() { throw 2 } })",
    /threw something that cannot be shown/,
  ],
  "a rejected promise": [
    "return Promise.reject(new RangeError('no such thing'))",
    /RangeError: no such thing/,
  ],
  "a promise that is rejected after it returned": [
    "Promise.reject(new Error('left alone')); return 1",
    /an error outside of what transform returns: Error: left alone/,
  ],
  "an error in a timer, while it waits": [
    "setTimeout(() => { throw new Error('in a timer') }, 5); return new Promise(() => {})",
    /an error outside of what transform returns: Error: in a timer/,
  ],
  "a result of a megabyte": [
    "return 'x'.repeat(1_000_000)",
    /the payload has 1000002 bytes, at most 262144 are sent/,
  ],
  "a result of half a gigabyte": [
    "return 'x'.repeat(5e8)",
    /the payload has|more than \d+ MiB|more memory than it may|Invalid string length|took longer/,
  ],
  "a body of half a gigabyte": [
    "return respond({ body: 'x'.repeat(5e8) })",
    /more than 1048576 bytes, at most 262144/,
  ],
  "a getter that throws": ["return { get a() { throw new Error('in a getter') } }", /Error: in a getter/],
  "a getter that never returns": [
    "return { get a() { for (;;); } }",
    /took longer than 400 ms and did not stop/,
  ],
  "a cycle": ["const a = {}; a.a = a; return a", /circular structure/],
  "a bigint": ["return { a: 1n }", /BigInt/],
  "a function": ["return () => 1", /returned a function, which is no JSON value/],
  "a Proxy whose traps throw": [
    "return new Proxy({}, { ownKeys() { throw new Error('in a trap') } })",
    /Error: in a trap/,
  ],
  "a Proxy that passes for a response": [
    "return new Proxy(respond({ body: 'a' }), { get(of, key) { return key === 'headers' ? new Proxy({}, { ownKeys() { throw new Error('no keys') } }) : of[key] } })",
    /Error: no keys/,
  ],
  "a then that throws": ["return { get then() { throw new Error('in then') } }", /Error: in then/],
  "huge headers": [
    "return respond({ body: 'a', headers: { 'X-Huge': 'x'.repeat(1_000_000) } })",
    /header "X-Huge" has a value longer than 4096 characters/,
  ],
  "a million headers": [
    "return respond({ body: 'a', headers: Object.fromEntries(Array.from({ length: 1e4 }, (_, i) => ['X-' + i, 'a'])) })",
    /asks for 10000 headers, at most 20/,
  ],
  "a header of the gateway's": [
    "return respond({ body: 'a', headers: { 'webhook-id': 'mine' } })",
    /header "webhook-id" is set by the gateway/,
  ],
  "prototype pollution": [
    "Object.prototype.polluted = 'yes'; return 1",
    /TypeError: Cannot add property polluted/,
  ],
  "prototype pollution by way of its input": [
    "input.options.__proto__.__proto__ ??= {}; ({}).__proto__.toJSON = () => 'mine'; return 1",
    /TypeError: /,
  ],
  "an array for all that is changed": [
    "Array.prototype.last = () => 1; return 1",
    /TypeError: Cannot add property last/,
  ],
};

let directory: PluginDirectory;
let plugins: Awaited<ReturnType<typeof openTestPlugins>>;

beforeAll(async () => {
  const cases = Object.entries(faults).map(([name, [body]]) => `${JSON.stringify(name)}() { ${body} }`);
  const body = `const faults = { ${cases.join(", ")} }; return input.options.fault ? faults[input.options.fault]() : { fine: input.event.id };`;
  directory = makePluginDirectory({
    "faulty.mjs": pluginSource("faulty", body),
    "healthy.mjs": pluginSource("healthy", "return { fine: input.event.id }"),
  });
  plugins = await openTestPlugins({
    named: [directory.path],
    limits: { budgetMs: 400 },
    quarantine: { endsMax: 10_000 },
  });
});
afterAll(async () => {
  await plugins.close();
  directory.close();
});

describe("fails its own delivery, and those beside it are made, by the same plugin and by another", () => {
  test.each(Object.entries(faults).map(([name, [, message]]) => ({ name, message })))(
    "$name",
    async ({ name, message }) => {
      const fine = aTask({ transformer: "faulty" });
      const outcomes = await Promise.all([
        ...Array.from({ length: 4 }, () => plugins.transform(fine)),
        plugins.transform(aTask({ transformer: "faulty", options: { fault: name } })),
        ...Array.from({ length: 4 }, () => plugins.transform(fine)),
        ...Array.from({ length: 4 }, () => plugins.transform(aTask({ transformer: "healthy" }))),
      ]);
      const [failed] = outcomes.splice(4, 1);
      expect(failed).toMatchObject({ kind: "transformer_error", message: expect.stringMatching(message) });
      expect(outcomes.map(textOf)).toEqual(Array(12).fill(`{"fine":"${fine.event.id}"}`));
    },
  );
});

test("what is thrown names the plugin's own line, by file within the plugin", async () => {
  const own = makePluginDirectory({
    "placed/transformer.ts": `import { check } from "./lib/check.ts";
import { pad } from "../shared.mjs";
${pluginSource(
  "placed",
  `
    if (input.options.how === "here") throw new Error("boom");
    if (input.options.how === "long") throw new Error("x".repeat(1_000_000));
    if (input.options.how === "beside") return pad();
    if (input.options.how === "stray") setTimeout(() => { throw new Error("boom"); });
    if (input.options.how === "stray") return new Promise(() => undefined);
    if (input.options.how === "text") throw "boom";
    return check(input);`,
)}`,
    "placed/lib/check.ts": `interface Anything { readonly a: string }
export async function check(_input: Anything): Promise<string> {
  await null;
  return JSON.parse("{");
}
`,
    "shared.mjs": "export const pad = () => missing;\n",
  });
  const few = await openTestPlugins({ named: [join(own.path, "placed")] });
  const messageOf = async (how: string) => {
    const outcome = await few.transform(aTask({ transformer: "placed", options: { how } }));
    return outcome.kind === "transformer_error" ? outcome.message : outcome;
  };
  try {
    expect(await messageOf("here")).toBe("Error: boom at transformer.ts:7:45");
    expect(await messageOf("in an import")).toMatch(/^SyntaxError: .* at lib\/check\.ts:4:15$/);
    expect(await messageOf("beside")).toBe("ReferenceError: missing is not defined at shared.mjs:1:26");
    expect(await messageOf("stray")).toMatch(/Error: boom at transformer\.ts:10:\d+$/);
    expect(await messageOf("long")).toMatch(/^Error: x{200,} at transformer\.ts:8:45$/);
    expect(await messageOf("text")).toBe("threw string: boom");
  } finally {
    await few.close();
    own.close();
  }
});

test("an input that is changed is changed for nobody else", async () => {
  const changing =
    "input.event.item.text.body = 'changed'; input.options.list.push(2); input.event.extra = 1; return [input.event.item.text.body, input.options.list]";
  directory.write("changing.mjs", pluginSource("changing", changing));
  await plugins.reload();
  const task = aTask({ transformer: "changing", options: { list: [1] } });
  for (const _ of [1, 2]) expect(textOf(await plugins.transform(task))).toBe('["changed",[1,2]]');
  expect(task.options).toEqual({ list: [1] });
});

test("an error that comes when its delivery has ended is in the log, and harms nobody", async () => {
  directory.write(
    "late.mjs",
    pluginSource("late", "setTimeout(() => { throw new Error('too late') }, 50); return 1"),
  );
  await plugins.reload();
  expect(textOf(await plugins.transform(aTask({ transformer: "late" })))).toBe("1");
  await waitFor(
    "the error",
    () => JSON.stringify(plugins.logged),
    (text) => text.includes("too late"),
  );
  expect(textOf(await plugins.transform(aTask({ transformer: "late" })))).toBe("1");
});

describe("a plugin that keeps ending its process", () => {
  test("is quarantined with a reason, holds what comes, and is at work again once its files change", async () => {
    const own = makePluginDirectory({
      "bad.mjs": pluginSource("bad", "if (input.options.end) process.exit(1); return 'before'"),
      "good.mjs": pluginSource("good", "return 1"),
    });
    const few = await openTestPlugins({ named: [own.path], watchMs: 50, limits: { budgetMs: 1_000 } });
    try {
      const ending = aTask({ transformer: "bad", options: { end: true } });
      for (let count = 1; count <= 3; count++) {
        expect(await few.transform(ending)).toMatchObject({ kind: "transformer_error" });
      }
      expect(await few.transform(aTask({ transformer: "bad" }))).toMatchObject({ kind: "held" });
      expect(few.transformers.get("bad")!.hold).toMatch(
        /^is quarantined: it ended its process 3 times within 10 minutes, at last because .*; its files have to change$/,
      );
      expect(few.list().find(({ transformer }) => transformer?.name === "bad")).toMatchObject({
        health: "quarantined",
        errorCount: 3,
      });
      expect(textOf(await few.transform(aTask({ transformer: "good" })))).toBe("1");

      await few.reload();
      expect(few.transformers.get("bad")!.hold).toMatch(/quarantined/);

      own.write("bad.mjs", pluginSource("bad", "return 'mended'", { version: "2" }));
      await waitFor(
        "the mended plugin",
        () => few.transformers.get("bad")?.hold ?? null,
        (hold) => hold === null,
        20_000,
      );
      expect(textOf(await few.transform(aTask({ transformer: "bad" })))).toBe('"mended"');
    } finally {
      await few.close();
      own.close();
    }
  });
});

test("a plugin that ends its process by itself, whatever it is given, is quarantined, and nothing waits for ever", async () => {
  const own = makePluginDirectory({
    "dying.mjs": `${pluginSource("dying", "return 1")}setTimeout(() => process.exit(1), 20);\n`,
  });
  const few = await openTestPlugins({ named: [own.path], quarantine: { pauseMs: 50 } });
  try {
    const look = async () => (await few.transform(aTask({ transformer: "dying" }))).kind;
    await waitFor("an end to it", look, (kind) => kind === "held", 20_000);
    expect(few.transformers.get("dying")!.hold).toMatch(/is quarantined/);
  } finally {
    await few.close();
    own.close();
  }
});

test("plugins that are being loaded are let go of at once when the gateway stops", async () => {
  const own = makePluginDirectory({ "mine.mjs": pluginSource("mine", "return 1") });
  const few = await openTestPlugins({ named: [own.path] });
  const mark =
    "import { writeFileSync } from 'node:fs'; writeFileSync(new URL('./started', import.meta.url), '');";
  own.write("mine.mjs", `${mark} for (;;);\n`);
  const reloading = few.reload();
  await waitFor("the loading", () => existsSync(join(own.path, "started")), Boolean, 20_000);
  const startMs = performance.now();
  await few.close();
  await reloading;
  own.close();
  // Loading it would take 20 s to be given up.
  expect(performance.now() - startMs).toBeLessThan(15_000);
});

function textOf(outcome: TransformOutcome): unknown {
  return outcome.kind === "made" ? Buffer.from(outcome.payload.body).toString() : outcome;
}
