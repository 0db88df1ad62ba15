/** What commands print on standard output: tables and fields for people, one JSON document for scripts. */

import { styleText } from "node:util";
import { type DescMessage, type JsonValue, type MessageShape, toJson } from "@bufbuild/protobuf";

export type Fields = Record<string, JsonValue>;

/** As the API writes it: names of the proto files, zero values included. */
export function toFields<Desc extends DescMessage>(
  schema: Desc,
  message: MessageShape<Desc> | undefined,
): Fields {
  if (message === undefined) return {};
  return toJson(schema, message, { useProtoFieldName: true, alwaysEmitImplicit: true }) as Fields;
}

export function printJson(value: JsonValue): void {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}

/**
 * One array, written as its items come, so that a long list needs no more memory than a short one. Nothing is written
 * before the first one is there, so that a call that fails leaves no beginning of an array.
 */
export async function printJsonList(items: AsyncIterable<Fields>): Promise<void> {
  let isEmpty = true;
  for await (const item of items) {
    process.stdout.write(`${isEmpty ? "[\n" : ",\n"}${JSON.stringify(item)}`);
    isEmpty = false;
  }
  process.stdout.write(isEmpty ? "[]\n" : "\n]\n");
}

/** One line a field; what is absent is left out. */
export function printFields(fields: Fields): void {
  const width = Math.max(0, ...Object.keys(fields).map((name) => name.length));
  for (const [name, value] of Object.entries(fields)) {
    process.stdout.write(`${style("bold", name.padEnd(width))}  ${showValue(name, value)}\n`);
  }
}

/** Columns as wide as their widest cell; `none` if there is no row. */
export function printTable(columns: readonly string[], rows: readonly (readonly string[])[]): void {
  if (rows.length === 0) {
    process.stdout.write("none\n");
    return;
  }
  const shown = rows.map((row) => row.map(showText));
  const widths = columns.map((name, index) =>
    Math.max(name.length, ...shown.map((row) => row[index]?.length ?? 0)),
  );
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, index) => cell.padEnd(widths[index] ?? 0))
      .join("  ")
      .trimEnd();
  process.stdout.write(`${style("bold", line(columns))}\n`);
  for (const row of shown) process.stdout.write(`${line(row)}\n`);
}

/** Beside the result, on standard error, where it is in no script's way. */
export function printNote(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** A time of the API, which is milliseconds or RFC 3339; `-` if there is none. */
export function showTime(value: JsonValue | undefined): string {
  if (typeof value === "number") return new Date(value).toISOString();
  return typeof value === "string" ? value : "-";
}

/** Names and answers come from outside: what would move the cursor or turn the text around is shown, not done. */
export function showText(text: string): string {
  return text.replace(/[\p{Cc}\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu, (character) =>
    character === "\n" ? "\\n" : `\\u${character.codePointAt(0)!.toString(16).padStart(4, "0")}`,
  );
}

function showValue(name: string, value: JsonValue): string {
  if (name === "created_at") return showTime(value);
  return showText(typeof value === "string" ? value : JSON.stringify(value));
}

function style(format: "bold", text: string): string {
  return styleText(format, text, { stream: process.stdout });
}
