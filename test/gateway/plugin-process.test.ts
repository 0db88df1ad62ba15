/** Plugins of the gateway as the process that operators run. */

import { readdirSync, readFileSync } from "node:fs";
import { afterEach, expect, test } from "vitest";
import { openTestDatabase, type TestDatabase } from "../helpers/database.ts";
import { type SpawnedGateway, spawnGateway } from "../helpers/gateway.ts";
import { makePluginDirectory, type PluginDirectory, pluginSource } from "../helpers/plugins.ts";
import { waitFor } from "../helpers/wait.ts";

let database: TestDatabase;
let directory: PluginDirectory;
let gateway: SpawnedGateway;
afterEach(async () => {
  await gateway.close();
  await database.close();
  directory.close();
});

async function start(env: Record<string, string>): Promise<void> {
  database = await openTestDatabase();
  directory = makePluginDirectory({ "mine.ts": pluginSource("mine", "return 1") });
  gateway = await spawnGateway({
    DATABASE_URL: database.url,
    POSTHORN_PLUGINS: directory.path,
    ...env,
  });
}

const loaded = () =>
  gateway.lines
    .filter((line) => line.includes("a plugin is loaded"))
    .map((line) => JSON.parse(line) as { transformer: string; version: string });

test("in production changed files are loaded on SIGHUP, and what does not load stops nothing", async () => {
  await start({ NODE_ENV: "production", POSTHORN_PUBLIC_URL: "https://gateway.example.com" });
  expect(loaded()).toMatchObject([{ transformer: "mine", version: "1" }]);
  directory.write("mine.ts", pluginSource("mine", "return 2", { version: "2" }));
  directory.write("second.mjs", "export default {;\n");
  process.kill(gateway.pid(), "SIGHUP");
  await waitFor("the new version", loaded, (seen) => seen.length === 2, 20_000);
  expect(loaded()[1]).toMatchObject({ transformer: "mine", version: "2" });
  await waitFor(
    "the fault",
    () => gateway.lines,
    (lines) => lines.some((line) => /second\.mjs:1: .*correct the syntax/.test(line)),
    20_000,
  );
  expect((await fetch(`${gateway.url()}/readyz`)).status).toBe(200);
  expect(await gateway.kill("SIGTERM")).toBe(0);
});

test.runIf(process.platform === "linux")(
  "a gateway that is killed leaves no plugin process behind",
  async () => {
    await start({});
    const children = childrenOf(gateway.pid());
    expect(children.filter((pid) => commandOf(pid).includes("plugin-process"))).toHaveLength(1);
    await gateway.kill("SIGKILL");
    const left = () => children.filter((pid) => commandOf(pid).includes("plugin-process"));
    await waitFor("the end of the plugin's process", left, (pids) => pids.length === 0);
  },
);

function childrenOf(parentPid: number): number[] {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return pids.map(Number).filter((pid) => {
    // pid (command) state ppid …; the command may hold anything.
    const [, ppid] = /^\d+ \(.*\) \S (\d+)/s.exec(readProc(pid, "stat")) ?? [];
    return Number(ppid) === parentPid;
  });
}

const commandOf = (pid: number) => readProc(pid, "cmdline");

function readProc(pid: number, name: string): string {
  try {
    return readFileSync(`/proc/${pid}/${name}`, "utf8");
  } catch {
    return "";
  }
}
