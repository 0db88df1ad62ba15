/** `posthorn transform`: what a transformer makes of an event, without a gateway. */

import { readFileSync } from "node:fs";
import type { JsonObject } from "@bufbuild/protobuf";
import type { Command } from "commander";
import { builtinTransformers } from "../../plugins/builtin.ts";
import { CommandFault, exitCodes } from "./fault.ts";
import { jsonObject, list } from "./options.ts";
import { printNote } from "./output.ts";
import type { PluginOrder, Transformed } from "./plugin-child.ts";
import { listPlugins, namedInSettings } from "./plugin-entries.ts";
import { runPlugin, showLoadFault } from "./plugin-run.ts";

interface TransformOptions {
  options?: JsonObject;
  plugins?: string[];
  headers?: true;
}

export function addTransform(transform: Command): void {
  transform
    .argument("<name>", "name of the transformer")
    .option("--options <json>", "transformer_options as a webhook would have them; default {}", jsonObject)
    .option(
      "--plugins <paths>",
      "directories, folders or files with plugins; default: what POSTHORN_PLUGINS names",
      list,
    )
    .option("--headers", "print content type and headers before each body")
    .action(print);
}

/** Reads a body of a WhatsApp webhook, or one message or status, from standard input. */
async function print(name: string, { options = {}, plugins, headers }: TransformOptions): Promise<void> {
  const json = readInput();
  const plugin = await find(name, plugins ?? namedInSettings());
  const events: Transformed[] = [];
  await runPlugin({ kind: "transform", plugin, options, json }, (news) => {
    if (news.kind === "transformed") events.push(...news.events);
    else if (news.kind === "misused") throw new CommandFault(news.message);
  });
  for (const event of events) printOne(event, headers === true);
  const failed = events.find((event) => event.kind === "failed");
  if (failed === undefined) return;
  throw new CommandFault(`${name} fails on a ${failed.type}: ${failed.message}`, exitCodes.failed);
}

function readInput(): string {
  try {
    return readFileSync(0, "utf8");
  } catch (error) {
    throw new CommandFault(`standard input cannot be read: ${(error as Error).message}`);
  }
}

function printOne(event: Transformed, isWithHeaders: boolean): void {
  if (event.kind === "not_handled") printNote(`${event.type}: not among what it handles, nothing is sent`);
  if (event.kind === "skipped") printNote(`${event.type}: skipped, nothing is sent`);
  if (event.kind !== "made") return;
  if (isWithHeaders) {
    const lines = Object.entries({ "content-type": event.contentType, ...event.headers });
    process.stdout.write(`${lines.map(([header, value]) => `${header}: ${value}\n`).join("")}\n`);
  }
  process.stdout.write(event.body);
  process.stdout.write("\n");
}

/** Ours first, since no plugin can take a name of ours; then operators' plugins, until one has the name. */
async function find(name: string, named: readonly string[]): Promise<PluginOrder["plugin"]> {
  if (builtinTransformers.some((transformer) => transformer.name === name)) return { kind: "builtin", name };
  const names: string[] = builtinTransformers.map((transformer) => transformer.name);
  for (const plugin of await listPlugins(named)) {
    let found: string | undefined;
    await runPlugin({ kind: "load", plugin, options: {} }, (news) => {
      if (news.kind === "loaded") found = news.facts.name;
      // Another plugin's fault is no reason not to look further; if it is this one's, it is told here.
      if (news.kind === "refused") for (const fault of news.faults) printNote(showLoadFault(fault));
    });
    if (found === name) return plugin;
    if (found !== undefined) names.push(found);
  }
  throw new CommandFault(
    `there is no transformer ${name}; there are ${names.sort().join(", ")} (--plugins says where to look for others)`,
    exitCodes.notFound,
  );
}
