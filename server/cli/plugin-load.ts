/** Loads a plugin in the process that runs it, or says by file and line why that does not work. */

import { readFileSync } from "node:fs";
import { DefinitionError, type Transformer } from "../../plugins/transformer.ts";
import { transformerOf } from "../workers/plugin-export.ts";
import { describeLoadFault } from "../workers/plugin-fault.ts";
import { type ImportRecord, specifierOf, watchImports } from "../workers/plugin-hooks.ts";
import type { LoadFault, PluginEntry } from "../workers/plugin-protocol.ts";

export type Loaded = { kind: "loaded"; transformer: Transformer } | { kind: "refused"; faults: LoadFault[] };

/** To be called once in a process. Never rejects for what is the plugin's own fault. */
export async function loadPlugin(entry: PluginEntry): Promise<Loaded> {
  const path = entry.kind === "file" ? entry.path : entry.name;
  const record = watchImports(entry, import.meta.url);
  let exported: unknown;
  try {
    exported = (await import(specifierOf(entry))).default;
  } catch (error) {
    return { kind: "refused", faults: describeFaults(error, record, path) };
  }
  try {
    return { kind: "loaded", transformer: transformerOf(exported) };
  } catch (error) {
    const line = findLine(path, /^\s*export\s+(default\b|\{.*\bdefault\b)/);
    return { kind: "refused", faults: [{ file: path, line, message: (error as TypeError).message }] };
  }
}

/** Of a transformer with several faults, each with the line where its field stands. */
function describeFaults(error: unknown, record: ImportRecord, path: string): LoadFault[] {
  const fault = describeLoadFault(error, record, path);
  if (!(error instanceof DefinitionError)) return [fault];
  return error.faults.map(({ field, message }) => ({
    file: fault.file,
    line: (field === null ? null : findField(fault.file, field)) ?? fault.line,
    message,
  }));
}

function findField(file: string, field: string): number | null {
  const name = field.replace(/[^\w$]/g, "\\$&");
  return findLine(file, new RegExp(`^\\s*(async\\s+)?["']?${name}["']?\\s*(:|\\(|,\\s*$)`));
}

/** Counts from 1; null if no line fits. */
function findLine(file: string, pattern: RegExp): number | null {
  try {
    const index = readFileSync(file, "utf8")
      .split("\n")
      .findIndex((line) => pattern.test(line));
    return index === -1 ? null : index + 1;
  } catch {
    return null;
  }
}
