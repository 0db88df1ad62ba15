/** Which plugins a command speaks of. They are looked for as the gateway does it. */

import { existsSync, readdirSync } from "node:fs";
import { basename, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { builtinTransformers } from "../../plugins/builtin.ts";
import type { PluginEntry } from "../workers/plugin-protocol.ts";
import { findPlugins } from "../workers/plugin-sources.ts";
import { CommandFault, exitCodes } from "./fault.ts";

const ownDirectory = fileURLToPath(new URL("../../plugins", import.meta.url));

/** What POSTHORN_PLUGINS names: paths and names of packages. */
export function namedInSettings(): string[] {
  return (process.env.POSTHORN_PLUGINS ?? "")
    .split(",")
    .map((piece) => piece.trim())
    .filter(Boolean);
}

/** Where new plugins are put unless told otherwise: the first path that POSTHORN_PLUGINS names, else `plugins`. */
export function newPluginDirectory(): string {
  return (
    namedInSettings().find((named) => /^(\.{0,2}[\\/]|[A-Za-z]:)/.test(named) || existsSync(named)) ??
    "plugins"
  );
}

/**
 * The one plugin of a folder or file.
 *
 * @throws CommandFault if there is none, or more than one
 */
export async function findOnePlugin(path: string): Promise<PluginEntry> {
  const { entries, faults } = await findPlugins({
    named: [resolve(path)],
    workingDirectory: process.cwd(),
    ownDirectory: null,
    ownNames: new Set(),
  });
  const [entry, another] = entries;
  if (entry === undefined) {
    throw new CommandFault(
      faults
        .map(({ message }) => `${path}: ${message}`)
        .join("; ")
        .replace("POSTHORN_PLUGINS", "the command"),
      exitCodes.notFound,
    );
  }
  if (another !== undefined) {
    throw new CommandFault(`${path} holds ${entries.length} plugins: name the folder or file of one of them`);
  }
  return entry;
}

/**
 * All plugins of operators: those in the gateway's own `plugins/`, and those that are named.
 *
 * @param named  elements as in POSTHORN_PLUGINS
 * @throws CommandFault if one of them names nothing
 */
export async function listPlugins(named: readonly string[]): Promise<PluginEntry[]> {
  const { entries, faults } = await findPlugins({
    named,
    workingDirectory: process.cwd(),
    ownDirectory,
    ownNames: new Set(builtinTransformers.map(({ name }) => name)),
  });
  const [fault] = faults;
  if (fault === undefined) return entries;
  throw new CommandFault(`${fault.file}: ${fault.message}`, exitCodes.notFound);
}

/** Tests in a plugin's folder: absolute paths of its `*.test.ts`, `.mts`, `.js` and `.mjs`. */
export function listTests(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((path) => /\.test\.m?[jt]s$/.test(basename(path)) && !/(^|[\\/])node_modules[\\/]/.test(path))
    .sort()
    .map((path) => resolve(folder, path));
}
