/**
 * Reading JSON of which nothing is known. Numbers can keep their source text, and every reader answers null for a
 * value of another kind than the one asked for.
 */

/**
 * Parses JSON so that `JSON.stringify` gives each number back as it was written. A number that JavaScript would
 * write differently (`12345678901234567890`, `1.50`, `1e3`) becomes the object that `JSON.rawJSON` makes of its text;
 * every other value is what `JSON.parse` gives. Text without such a number is parsed at the usual speed.
 *
 * @throws SyntaxError if `text` is no JSON, RangeError if it is nested too deep (some thousand levels)
 */
export function parseLossless(text: string): unknown {
  return numberAtRisk.test(text) ? jsonWithSource.parse(text, keepNumberText) : JSON.parse(text);
}

/** True for what `parseLossless` makes of a JSON object: not for lists, null and numbers kept as text. */
export function isJsonObject(value: unknown): value is Record<string, unknown> {
  return (
    typeof value === "object" && value !== null && !Array.isArray(value) && !jsonWithSource.isRawJSON(value)
  );
}

/** The value as an object with keys; null if it is anything else. */
export function recordOf(value: unknown): Record<string, unknown> | null {
  return isJsonObject(value) ? value : null;
}

/** The value as a list; empty if it is anything else. */
export function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

/** A text that is not empty, or a number as it was written, cleaned as `cleanText` does; null for anything else. */
export function textOf(value: unknown): string | null {
  if (typeof value === "string") return value === "" ? null : cleanText(value);
  if (typeof value === "number") return String(value);
  return jsonWithSource.isRawJSON(value) ? value.rawJSON : null;
}

/** The text as databases and other systems can take it: U+0000 and lone surrogates become U+FFFD. */
export function cleanText(text: string): string {
  const wellFormed = text.isWellFormed() ? text : text.toWellFormed();
  return wellFormed.includes("\0") ? wellFormed.replaceAll("\0", "\uFFFD") : wellFormed;
}

/**
 * Finds every number that JavaScript could write differently: -0, 15 digits or more with a fraction or 16 without,
 * a fraction that ends in 0, an exponent, or so small that it would be written with one. A number follows `:`, `,`,
 * `[` or nothing. A string that looks like this costs time only.
 */
const numberAtRisk = /(?:^|[:,[])\s*(?:-0(?![.\d])|-?(?:\d[\d.]{15}|\d+\.\d*0(?!\d)|[\d.]+[eE]|0\.000000))/;

interface SourceTextAccess {
  parse(
    text: string,
    reviver: (key: string, value: unknown, context: { source?: string }) => unknown,
  ): unknown;
  rawJSON(text: string): object;
  isRawJSON(value: unknown): value is { readonly rawJSON: string };
}
// TypeScript's library does not know these parts of JSON yet.
const jsonWithSource = JSON as unknown as SourceTextAccess;

function keepNumberText(_key: string, value: unknown, context: { source?: string }): unknown {
  if (typeof value !== "number" || context.source === undefined) return value;
  return JSON.stringify(value) === context.source ? value : jsonWithSource.rawJSON(context.source);
}
