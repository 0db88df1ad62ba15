import { mkdirSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import {
  makePluginDirectory,
  openTestPlugins,
  type PluginDirectory,
  pluginSource,
  type TestPluginOptions,
} from "../helpers/plugins.ts";
import { startReceiver } from "../helpers/receiver.ts";
import { waitFor } from "../helpers/wait.ts";
import { aTask } from "./builders.ts";

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

function directoryOf(files: Record<string, string>) {
  const directory = makePluginDirectory(files);
  closers.push(directory.close);
  return directory;
}

async function open(options: TestPluginOptions) {
  const plugins = await openTestPlugins(options);
  closers.push(plugins.close);
  return plugins;
}

const textOf = (outcome: Awaited<ReturnType<Awaited<ReturnType<typeof open>>["transform"]>>) =>
  outcome.kind === "made" ? Buffer.from(outcome.payload.body).toString() : outcome;

const cjs = `const { defineTransformer } = require("posthorn/plugin");
module.exports = defineTransformer({ name: "common", version: "1", description: "", handles: ["*"], transform: () => "common" });
`;

describe("plugins are found", () => {
  test("as files and folders of a directory, in TypeScript and JavaScript, and as a package", async () => {
    const directory = directoryOf({
      "many/plain.mjs": pluginSource("plain", "return 'plain'"),
      "many/typed.ts": pluginSource("typed", "const text: string = 'typed'; return text"),
      "many/common.cjs": cjs,
      "many/folder/transformer.ts": pluginSource("folder", "return word").replace(
        "\nexport",
        '\nimport { word } from "./word.ts";\nexport',
      ),
      "many/folder/word.ts": "export const word: string = 'folder';",
      "many/with-main/package.json": '{"type":"module","main":"./lib/main.js"}',
      "many/with-main/lib/main.js": pluginSource("with-main", "return pad('x')").replace(
        "\nexport",
        '\nimport pad from "left";\nexport',
      ),
      "many/with-main/node_modules/left/package.json": '{"name":"left","type":"module","main":"index.js"}',
      "many/with-main/node_modules/left/index.js": "export default (text) => 'left ' + text;",
      "many/notes.txt": "no plugin",
      "many/typed.test.ts": "throw new Error('a test is no plugin');",
      "many/types.d.ts": "export {};",
      "alone/index.js": pluginSource("alone", "return 'alone'"),
      "one.ts": pluginSource("one", "return 'one'"),
      "node_modules/@acme/format/package.json":
        '{"name":"@acme/format","type":"module","exports":{".":{"import":"./main.js"}}}',
      "node_modules/@acme/format/main.js": pluginSource("acme", "return 'acme'"),
    });
    const named = ["./many", join(directory.path, "alone"), "./one.ts", "@acme/format"];
    const plugins = await open({ named, workingDirectory: directory.path, builtin: [] });
    expect(
      plugins.list().map(({ transformer, health, reason }) => [transformer?.name, health, reason]),
    ).toEqual(
      ["acme", "alone", "common", "folder", "one", "plain", "typed", "with-main"].map((name) => [
        name,
        "ok",
        null,
      ]),
    );
    const texts: unknown[] = [];
    for (const transformer of ["acme", "folder", "typed", "with-main", "common"]) {
      texts.push(textOf(await plugins.transform(aTask({ transformer }))));
    }
    expect(texts).toEqual(['"acme"', '"folder"', '"typed"', '"left x"', '"common"']);
  });

  test("in the gateway's own directory, beside what comes with it", async () => {
    const directory = directoryOf({
      "mine/transformer.ts": pluginSource("mine", "return 1"),
      "raw/transformer.ts": "throw new Error('the gateway loads its own itself');",
      "sdk/index.ts": "throw new Error('no plugin');",
    });
    const plugins = await open({ ownDirectory: directory.path });
    expect(plugins.list().flatMap(({ transformer, file }) => (file ? [transformer?.name] : []))).toEqual([
      "mine",
    ]);
    expect(plugins.isPlugin("mine")).toBe(true);
    expect(plugins.isPlugin("raw")).toBe(false);
  });
});

describe("a plugin that does not load is told by file, line and what mends it, and the others load", () => {
  const cases: [string, Record<string, string>, RegExp][] = [
    [
      "a syntax error in JavaScript",
      { "bad.mjs": "const a = 1;\nconst b = = 2;\n" },
      /bad\.mjs:2: .*correct the syntax/,
    ],
    [
      "a syntax error in TypeScript",
      { "bad.ts": "const a = 1;\n\nconst b: = 2;\n" },
      /bad\.ts:3: .*correct the syntax/,
    ],
    [
      "TypeScript that is more than types",
      { "bad.ts": "enum Kind { A }\n" },
      /bad\.ts:1: .*enum.*erasableSyntaxOnly/,
    ],
    [
      "a syntax error in a file that it imports",
      { "bad/transformer.ts": 'import "./part.ts";\n', "bad/part.ts": "\nfunction {" },
      /part\.ts:2: .*correct the syntax/,
    ],
    [
      "a missing file",
      { "bad.ts": '// first\nimport "./nowhere.ts";\n' },
      /bad\.ts:2: .*nowhere\.ts.*correct the path/,
    ],
    [
      "a missing package",
      { "bad.ts": 'import "no-such-package";\n' },
      /bad\.ts:1: .*no-such-package.*npm install/,
    ],
    [
      "a mistyped import of the contract",
      {
        "bad.ts":
          'import { respond } from "posthorn/plugin";\nimport { defineTransformer } from "posthorn/plugins";\n',
      },
      /bad\.ts:2: there is no posthorn\/plugins: plugins import posthorn\/plugin or posthorn\/plugin\/testing$/,
    ],
    [
      "an import of the gateway itself",
      {
        "bad.mjs":
          'import { respond } from "posthorn/plugin";\nimport { defineTransformer } from "posthorn";\n',
      },
      /bad\.mjs:2: there is no posthorn: plugins import posthorn\/plugin or/,
    ],
    [
      "an error while it loads",
      { "bad.mjs": '\n\nthrow new Error("no config");\n' },
      /bad\.mjs:3: it threw: no config/,
    ],
    [
      "something else that is thrown",
      { "bad.mjs": 'throw "a text";\n' },
      /bad\.mjs: it threw string: a text/,
    ],
    [
      "no default export",
      { "bad.mjs": "export const a = 1;\n" },
      /bad\.mjs: .*export default defineTransformer/,
    ],
    [
      "an object that is no transformer",
      { "bad.mjs": 'export default { name: "bad" };\n' },
      /bad\.mjs: .*defineTransformer/,
    ],
    [
      "a wrong field",
      { "bad.ts": pluginSource("bad", "return 1", { handles: [] }) },
      /bad\.ts:2: transformer "bad": "handles" must name/,
    ],
    [
      "another version of the contract",
      {
        "bad.mjs":
          'export default { name: "bad", [Symbol.for("posthorn.transformer.contract")]: 99, transform() {} };\n',
      },
      /bad\.mjs: .*version 99 of the plugin contract.*update the gateway/,
    ],
    [
      "a schema that is none",
      {
        "bad.ts": pluginSource("bad", "return 1", {
          optionsSchema: { type: "object", properties: { a: { type: "nothing" } } },
        }),
      },
      /bad\.ts: .*optionsSchema is no valid JSON Schema/,
    ],
    [
      "a name that the gateway has itself",
      { "bad.ts": pluginSource("raw", "return 1") },
      /"raw" is taken by a transformer of the gateway/,
    ],
    [
      "a name that another plugin has",
      { "bad.ts": pluginSource("good", "return 2") },
      /"good" is taken by .*good\.ts: give this one/,
    ],
    [
      "an exit while it loads",
      { "bad.mjs": "process.exit(3);\n" },
      /bad\.mjs: .*ended its thread \(while it was loaded\)/,
    ],
  ];
  let directory: PluginDirectory;
  let plugins: Awaited<ReturnType<typeof openTestPlugins>>;
  const folderOf = (index: number) => join(directory.path, String.fromCharCode(98 + index));

  beforeAll(async () => {
    directory = makePluginDirectory({ "a/good.ts": pluginSource("good", "return 1") });
    for (const [index, [, files]] of cases.entries()) {
      const folder = basename(folderOf(index));
      for (const [name, text] of Object.entries(files)) directory.write(`${folder}/${name}`, text);
    }
    const named = [join(directory.path, "a"), ...cases.map((_, index) => folderOf(index))];
    plugins = await openTestPlugins({ named });
  });
  afterAll(async () => {
    await plugins.close();
    directory.close();
  });

  test.each(cases.map(([name, , expected], index) => ({ name, expected, index })))(
    "$name",
    ({ expected, index }) => {
      const own = plugins.list().filter(({ file }) => file?.startsWith(folderOf(index)));
      expect(own).toEqual([
        expect.objectContaining({ health: "failed", reason: expect.stringMatching(expected) }),
      ]);
      expect(plugins.logged).toContainEqual(
        expect.objectContaining({ msg: "a plugin is at fault", reason: expect.stringMatching(expected) }),
      );
    },
  );

  test("and nothing of it stands in the way of one that loads", async () => {
    expect(textOf(await plugins.transform(aTask({ transformer: "good" })))).toBe("1");
  });

  test("an endless loop while it loads", async () => {
    const directory = directoryOf({ "bad.mjs": "for (;;);\n" });
    const plugins = await open({ named: [directory.path], limits: { loadTimeoutMs: 3_000 } });
    expect(plugins.list().at(-1)!.reason).toMatch(/bad\.mjs: it took longer than 3000 ms to load/);
  });

  test("TypeScript under node_modules, a path that is not there, and a package that is not installed", async () => {
    const directory = directoryOf({
      "node_modules/typed/package.json": '{"name":"typed","type":"module","main":"main.ts"}',
      "node_modules/typed/main.ts": pluginSource("typed", "const a: number = 1; return a"),
    });
    const named = ["typed", "./nowhere", "not-installed"];
    const plugins = await open({ named, workingDirectory: directory.path, builtin: [] });
    const reasons = plugins.list().map(({ file, reason }) => `${file} ${reason}`);
    expect(reasons).toEqual([
      expect.stringMatching(/^typed .*under node_modules; publish the package as JavaScript/),
      expect.stringMatching(/^not-installed .*Cannot find package.*npm install/),
      expect.stringMatching(/^\.\/nowhere there is no such file or directory: correct the path/),
    ]);
  });
});

describe("changed files", () => {
  const version = (number: number, body = "return 1") =>
    pluginSource("mine", body, { version: String(number) });

  test("are loaded when they change, a new file and one that went included", async () => {
    const directory = directoryOf({ "mine.ts": version(1) });
    const plugins = await open({ named: [directory.path], watchMs: 50 });
    const versionNow = () => plugins.factsOf("mine")?.version;
    expect(versionNow()).toBe("1");
    directory.write("mine.ts", version(2));
    await waitFor("version 2", versionNow, (seen) => seen === "2", 20_000);
    directory.write("second.ts", pluginSource("second", "return 2"));
    await waitFor("the second", () => plugins.isPlugin("second"), Boolean, 20_000);
    directory.remove("mine.ts");
    await waitFor(
      "the first to go",
      () => plugins.isPlugin("mine"),
      (is) => !is,
      20_000,
    );
    expect(await plugins.transform(aTask({ transformer: "mine" }))).toMatchObject({ kind: "held" });
  });

  test("that a plugin imports count, and one that was missing mends it when it comes", async () => {
    const directory = directoryOf({
      "mine/transformer.ts": version(1, "return word").replace(
        "\nexport",
        '\nimport { word } from "./word.ts";\nexport',
      ),
    });
    const plugins = await open({ named: [directory.path], watchMs: 50 });
    expect(plugins.isPlugin("mine")).toBe(false);
    directory.write("mine/word.ts", "export const word = 'first';");
    await waitFor("the plugin", () => plugins.isPlugin("mine"), Boolean, 20_000);
    directory.write("mine/word.ts", "export const word = 'the second';");
    await waitFor(
      "the second word",
      async () => textOf(await plugins.transform(aTask({ transformer: "mine" }))),
      (text) => text === '"the second"',
      20_000,
    );
  });

  test("are told of each time they are loaded, whatever their version, and not if they are as they were", async () => {
    const directory = directoryOf({ "mine.ts": version(1) });
    const plugins = await open({ named: [directory.path] });
    const told = () => plugins.logged.map(({ msg }) => msg);
    expect(told()).toEqual(["a plugin is loaded"]);
    await plugins.reload();
    expect(told()).toHaveLength(1);
    directory.write("mine.ts", version(1, "return 'another text'"));
    await plugins.reload();
    expect(told()).toEqual(["a plugin is loaded", "a plugin is loaded"]);
    directory.write("mine.ts", version(2, "return 'another text'"));
    await plugins.reload();
    expect(told()).toHaveLength(3);
    for (const text of ["export default = 3;", "export default = 30;"]) {
      directory.write("mine.ts", text);
      await plugins.reload();
    }
    expect(told().slice(3)).toEqual(["a plugin is at fault", "a plugin is at fault"]);
  });

  test("of a package that is installed at last are loaded", async () => {
    const directory = directoryOf({});
    const plugins = await open({ named: ["late"], workingDirectory: directory.path, watchMs: 50 });
    expect(plugins.list().at(-1)!.reason).toMatch(/Cannot find package/);
    directory.write("node_modules/late/main.js", pluginSource("late", "return 1"));
    directory.write("node_modules/late/package.json", '{"name":"late","type":"module","main":"main.js"}');
    await waitFor("the package", () => plugins.isPlugin("late"), Boolean, 20_000);
  });

  test("that do not load leave the code from before at work, and are told of", async () => {
    const directory = directoryOf({ "mine.ts": version(1) });
    const plugins = await open({ named: [directory.path] });
    directory.write("mine.ts", "export default = 3;");
    await plugins.reload();
    expect(textOf(await plugins.transform(aTask({ transformer: "mine" })))).toBe("1");
    expect(plugins.list().at(-1)).toMatchObject({
      transformer: { name: "mine", version: "1" },
      health: "failed",
      reason: expect.stringMatching(/mine\.ts:1: .*the code from before is still used/),
    });
    expect(plugins.transformers.get("mine")!.hold ?? null).toBeNull();
  });

  test("do not touch what is under way: it ends on the code from before, and what comes then has the new", async () => {
    const slow = version(1, "return new Promise((resolve) => setTimeout(resolve, 700, 'old'))");
    const directory = directoryOf({ "mine.ts": slow });
    const plugins = await open({ named: [directory.path], limits: { budgetMs: 5_000 } });
    const before = Array.from({ length: 20 }, () => plugins.transform(aTask({ transformer: "mine" })));
    directory.write("mine.ts", version(2, "return 'new'"));
    await plugins.reload();
    const after = await plugins.transform(aTask({ transformer: "mine" }));
    expect(after).toMatchObject({ kind: "made", payload: { transformerVersion: "2" } });
    for (const outcome of await Promise.all(before)) {
      expect(textOf(outcome)).toBe('"old"');
      expect(outcome).toMatchObject({ payload: { transformerVersion: "1" } });
    }
  });
});

test("a plugin sees an empty environment, and neither arguments nor options of the gateway", async () => {
  process.env.POSTHORN_TEST_SECRET = "not to be seen";
  const directory = directoryOf({
    "mine.ts": pluginSource(
      "mine",
      "return { env: Object.keys(process.env), argv: process.argv.slice(2), flags: process.execArgv.join().includes('import'), keys: Object.keys(input) }",
    ),
  });
  const plugins = await open({ named: [directory.path] });
  delete process.env.POSTHORN_TEST_SECRET;
  expect(JSON.parse(textOf(await plugins.transform(aTask({ transformer: "mine" }))) as string)).toEqual({
    env: [],
    argv: [],
    flags: false,
    keys: ["event", "conversation", "options", "mediaUrl"],
  });
});

test("a plugin may use what Node has: files, requests, timers, dates and digests", async () => {
  const receiver = await startReceiver({ answer: { body: "from afar" } });
  closers.push(receiver.close);
  const body = `return (async () => {
    const [{ readFile }, { createHash }, { setTimeout: wait }] = await Promise.all(
      ["node:fs/promises", "node:crypto", "node:timers/promises"].map((name) => import(name)));
    await wait(1);
    const text = await (await fetch(input.options.url)).text();
    const digest = Buffer.from(await crypto.subtle.digest("SHA-256", Buffer.from("a"))).toString("hex");
    const same = createHash("sha256").update("a").digest("hex") === digest;
    const own = (await readFile(new URL(import.meta.url), "utf8")).includes("defineTransformer");
    class Named extends Error { constructor() { super("mine"); this.toString = () => "named"; } }
    const day = new Intl.DateTimeFormat("de", { timeZone: "UTC" }).format(new Date(0));
    return { text, same, own, day, named: String(new Named()), copy: structuredClone({ a: 1 }) };
  })()`;
  const directory = directoryOf({ "mine.mjs": pluginSource("mine", body) });
  const plugins = await open({ named: [directory.path], limits: { budgetMs: 5_000 } });
  const task = aTask({ transformer: "mine", options: { url: receiver.url } });
  expect(JSON.parse(textOf(await plugins.transform(task)) as string)).toEqual({
    text: "from afar",
    same: true,
    own: true,
    day: "1.1.1970",
    named: "named",
    copy: { a: 1 },
  });
});

test("what a plugin writes to its output is in the log", async () => {
  const directory = directoryOf({
    "mine.ts": pluginSource("mine", "console.log('hello from mine'); return 1"),
  });
  const plugins = await open({ named: [directory.path] });
  await plugins.transform(aTask({ transformer: "mine" }));
  await waitFor(
    "the line",
    () => JSON.stringify(plugins.logged),
    (text) => text.includes("hello from mine"),
  );
});

test("a dependency that is linked from elsewhere uses the gateway's own contract", async () => {
  const directory = directoryOf({});
  const copy = join(directory.path, "node_modules", "posthorn");
  mkdirSync(copy, { recursive: true });
  writeFileSync(join(copy, "package.json"), '{"name":"posthorn","exports":{"./plugin":"./none.js"}}');
  directory.write("mine.ts", pluginSource("mine", "return respond({ body: 'own' })"));
  const plugins = await open({ named: [join(directory.path, "mine.ts")] });
  expect(textOf(await plugins.transform(aTask({ transformer: "mine" })))).toBe("own");
});

test("a plugin that changes the checks on its own side of the border is checked on the gateway's", async () => {
  const directory = directoryOf({
    "mine.mjs": pluginSource(
      "mine",
      "return respond({ body: input.options.long ? 'x'.repeat(300_000) : 'a', headers: input.options.long ? {} : { 'webhook-id': 'mine' } })",
    ).concat("Object.keys = () => [];\nTextEncoder.prototype.encode = (text) => Buffer.from(text);\n"),
  });
  const plugins = await open({ named: [directory.path] });
  expect(await plugins.transform(aTask({ transformer: "mine" }))).toMatchObject({
    kind: "transformer_error",
    message: expect.stringContaining('header "webhook-id" is set by the gateway'),
  });
  expect(await plugins.transform(aTask({ transformer: "mine", options: { long: true } }))).toMatchObject({
    kind: "transformer_error",
    message: "the payload has 300000 bytes, at most 262144 are sent",
  });
});
