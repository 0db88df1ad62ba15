/** `posthorn plugin`: starts a transformer of one's own, and tests one. Works on files, without a gateway. */

import { spawn } from "node:child_process";
import { statSync } from "node:fs";
import type { JsonObject } from "@bufbuild/protobuf";
import type { Command } from "commander";
import type { PluginEntry } from "../workers/plugin-protocol.ts";
import { CommandFault, exitCodes } from "./fault.ts";
import { jsonObject } from "./options.ts";
import { printNote } from "./output.ts";
import type { PluginNews } from "./plugin-child.ts";
import { findOnePlugin, listTests, newPluginDirectory } from "./plugin-entries.ts";
import { runPlugin, showLoadFault, showPath } from "./plugin-run.ts";
import { writeScaffold } from "./plugin-scaffold.ts";

export function addPlugin(plugin: Command): void {
  plugin
    .command("new")
    .description(
      "writes a folder with a transformer, its options, a README, sample events and a passing test",
    )
    .argument("<name>", "name of the transformer: small letters, digits and hyphens")
    .option(
      "--dir <directory>",
      "where the folder is made; default: the first path of POSTHORN_PLUGINS, else plugins",
    )
    .action(create);

  plugin
    .command("test")
    .description("runs a transformer on sample events of every kind, and the tests (*.test.ts) in its folder")
    .argument("<path>", "folder or file of the plugin")
    .option("--options <json>", "transformer_options to run it with; default {}", jsonObject)
    .action(test);
}

async function create(name: string, { dir }: { dir?: string }): Promise<void> {
  const folder = await writeScaffold(name, dir ?? newPluginDirectory());
  const shown = showPath(folder);
  process.stdout.write(`${folder}\n`);
  printNote("Its transformer.ts is yours to change. See what comes of it:");
  printNote(`  npx posthorn plugin test ${shown}`);
  printNote(`  npx posthorn transform ${name} --plugins ${shown} < ${shown}/samples/text.json`);
}

async function test(path: string, { options = {} }: { options?: JsonObject }): Promise<void> {
  const plugin = await findOnePlugin(path);
  await check(plugin, path, options);
  // Beside a plugin that is a single file may lie the tests of others.
  const tests = statSync(path).isDirectory() ? listTests(path) : [];
  if (tests.length === 0) printNote(`${path} has no tests of its own (*.test.ts)`);
  else if ((await runTests(tests)) !== 0) {
    throw new CommandFault("the plugin's own tests fail", exitCodes.failed);
  }
}

/** @throws CommandFault; every fault is told by file and line, or by sample, before */
async function check(plugin: PluginEntry, path: string, options: JsonObject): Promise<void> {
  const faults: string[] = [];
  await runPlugin({ kind: "check", plugin, options }, (news) => {
    if (news.kind === "refused") faults.push(...news.faults.map(showLoadFault));
    if (news.kind === "misused") faults.push(news.message);
    if (news.kind === "checked") faults.push(...news.faults.map((fault) => `${path}: ${fault}`));
    printProgress(news);
  });
  if (faults.length === 0) return;
  for (const fault of faults) printNote(fault);
  throw new CommandFault(
    `${faults.length === 1 ? "1 fault" : `${faults.length} faults`} in ${path}`,
    exitCodes.failed,
  );
}

function printProgress(news: PluginNews): void {
  if (news.kind === "loaded") {
    const { name, version, handles, isPure } = news.facts;
    process.stdout.write(`${name} ${version}, for ${handles.join(", ")}${isPure ? ", pure" : ""}\n`);
  }
  if (news.kind !== "checked" || news.cost === null) return;
  const { medianUs, p99Us, slowest } = news.cost;
  process.stdout.write(
    `keeps to the contract on ${news.sampleCount} sample events\n` +
      `takes ${medianUs.toFixed(1)} µs for an event at the median, ${p99Us.toFixed(1)} µs at the 99th percentile, ` +
      `longest for the sample ${JSON.stringify(slowest.name)} (its median is ${slowest.medianUs.toFixed(1)} µs)\n`,
  );
}

/** Runs them with Node's own runner, so that a plugin needs nothing installed. */
async function runTests(files: readonly string[]): Promise<number> {
  // Set where this command is itself run by such a test: its reports would then be for a machine.
  const { NODE_TEST_CONTEXT: _context, ...env } = process.env;
  const imports = new URL("./plugin-imports.ts", import.meta.url).href;
  const child = spawn(process.execPath, ["--import", imports, "--test", "--test-timeout=60000", ...files], {
    env,
    stdio: ["ignore", "inherit", "inherit"],
  });
  return await new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => resolve(code ?? exitCodes.failed));
  });
}
