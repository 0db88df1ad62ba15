/**
 * Where operators' plugins are: the gateway's own `plugins/` and what POSTHORN_PLUGINS names. Looks at names and at
 * `package.json` only; no code of a plugin runs here.
 *
 * An element of POSTHORN_PLUGINS is a path (of one plugin's file, of one plugin's folder, or of a folder with plugins in
 * it) or the name of a package, which is looked for as an import in the working directory would be.
 */

import { readdir, readFile, stat } from "node:fs/promises";
import { isAbsolute, join, resolve } from "node:path";
import type { LoadFault, PluginEntry } from "./plugin-protocol.ts";

export interface PluginSources {
  /** Each plugin once, in the order in which names are given away. */
  entries: PluginEntry[];
  /** What names no plugin. */
  faults: LoadFault[];
}

export interface SourceSettings {
  /** Elements of POSTHORN_PLUGINS. */
  named: readonly string[];
  /** Relative paths and packages are looked for from here. */
  workingDirectory: string;
  /** The gateway's own `plugins/`; null = do not look there. */
  ownDirectory: string | null;
  /** Folders of it that come with the gateway. */
  ownNames: ReadonlySet<string>;
}

/** More are a mistake in the setting, and each of them is a process. */
const entriesMax = 32;
const filePattern = /^[^.].*\.(ts|mts|cts|js|mjs|cjs)$/;
const otherFilePattern = /\.d\.[mc]?ts$|\.(test|spec)\.[mc]?[tj]s$/;
const entryNames = ["transformer", "index"].flatMap((name) =>
  [".ts", ".mts", ".js", ".mjs", ".cjs"].map((ending) => name + ending),
);

export async function findPlugins(settings: SourceSettings): Promise<PluginSources> {
  const entries = new Map<string, PluginEntry>();
  const faults: LoadFault[] = [];
  const add = (found: readonly PluginEntry[]) => {
    for (const entry of found) entries.set(entry.kind === "file" ? entry.path : entry.name, entry);
  };
  add(await findOwn(settings));
  for (const named of settings.named) {
    const found = await findNamed(named, settings.workingDirectory);
    if (Array.isArray(found)) add(found);
    else faults.push({ file: named, line: null, message: found });
  }
  const list = [...entries.values()];
  for (const beyond of list.slice(entriesMax)) {
    const file = beyond.kind === "file" ? beyond.path : beyond.name;
    const message = `there are more than ${entriesMax} plugins: take some out of POSTHORN_PLUGINS`;
    faults.push({ file, line: null, message });
  }
  return { entries: list.slice(0, entriesMax), faults };
}

/** Folders with a `transformer` file that somebody has added; the others there are the gateway's. */
async function findOwn({ ownDirectory, ownNames }: SourceSettings): Promise<PluginEntry[]> {
  if (ownDirectory === null) return [];
  const found: PluginEntry[] = [];
  for (const item of await readdir(ownDirectory, { withFileTypes: true })) {
    if (!item.isDirectory() || ownNames.has(item.name)) continue;
    const path = await findEntryFile(join(ownDirectory, item.name));
    if (path !== null && /[\\/]transformer\.\w+$/.test(path)) found.push({ kind: "file", path });
  }
  return sorted(found);
}

/** The plugins of an element, or what is wrong with it. */
async function findNamed(named: string, workingDirectory: string): Promise<PluginEntry[] | string> {
  const path = resolve(workingDirectory, named);
  const isPath = isAbsolute(named) || /^\.\.?([\\/]|$)/.test(named);
  const what = await kindOf(path);
  if (what === "file") return [{ kind: "file", path }];
  if (what === "directory") {
    const found = await findInDirectory(path);
    return found.length > 0
      ? found
      : "there is no plugin in this directory: a plugin is a .ts, .js or .mjs file, or a folder with a transformer.ts, an index.ts or a package.json that names its main file";
  }
  if (isPath) return "there is no such file or directory: correct the path in POSTHORN_PLUGINS";
  if (!/^(@[\w.-]+\/)?[\w.-]+(\/[\w./-]+)?$/.test(named)) {
    return "is neither a path nor the name of a package: begin a path with ./ or /";
  }
  return [{ kind: "package", name: named, directory: workingDirectory }];
}

async function findInDirectory(directory: string): Promise<PluginEntry[]> {
  const own = await findEntryFile(directory);
  if (own !== null) return [{ kind: "file", path: own }];
  const found: PluginEntry[] = [];
  for (const item of await readdir(directory, { withFileTypes: true })) {
    if (item.name === "node_modules" || item.name.startsWith(".")) continue;
    const path = join(directory, item.name);
    // What a link leads to counts.
    const what = await kindOf(path);
    if (what === "file" && filePattern.test(item.name) && !otherFilePattern.test(item.name)) {
      found.push({ kind: "file", path });
    } else if (what === "directory") {
      const entry = await findEntryFile(path);
      if (entry !== null) found.push({ kind: "file", path: entry });
    }
  }
  return sorted(found);
}

/** The file that a folder's plugin begins with; null if it is no plugin. */
async function findEntryFile(directory: string): Promise<string | null> {
  const main = await readMain(directory);
  for (const name of main === null ? entryNames : [main]) {
    const path = resolve(directory, name);
    // A main file that is missing is told as such when it is loaded.
    if (main !== null || (await kindOf(path)) === "file") return path;
  }
  return null;
}

/** `exports` or `main` of its package.json; null without either. Conditions are those of an import. */
async function readMain(directory: string): Promise<string | null> {
  try {
    const manifest = JSON.parse(await readFile(join(directory, "package.json"), "utf8")) as unknown;
    const { exports, main } = (manifest ?? {}) as { exports?: unknown; main?: unknown };
    return readExport(exports) ?? (typeof main === "string" ? main : null);
  } catch {
    return null;
  }
}

function readExport(exports: unknown): string | null {
  if (typeof exports === "string") return exports;
  if (typeof exports !== "object" || exports === null) return null;
  const { ".": own, import: forImport, node, default: otherwise } = exports as Record<string, unknown>;
  return readExport(own) ?? readExport(node) ?? readExport(forImport) ?? readExport(otherwise);
}

async function kindOf(path: string): Promise<"file" | "directory" | null> {
  try {
    const found = await stat(path);
    return found.isDirectory() ? "directory" : found.isFile() ? "file" : null;
  } catch {
    return null;
  }
}

function sorted(entries: PluginEntry[]): PluginEntry[] {
  return entries.sort((a, b) => (pathOf(a) < pathOf(b) ? -1 : 1));
}

function pathOf(entry: PluginEntry): string {
  return entry.kind === "file" ? entry.path : entry.name;
}
