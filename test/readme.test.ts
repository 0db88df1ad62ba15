import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { chmod, mkdtemp, realpath, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Setting, settings } from "../server/settings.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const readme = readFileSync(join(root, "README.md"), "utf8");
const { scripts } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const [startCommand, ...commands] = blocksOf("sh", sectionOf("Try it"));
const commandsBoundMs = 30_000;
const shownAnswers = blocksOf("json", sectionOf("Try it"));

describe("the commands of the README, pasted one after the other", () => {
  let directory: string;
  let gateway: ChildProcess;
  /** What each block printed. */
  let outputs: string[];

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "posthorn-readme-"));
    for (const tool of ["curl", "openssl", "bash"]) {
      const { error } = spawnSync(tool, ["--version"]);
      assert(error === undefined, `The README's commands need ${tool}, which is not installed here`);
    }
    await chmod(directory, 0o711); // As root the embedded PostgreSQL runs as another user, who must get in.
    const started = await start(directory);
    gateway = started.gateway;
    outputs = await runInBash(commands, {
      POSTHORN_URL: started.url,
      POSTHORN_DATA_DIR: join(directory, "data"),
      RECEIVER_PORT: String(await findFreePort()),
      TMPDIR: directory,
    });
  });

  afterAll(async () => {
    if (gateway !== undefined && gateway.exitCode === null) {
      const ended = new Promise((resolve) => gateway.once("exit", resolve));
      gateway.kill("SIGTERM");
      await ended;
    }
    // A link to elsewhere if the temporary directory is closed to PostgreSQL's user.
    const databaseDir = await realpath(join(directory, "data", "postgres")).catch(() => null);
    if (databaseDir !== null) await rm(databaseDir, { recursive: true, force: true });
    await rm(directory, { recursive: true, force: true });
  });

  test("register a signed webhook, with the answer's fields as shown", () => {
    const answer = JSON.parse(outputs[1]!);
    expect(Object.keys(answer)).toEqual(Object.keys(JSON.parse(shownAnswers[0]!)));
    expect(answer).toMatchObject({ active_signature: true, transformer: "intelli" });
    expect(answer.signature_secret).toMatch(/^whsec_/);
  });

  test("send a body that is accepted and reaches the endpoint, whose own check takes the signature", () => {
    expect(outputs[3]).toMatch(/^HTTP\/1\.1 200 /m);
    const [webhookId, payload] = receivedIn(outputs[3]!);
    expect(webhookId).toMatch(/^[0-9a-f-]{36}$/);
    expect(payload).toMatchObject({ event: "message.received", message: { text: { body: "Hello!" } } });
    const shown = /^\{"event":.*$/m.exec(sectionOf("Try it"))?.[0] ?? "";
    expect(Object.keys(payload)).toEqual(Object.keys(JSON.parse(shown)));
  });

  test("list the delivery as delivered, with the fields shown", () => {
    const [delivery] = JSON.parse(outputs[4]!).deliveries;
    expect(delivery).toMatchObject({ state: "delivered", attempt_count: 1, transformer: "intelli" });
    expect(Object.keys(delivery)).toEqual(Object.keys(JSON.parse(shownAnswers[1]!).deliveries[0]));
  });

  test("show the one attempt and the very bytes that were sent", () => {
    const { attempts, body } = JSON.parse(outputs[5]!);
    expect(attempts).toMatchObject([{ number: 1, outcome: "succeeded", response_status: 200 }]);
    expect(JSON.parse(Buffer.from(body, "base64").toString("utf8"))).toEqual(receivedIn(outputs[3]!)[1]);
  });

  test("send it again, the same bytes under the same webhook-id", () => {
    expect(receivedIn(outputs[6]!)).toEqual(receivedIn(outputs[3]!));
  });

  test("delete the webhook", () => {
    expect(JSON.parse(outputs[7]!)).toEqual({});
  });
});

test("the README's table of settings says what --help says", () => {
  const rows = Object.entries<Setting>(settings).map(
    ([name, { unit, default: otherwise, effect }]) => `| \`${name}\` | ${unit} | ${otherwise} | ${effect} |`,
  );
  expect(sectionOf("Settings").match(/^\| `.*$/gm)).toEqual(rows);
});

test("every file that the README links to is there", () => {
  const paths = [...readme.matchAll(/\]\(([^)#:]+)\)/g)].map(([, path]) => path!);
  expect(paths.length).toBeGreaterThan(5);
  expect(paths.filter((path) => !existsSync(join(root, path)))).toEqual([]);
});

test("every npm script that the README names is there", () => {
  const names = [...readme.matchAll(/npm (?:run ([a-z:]+)|(start|test))/g)].map(
    ([, name, short]) => name ?? short!,
  );
  expect(names.filter((name) => !Object.hasOwn(scripts, name))).toEqual([]);
});

function sectionOf(heading: string): string {
  const section = readme.split(/^## /m).find((text) => text.startsWith(`${heading}\n`));
  assert(section !== undefined, `the README has a section ${heading}`);
  return section;
}

function blocksOf(language: string, text: string): string[] {
  return [...text.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\``, "gms"))].map(([, code]) => code!);
}

/**
 * Runs what the README's start command runs, on a free port and a directory of its own, without regard to a `.env`.
 * Not by way of npm: the shell that npm puts in between does not pass signals on, so that the gateway would stay.
 */
async function start(directory: string): Promise<{ gateway: ChildProcess; url: string }> {
  const [, assignments] = /^((?:\w+=\S+ )*)npm start\n$/.exec(startCommand ?? "") ?? [];
  assert(assignments !== undefined, "the README's first command is npm start with its settings in front");
  const [, script] = /^(?:exec )?node (\S+)$/.exec(scripts.start) ?? [];
  assert(script !== undefined, "npm start runs node with a script");
  const gateway = spawn(process.execPath, [script], {
    cwd: root,
    env: {
      ...process.env,
      ...Object.fromEntries(Object.keys(settings).map((name) => [name, ""])),
      ...Object.fromEntries(
        assignments
          .split(" ")
          .filter(Boolean)
          .map((pair) => pair.split("=")),
      ),
      PORT: "0",
      POSTHORN_DATA_DIR: join(directory, "data"),
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  const url = await new Promise<string>((resolve, reject) => {
    const look = (chunk: Buffer) => {
      output += chunk;
      const found = /"url":"(http[^"]+)"/.exec(output)?.[1];
      if (found !== undefined) resolve(found);
    };
    gateway.stdout.on("data", look);
    gateway.stderr.on("data", look);
    gateway.once("error", reject);
    gateway.once("exit", () => reject(new Error(`the gateway ended:\n${output}`)));
  });
  return { gateway, url };
}

/** One shell for all blocks, as a reader has; gives what each of them printed. */
async function runInBash(blocks: string[], env: Record<string, string>): Promise<string[]> {
  const endOfBlock = "--- end of block ---";
  const script = blocks.map((block) => `${block}\necho '${endOfBlock}'\n`).join("");
  const bash = spawn("bash", ["-euo", "pipefail", "-c", script], {
    cwd: root,
    env: { ...process.env, ...env },
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
  const timer = setTimeout(endGroup, commandsBoundMs);
  let output = "";
  bash.stdout.on("data", (chunk: Buffer) => {
    output += chunk;
  });
  let errors = "";
  bash.stderr.on("data", (chunk: Buffer) => {
    errors += chunk;
  });
  bash.once("exit", endGroup);
  const exitCode = await new Promise((resolve) => bash.once("close", resolve));
  clearTimeout(timer);
  assert.equal(exitCode, 0, `the README's commands failed:\n${output}\n${errors}`);
  return output.split(endOfBlock);
}

/** What the README's endpoint printed: `webhook-id` and payload of a request that it found genuine. */
function receivedIn(output: string): [string | undefined, Record<string, unknown>] {
  const [, webhookId, payload] = /^(\S+) genuine: true\n(.*)$/m.exec(output) ?? [];
  return [webhookId, JSON.parse(payload ?? "null")];
}

async function findFreePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const address = server.address();
  assert(typeof address === "object" && address !== null);
  await new Promise((resolve) => server.close(resolve));
  return address.port;
}
