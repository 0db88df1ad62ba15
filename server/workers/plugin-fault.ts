/** Says where and why a plugin fails, and what mends one that does not load. Runs in the plugin thread. */

import { readFileSync } from "node:fs";
import { stripTypeScriptTypes } from "node:module";
import { basename, dirname, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";
import type { ImportRecord } from "./plugin-hooks.ts";
import type { LoadFault } from "./plugin-protocol.ts";

interface Place {
  file: string;
  line: number;
}

const messageMax = 500;
/** Of the end of a stack, where the frames are: the message before them may be of any length. */
const stackMax = 20_000;
const frameMax = 1_000;

/**
 * @param thrown  what the import threw, which may be anything
 * @param entry   what was to be loaded, for a fault that has no better place
 */
export function describeLoadFault(thrown: unknown, record: ImportRecord, entry: string): LoadFault {
  const error = readError(thrown);
  const place = findPlace(error, record);
  const message = `${error.text}${fixOf(error)}`.replace(/\s+/g, " ").slice(0, messageMax).toWellFormed();
  return { file: place?.file ?? [...record.files][0] ?? entry, line: place?.line ?? null, message };
}

/**
 * The plugin's own line that something was thrown from, for tenants, too: a file by its name within the plugin.
 *
 * @param files  the plugin's, its main one first
 * @returns such as `transformer.ts:12:5`; null if no line of the plugin is known
 */
export function findThrowPlace(thrown: unknown, files: ReadonlySet<string>): string | null {
  const frame = findOwnFrame(readError(thrown).stack, files);
  if (frame === null) return null;
  const [main] = files;
  const path = relative(dirname(main!), frame.file).split(sep).join("/");
  return `${path.startsWith("../") ? basename(path) : path}:${frame.line}:${frame.column}`;
}

interface ReadError {
  name: string;
  code: string;
  text: string;
  stack: string;
}

/** Whatever was thrown may throw again when it is looked at. */
function readError(thrown: unknown): ReadError {
  try {
    if (!(thrown instanceof Error)) {
      return { name: "", code: "", stack: "", text: `it threw ${typeof thrown}: ${String(thrown)}` };
    }
    const { name, stack } = thrown;
    const code = (thrown as NodeJS.ErrnoException).code;
    const text = thrown.message.split("\nRequire stack:")[0]!;
    const isPlain = name === "Error" && code === undefined;
    return {
      name: String(name),
      code: String(code ?? ""),
      stack: String(stack),
      text: isPlain ? `it threw: ${text}` : text,
    };
  } catch {
    return { name: "", code: "", stack: "", text: "it threw something that cannot be shown" };
  }
}

function findPlace(error: ReadError, record: ImportRecord): Place | null {
  if (/MODULE_NOT_FOUND|PACKAGE_PATH_NOT_EXPORTED|UNSUPPORTED_DIR_IMPORT/.test(error.code))
    return placeOfImport(record);
  return placeInHead(error.stack) ?? placeOfSyntax(error, record) ?? findOwnFrame(error.stack, record.files);
}

/** Errors of parsing begin with the place: `/plugins/a.ts:3`, with `file://` or without. */
function placeInHead(stack: string): Place | null {
  const [, where, line] = /^(file:\/\/\S+|\/.+|[A-Za-z]:\\.+):(\d+)\n/.exec(stack) ?? [];
  return where === undefined ? null : { file: toPath(where), line: Number(line) };
}

/** Node tells no place of a syntax error in an ES module, so the files are parsed once more, the last one first. */
function placeOfSyntax({ name }: ReadError, { files }: ImportRecord): Place | null {
  if (name !== "SyntaxError") return null;
  for (const file of [...files].reverse()) {
    try {
      stripTypeScriptTypes(readFileSync(file, "utf8"), { sourceUrl: file });
    } catch (error) {
      const place = error instanceof Error ? placeInHead(String(error.stack)) : null;
      if (place !== null) return place;
    }
  }
  return null;
}

/** The innermost frame that is the plugin's own. */
function findOwnFrame(stack: string, files: ReadonlySet<string>): (Place & { column: number }) | null {
  for (const frame of stack.slice(-stackMax).split("\n")) {
    if (frame.length > frameMax) continue;
    const [, where, line, column] = /\(?((?:file:\/\/)?[^\s()]+):(\d+):(\d+)\)?$/.exec(frame) ?? [];
    if (where === undefined) continue;
    const file = toPath(where);
    if (files.has(file)) return { file, line: Number(line), column: Number(column) };
  }
  return null;
}

function placeOfImport({ last }: ImportRecord): Place | null {
  if (last === null) return null;
  try {
    const lines = readFileSync(last.importer, "utf8").split("\n");
    const written = ["'", '"', "`"].map((quote) => quote + last.specifier + quote);
    const index = lines.findIndex((line) => written.some((text) => line.includes(text)));
    return index === -1 ? null : { file: last.importer, line: index + 1 };
  } catch {
    return null;
  }
}

function toPath(where: string): string {
  try {
    return where.startsWith("file:") ? fileURLToPath(where) : where;
  } catch {
    return where;
  }
}

function fixOf({ name, code, text }: ReadError): string {
  switch (code) {
    case "ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX":
      return ": Node only takes types away, so enums, namespaces and parameter properties cannot be used (TypeScript's erasableSyntaxOnly finds them)";
    case "ERR_UNSUPPORTED_NODE_MODULES_TYPE_STRIPPING":
      return ": Node runs no TypeScript under node_modules; publish the package as JavaScript, or name its source directory in POSTHORN_PLUGINS";
    case "ERR_MODULE_NOT_FOUND":
    case "MODULE_NOT_FOUND":
      return /package|^Cannot find module '[^./]/.test(text)
        ? ": install it where the plugin lies, with npm install"
        : ": correct the path, which needs the file's ending, such as ./format.ts";
    case "ERR_UNSUPPORTED_DIR_IMPORT":
      return ": name the file in the directory";
    default:
      return name === "SyntaxError" && !text.includes("does not provide an export")
        ? ": correct the syntax"
        : "";
  }
}
