/** The README's plugin chapter, followed to the letter: from nothing to a transformer that delivers. */

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, assert, beforeAll, expect, test } from "vitest";
import { openTestDatabase } from "../helpers/database.ts";
import { operatorKey, spawnGateway } from "../helpers/gateway.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const boundMs = 120_000;
const readme = readFileSync(join(root, "README.md"), "utf8");
const chapter = readme.split(/^## /m).find((text) => text.startsWith("A transformer of your own\n"));
assert(chapter !== undefined, "the README has the chapter");
const blocks = [...chapter.matchAll(/^```sh\n(.*?)^```/gms)].map(([, code]) => code!);
const startIndex = blocks.findIndex((block) => /^POSTHORN_PLUGINS=\S+ npm start\n$/.test(block));

const directory = mkdtempSync(join(tmpdir(), "posthorn-tutorial-"));
const env = { POSTHORN_PLUGINS: join(directory, "plugins"), POSTHORN_KEY: operatorKey };
/** What each block before the start of the gateway printed, and what the one after it did. */
let outputs: string[];
let delivered: string;

beforeAll(async () => {
  outputs = await runInBash(blocks.slice(0, startIndex), env);
  const database = await openTestDatabase();
  const gateway = await spawnGateway({ DATABASE_URL: database.url, POSTHORN_PLUGINS: env.POSTHORN_PLUGINS });
  try {
    const delivery = blocks.slice(startIndex + 1);
    const receiver = { POSTHORN_URL: gateway.url(), RECEIVER_PORT: String(await findFreePort()) };
    const cleanUp = 'npx posthorn webhooks delete "$WEBHOOK_ID"\nkill $!\n';
    assert(chapter.includes('`npx posthorn webhooks delete "$WEBHOOK_ID"` and `kill $!`'));
    [delivered] = (await runInBash([...delivery, cleanUp], { ...env, ...receiver })) as [string];
  } finally {
    await gateway.close();
    await database.close();
  }
}, 2 * boundMs);

afterAll(() => rmSync(directory, { recursive: true, force: true }));

test("the chapter has the blocks that are run here", () => {
  expect(blocks).toHaveLength(7);
  expect(startIndex).toBe(5);
});

test("the first block begins a plugin", () => {
  expect(outputs[0]).toContain(join(env.POSTHORN_PLUGINS, "one-line"));
});

test("the reader's own test passes, and every sample event", () => {
  expect(outputs[3]).toContain("one-line 1.0.0, for message.received, pure\nkeeps to the contract on ");
  expect(outputs[3]).toMatch(/pass 2\n/);
  expect(outputs[3]).toMatch(/fail 0\n/);
});

test("the body and its content type are printed as the chapter shows them", () => {
  const shown = /^```\n(content-type:.*?)^```/ms.exec(chapter)?.[1];
  expect(outputs[4]?.trim()).toBe(shown?.trim());
});

test("the gateway delivers what the transformer makes, with the webhook's option", () => {
  const line = /The endpoint prints `([^`]+)`/.exec(chapter)?.[1];
  expect(line).toContain("Support | ");
  expect(delivered.split("\n")).toContain(line);
});

/** One shell for all blocks, as a reader has; gives what each of them printed. */
async function runInBash(code: readonly string[], variables: Record<string, string>): Promise<string[]> {
  const endOfBlock = "--- end of block ---";
  // What npx would run, without the second that npm takes to find it.
  const npx = `npx() { shift; "${process.execPath}" "${join(root, "server/entry.js")}" "$@"; }\n`;
  const script = npx + code.map((block) => `${block}\necho '${endOfBlock}'\n`).join("");
  const bash = spawn("bash", ["-euo", "pipefail", "-c", script], {
    cwd: root,
    env: { PATH: process.env.PATH, HOME: directory, ...variables },
    stdio: ["ignore", "pipe", "pipe"],
    // A process group of its own, so that an endpoint that a failure leaves behind can be ended with it.
    detached: true,
  });
  const endGroup = () => {
    try {
      process.kill(-bash.pid!, "SIGKILL");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
    }
  };
  const timer = setTimeout(endGroup, boundMs);
  let output = "";
  let errors = "";
  bash.stdout.on("data", (chunk: Buffer) => {
    output += chunk;
  });
  bash.stderr.on("data", (chunk: Buffer) => {
    errors += chunk;
  });
  bash.once("exit", endGroup);
  const exitCode = await new Promise((resolve) => bash.once("close", resolve));
  clearTimeout(timer);
  assert(exitCode === 0, `the README's commands failed:\n${output}\n${errors}`);
  return output.split(endOfBlock);
}

async function findFreePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const address = server.address();
  assert(typeof address === "object" && address !== null);
  await new Promise((resolve) => server.close(resolve));
  return address.port;
}
