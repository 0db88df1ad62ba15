/** `posthorn plugin` and `posthorn transform`: files and a terminal are all they need. */

import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { sampleBodies } from "../../plugins/testing/bodies.ts";
import { startTestGateway } from "../helpers/gateway.ts";
import { type CommandOptions, openPosthorn, type Posthorn } from "./posthorn.ts";

// Each command starts two processes, and other tests may run beside it.
vi.setConfig({ testTimeout: 60_000 });

let posthorn: Posthorn;
beforeEach(async () => {
  // No gateway runs there: these commands do without.
  posthorn = await openPosthorn(() => "http://127.0.0.1:1");
});
afterEach(() => posthorn.close());

const run = (args: string[], options?: CommandOptions) => posthorn.run(args, options);

describe("plugin new", () => {
  test("writes a plugin that passes its own test and every sample event", async () => {
    const made = await run(["plugin", "new", "my-format"]);
    expect(made).toMatchObject({ code: 0, stdout: `${join(posthorn.directory, "plugins", "my-format")}\n` });
    expect((await readdir(join(posthorn.directory, "plugins", "my-format"))).sort()).toEqual([
      "README.md",
      "options.ts",
      "package.json",
      "samples",
      "transformer.test.ts",
      "transformer.ts",
      "tsconfig.json",
    ]);
    expect(made.stderr).toContain("npx posthorn plugin test plugins/my-format\n");

    const tested = await run(["plugin", "test", "plugins/my-format"]);
    expect(tested).toMatchObject({ code: 0, stderr: "" });
    expect(tested.stdout).toMatch(
      /^my-format 0\.1\.0, for message\.received, pure\nkeeps to the contract on \d+ sample/,
    );
    expect(tested.stdout).toMatch(/pass 4\n/);
    expect(tested.stdout).toMatch(/fail 0\n/);
  });

  test("writes into the first directory of POSTHORN_PLUGINS, or where it is told to", async () => {
    const env = { POSTHORN_PLUGINS: "./ours,./theirs" };
    await run(["plugin", "new", "a"], { env });
    await run(["plugin", "new", "b", "--dir", "deep/down"], { env });
    expect(await readdir(join(posthorn.directory, "ours"))).toEqual(["a"]);
    expect(await readdir(join(posthorn.directory, "deep/down"))).toEqual(["b"]);
  });

  test("overwrites nothing", async () => {
    await write("plugins/taken/keep.txt", "mine");
    await write("plugins/file", "mine");
    for (const name of ["taken", "file"]) {
      const { code, stderr } = await run(["plugin", "new", name]);
      expect(code).toBe(6);
      expect(stderr).toMatch(/^posthorn: .*is there already: choose another name, or another --dir\n$/);
    }
    expect(await readdir(join(posthorn.directory, "plugins/taken"))).toEqual(["keep.txt"]);
  });

  test.each(["My-Format", "../up"])("refuses the name %j", async (name) => {
    const { code, stderr } = await run(["plugin", "new", name]);
    expect(code).toBe(2);
    expect(stderr).toContain("lower-case letters");
    expect(await readdir(posthorn.directory)).toEqual([]);
  });

  test("refuses the name of a transformer that comes with the gateway", async () => {
    const { code, stderr } = await run(["plugin", "new", "intelli", "--dir", "ours"]);
    expect(code).toBe(6);
    expect(stderr).toContain(
      "intelli is the name of a transformer that comes with the gateway: choose another",
    );
    expect(await readdir(posthorn.directory)).toEqual([]);
  });
});

describe("plugin test tells by file and line", () => {
  test("every field of a transformer that is wrong", async () => {
    await write(
      "wrong.ts",
      `import { defineTransformer } from "posthorn/plugin";
       export default defineTransformer({
         name: "Wrong",
         version: "1.0.0",
         description: "",
         handels: ["message.received"],
         transform: 3,
       } as never);`,
    );
    const { code, stderr } = await run(["plugin", "test", "wrong.ts"]);
    expect(code).toBe(1);
    const lines = stderr.trimEnd().split("\n");
    expect(lines).toHaveLength(5);
    expect(lines[0]).toMatch(/wrong\.ts:3: "name" must be/);
    expect(lines[1]).toMatch(/wrong\.ts:2: "handles" must name/);
    expect(lines[2]).toMatch(/wrong\.ts:7: "transform" must be a function/);
    expect(lines[3]).toMatch(
      /wrong\.ts:6: "handels" is no field of a transformer: did you mean "handles"\?$/,
    );
    expect(lines[4]).toBe("posthorn: 4 faults in wrong.ts");
  });

  test.each([
    ["a syntax error", "const a = 1;\nexport default {{;", /odd\.ts:2: .*: correct the syntax/],
    ["what it throws", "\nthrow new Error('no luck');", /odd\.ts:2: .*no luck/],
    [
      "an import that is not there",
      "\nimport './missing.ts';\nexport default 1;",
      /odd\.ts:2: .*missing\.ts.*correct the path/,
    ],
    [
      "a default export of another kind",
      "\n\nexport default { name: 'odd' };",
      /odd\.ts:3: .*defineTransformer/,
    ],
    ["no default export", "export const a = 1;", /odd\.ts: .*defineTransformer/],
  ])("%s", async (_what, code, message) => {
    await write("odd.ts", code);
    const result = await run(["plugin", "test", "odd.ts"]);
    expect(result.code).toBe(1);
    expect(result.stderr).toMatch(message);
  });
});

describe("plugin test", () => {
  test("finds what a transformer does wrong, where there is no test at all", async () => {
    await writePlugin("clock.ts", { pure: "true", transform: "() => Date.now()" });
    const { code, stderr } = await run(["plugin", "test", "clock.ts"]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^clock\.ts: text \(message\.received\) and \d+ more: it says "pure": true/);
  });

  test("names the sample on which a transformer ends its process", async () => {
    const transform = "({ event }) => (event.item.type === 'image' ? process.exit(0) : 1)";
    await writePlugin("exit.ts", { transform });
    const { code, stderr } = await run(["plugin", "test", "exit.ts"]);
    expect(code).toBe(1);
    expect(stderr).toBe('posthorn: it ended its process (exit code 0) on the sample "image"\n');
  });

  test("keeps what a plugin prints away from what it prints itself, and gives it an empty environment", async () => {
    await writePlugin("loud.ts", {
      transform: "() => { console.log('env', JSON.stringify(process.env)); return 1; }",
    });
    const { code, stdout, stderr } = await run(["plugin", "test", "loud.ts"], { env: { SECRET: "hidden" } });
    expect(code).toBe(0);
    expect(stdout).not.toContain("env");
    expect(stderr).toContain("env {");
    expect(stderr).not.toContain("hidden");
  });

  test("runs the tests in the folder, and fails with them", async () => {
    await writePlugin("mine/transformer.ts", {});
    await write(
      "mine/a.test.ts",
      "import test from 'node:test';\ntest('is never right', () => { throw new Error('no'); });",
    );
    const { code, stdout, stderr } = await run(["plugin", "test", "mine"]);
    expect(code).toBe(1);
    expect(stdout).toContain("is never right");
    expect(stderr).toBe("posthorn: the plugin's own tests fail\n");
  });

  test("takes options that the transformer cannot do without", async () => {
    await writePlugin("needy.ts", { optionsSchema: "{ type: 'object', required: ['url'] }" });
    const without = await run(["plugin", "test", "needy.ts"]);
    expect(without).toMatchObject({ code: 1 });
    expect(without.stderr).toContain("must have required property 'url'");
    expect(await run(["plugin", "test", "needy.ts", "--options", '{"url":"x"}'])).toMatchObject({ code: 0 });
  });

  test.each([
    ["nowhere", 3, /there is no such file or directory/],
    ["empty", 3, /there is no plugin in this directory/],
    ["many", 2, /many holds 2 plugins: name the folder or file of one of them/],
  ])("of %s ends with %i", async (path, exitCode, message) => {
    await mkdir(join(posthorn.directory, "empty"));
    await writePlugin("many/a.ts", {});
    await writePlugin("many/b.ts", {});
    const { code, stderr } = await run(["plugin", "test", path]);
    expect(stderr).toMatch(message);
    expect(code).toBe(exitCode);
  });
});

describe("transform", () => {
  const message =
    '{"from":"15550100200","id":"wamid.1","timestamp":"1772712000","type":"text","text":{"body":"Hi"},"x":1.50}';

  test("prints the body and nothing else", async () => {
    const result = await run(["transform", "raw"], { input: message });
    expect(result).toMatchObject({ code: 0, stdout: `${message}\n`, stderr: "" });
  });

  test("prints content type and headers where they are asked for", async () => {
    await writePlugin("plugins/plain.ts", {
      transform:
        "() => respond({ body: 'Hi', contentType: 'text/plain', headers: { 'x-kind': 'greeting' } })",
    });
    const result = await run(["transform", "mine", "--plugins", "plugins", "--headers"], { input: message });
    expect(result).toMatchObject({ code: 0, stdout: "content-type: text/plain\nx-kind: greeting\n\nHi\n" });
  });

  test("finds plugins by POSTHORN_PLUGINS, beside one that does not load, and passes options on", async () => {
    await write("plugins/a-broken.ts", "export default");
    await writePlugin("plugins/b/transformer.ts", { transform: "({ options }) => options" });
    const env = { POSTHORN_PLUGINS: "./plugins" };
    const result = await run(["transform", "mine", "--options", '{"a":"b"}'], { env, input: message });
    expect(result).toMatchObject({ code: 0, stdout: '{"a":"b"}\n' });
    expect(result.stderr).toMatch(/^plugins\/a-broken\.ts:1: /);
  });

  test("prints a body for each event of a whole webhook body, and tells what is not sent", async () => {
    const value = {
      metadata: { display_phone_number: "15550100100", phone_number_id: "7" },
      messages: [JSON.parse(message), { ...JSON.parse(message), id: "wamid.2", type: "system", system: {} }],
      statuses: [{ id: "wamid.3", status: "sent", recipient_id: "15550100200" }],
    };
    const body = {
      object: "whatsapp_business_account",
      entry: [{ id: "1", changes: [{ field: "messages", value }] }],
    };
    const { code, stdout, stderr } = await run(["transform", "insights"], { input: JSON.stringify(body) });
    expect(code).toBe(0);
    expect(stdout.trimEnd().split("\n")).toHaveLength(1);
    expect(JSON.parse(stdout)).toMatchObject({
      last_message_of_user: "Hi",
      user_last_message_time: 1772712000,
    });
    expect(stderr).toContain("message.received: skipped, nothing is sent\n");
    expect(stderr).toContain("message.status: not among what it handles, nothing is sent\n");
  });

  test.each([
    ["no JSON", ["transform", "raw"], "{", 2, /not JSON: /],
    ["no WhatsApp", ["transform", "raw"], "{}", 2, /not a body of a WhatsApp webhook/],
    [
      "an unknown transformer",
      ["transform", "nobody"],
      message,
      3,
      /there is no transformer nobody; there are cloudevents, /,
    ],
    [
      "options that are refused",
      ["transform", "slack", "--options", '{"chanel":"#x"}'],
      message,
      2,
      /slack does not take these options: "chanel" is no option of it/,
    ],
  ])("%s ends with an exit code and one line", async (_what, args, input, exitCode, text) => {
    const { code, stdout, stderr } = await run(args as string[], { input: input as string });
    expect([code, stdout]).toEqual([exitCode, ""]);
    expect(stderr).toMatch(/^posthorn: [^\n]+\n$/);
    expect(stderr).toMatch(text as RegExp);
  });

  test("tells what a transformer throws", async () => {
    await writePlugin("mine.ts", { transform: "() => { throw new Error('oh no'); }" });
    const { code, stderr } = await run(["transform", "mine", "--plugins", "./mine.ts"], { input: message });
    expect([code, stderr]).toEqual([1, "posthorn: mine fails on a message.received: Error: oh no\n"]);
  });
});

test("transform makes what the gateway's PreviewTransform makes of the same body", async () => {
  await writePlugin("seen.ts", {
    history: "50",
    // The event's id and the receive time are new for each; a link to media is for stored messages only.
    transform: `({ event: { id, receivedAt, ...event }, conversation, options }) => ({ event, conversation, options })`,
  });
  const gateway = await startTestGateway({
    env: { POSTHORN_PLUGINS: join(posthorn.directory, "seen.ts") },
  });
  try {
    const names = ["text", "sent image", "status failed", "text of a user without a number"];
    const input = JSON.stringify({
      object: "whatsapp_business_account",
      entry: sampleBodies().flatMap(([name, body]) => (names.includes(name) ? (body.entry as object[]) : [])),
    });
    const options = { a: [1, "b"] };
    const args = ["transform", "mine", "--plugins", "seen.ts", "--options", JSON.stringify(options)];
    const printed = (await run(args, { input })).stdout.trimEnd().split("\n");
    expect(printed).toHaveLength(names.length);
    for (const [index, line] of printed.entries()) {
      const { body } = await gateway.call("TransformerService/PreviewTransform", {
        transformer: "mine",
        transformer_options: options,
        body: input,
        event_index: index,
      });
      expect(JSON.parse(line)).toEqual(JSON.parse(Buffer.from(body.body, "base64").toString()));
    }
  } finally {
    await gateway.close();
  }
});

async function write(path: string, text: string): Promise<void> {
  const file = join(posthorn.directory, path);
  await mkdir(join(file, ".."), { recursive: true });
  await writeFile(file, text);
}

/** @param fields  source text of fields of the transformer `mine` */
async function writePlugin(path: string, fields: Record<string, string>): Promise<void> {
  const all = {
    name: "'mine'",
    version: "'1.0.0'",
    description: "''",
    handles: "['message.*']",
    transform: "() => 1",
    ...fields,
  };
  const listed = Object.entries(all).map(([name, text]) => `  ${name}: ${text},`);
  await write(
    path,
    `import { defineTransformer, respond } from "posthorn/plugin";\nexport { respond };\n` +
      `export default defineTransformer({\n${listed.join("\n")}\n});\n`,
  );
}

test("the scaffold's README names the folder as it is", async () => {
  await run(["plugin", "new", "my-format"]);
  const readme = await readFile(join(posthorn.directory, "plugins/my-format/README.md"), "utf8");
  expect(readme).toMatch(/^# `my-format`\n/);
});
