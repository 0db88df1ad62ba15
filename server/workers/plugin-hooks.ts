/**
 * How plugin code finds modules, in the plugin thread: `posthorn/plugin` is this gateway's own, wherever the plugin
 * lies, so that there is one contract however many copies are installed. Notes the plugin's files on the way.
 */

import { registerHooks } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import type { PluginEntry } from "./plugin-protocol.ts";

export interface ImportRecord {
  /** Absolute paths of the plugin's files in the order in which they were asked for; those that are missing included. */
  files: Set<string>;
  /** The import that was looked for last. */
  last: { specifier: string; importer: string } | null;
}

/** More is no plugin but an application; those beyond it are loaded, and not watched. */
const filesMax = 500;

/**
 * To be called once, before the plugin is imported.
 *
 * @param importer  URL of the module that imports the entry
 * @returns what was looked for so far; it grows
 */
export function watchImports(entry: PluginEntry, importer: string): ImportRecord {
  const record: ImportRecord = { files: new Set(), last: null };
  registerHooks({
    resolve(specifier, context, next) {
      const { parentURL } = context;
      if (isOurs(specifier) && parentURL !== import.meta.url) {
        const importingFile = parentURL === undefined ? null : pathOf(parentURL);
        if (importingFile !== null) record.last = { specifier, importer: importingFile };
        return { url: resolveOurs(specifier), shortCircuit: true };
      }
      if (parentURL === importer && specifier === specifierOf(entry)) {
        note(guessPath(specifier, importer));
        const directory = entry.kind === "package" ? entry.directory : dirname(entry.path);
        const resolved = next(specifier, { ...context, parentURL: pathToFileURL(join(directory, "/")).href });
        note(pathOf(resolved.url));
        return resolved;
      }
      // What the contract's own files import is no part of the plugin.
      if (parentURL === undefined || !record.files.has(pathOf(parentURL) ?? "")) {
        return next(specifier, context);
      }
      record.last = { specifier, importer: fileURLToPath(parentURL) };
      note(guessPath(specifier, parentURL));
      const resolved = next(specifier, context);
      note(pathOf(resolved.url));
      return resolved;
    },
  });
  return record;

  function note(path: string | null): void {
    if (path === null || record.files.size >= filesMax) return;
    // A plugin's dependencies change with its package.json and not by themselves.
    if (entry.kind === "file" && /[\\/]node_modules[\\/]/.test(path)) return;
    record.files.add(path);
  }
}

/** What to import for an entry. */
export function specifierOf(entry: PluginEntry): string {
  return entry.kind === "file" ? pathToFileURL(entry.path).href : entry.name;
}

function isOurs(specifier: string): boolean {
  return specifier === "posthorn" || specifier.startsWith("posthorn/");
}

/** @throws Error in words of its own: what Node says names the gateway's files, of which the plugin knows nothing */
function resolveOurs(specifier: string): string {
  try {
    return import.meta.resolve(specifier);
  } catch {
    throw Object.assign(
      new Error(`there is no ${specifier}: plugins import posthorn/plugin or posthorn/plugin/testing`),
      { code: "ERR_PACKAGE_PATH_NOT_EXPORTED" },
    );
  }
}

/** Where a relative import would lie: noted before it is found, so that the file's appearing is noticed. */
function guessPath(specifier: string, parent: string): string | null {
  return /^(\.\.?\/|file:)/.test(specifier) ? pathOf(new URL(specifier, parent).href) : null;
}

function pathOf(url: string): string | null {
  return url.startsWith("file:") ? fileURLToPath(url) : null;
}
