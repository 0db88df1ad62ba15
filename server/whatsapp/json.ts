/**
 * Reading JSON of which nothing is known: numbers keep their source text, and every reader answers null for a value
 * of another kind than the one asked for.
 */

/** A number whose source text JavaScript would not write again (`37.10`, 20 digits, `1e999`). */
interface RawNumber {
  readonly rawJSON: string;
}

// TypeScript has no types yet for the source text access of JSON.parse.
const json = JSON as unknown as {
  parse(
    text: string,
    reviver: (key: string, value: unknown, context: { source?: string }) => unknown,
  ): unknown;
  rawJSON(text: string): RawNumber;
  isRawJSON(value: unknown): value is RawNumber;
};

/**
 * A number that JavaScript might write otherwise than it was written: with a fraction or an exponent, of 16 digits
 * and more, or -0. Finds some digits inside strings too, which costs time and nothing else.
 */
const riskyNumber = /[:,[]\s*(?:-?\d+[.eE]|-?\d{16}|-0)/;

const idLengthMax = 256;

/**
 * Parses JSON so that `JSON.stringify` of any part gives back each number as it was written.
 * The careful way costs several times the plain one, so it is taken only where a number asks for it.
 *
 * @throws SyntaxError if the text is no JSON, RangeError if it is nested too deep (some thousand levels)
 */
export function parseJson(text: string): unknown {
  return riskyNumber.test(text) ? json.parse(text, keepNumberSource) : JSON.parse(text);
}

function keepNumberSource(_key: string, value: unknown, context: { source?: string }): unknown {
  if (typeof value !== "number" || context.source === undefined) return value;
  return String(value) === context.source ? value : json.rawJSON(context.source);
}

/** The value as an object with keys; null if it is anything else. */
export function recordOf(value: unknown): Record<string, unknown> | null {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !json.isRawJSON(value)
    ? (value as Record<string, unknown>)
    : null;
}

/** The value as a list; empty if it is anything else. */
export function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

/** A text that is not empty, or a number as it was written, fit for the database; null for anything else. */
export function textOf(value: unknown): string | null {
  if (typeof value === "string") return value === "" ? null : cleanText(value);
  if (typeof value === "number") return String(value);
  return json.isRawJSON(value) ? value.rawJSON : null;
}

/** As `textOf`; null too for a text longer than any id (256 characters): it could not be indexed. */
export function idOf(value: unknown): string | null {
  const text = textOf(value);
  return text !== null && text.length <= idLengthMax ? text : null;
}

/** The text as PostgreSQL can store it: U+0000 and lone surrogates become U+FFFD. */
export function cleanText(text: string): string {
  const wellFormed = text.isWellFormed() ? text : text.toWellFormed();
  return wellFormed.includes("\0") ? wellFormed.replaceAll("\0", "\uFFFD") : wellFormed;
}
