/**
 * Reading JSON of which nothing is known: numbers keep their source text, and every reader answers null for a value
 * of another kind than the one asked for.
 */

import { textOf } from "../../plugins/sdk/json.ts";

// The one way to read an item: events and the transformers' own helpers must find the same in it.
export { cleanText, listOf, recordOf, textOf } from "../../plugins/sdk/json.ts";

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

/** As `textOf`; null too for a text longer than any id (256 characters): it could not be indexed. */
export function idOf(value: unknown): string | null {
  const text = textOf(value);
  return text !== null && text.length <= idLengthMax ? text : null;
}
