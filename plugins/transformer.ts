/**
 * The contract between the gateway and a transformer plugin (`posthorn/plugin`).
 *
 * A transformer turns one event into the payload for one webhook. It gets plain data and gives plain data: no clock,
 * no I/O, no handle into the gateway. What it is given stands in `sdk/input.ts`, and the functions that help to read and
 * write it have a file each beside that; all of it comes from here. Nothing of it imports anything of the gateway's.
 */

import { DefinitionError, findDefinitionFaults } from "./sdk/definition.ts";
import type { TransformerInput } from "./sdk/input.ts";

export { contentOf, type MessageContent, readContent } from "./sdk/content.ts";
export { DefinitionError, type DefinitionFault } from "./sdk/definition.ts";
export type * from "./sdk/input.ts";
export type * from "./sdk/items.ts";
export { cleanText, isJsonObject, parseLossless } from "./sdk/json.ts";
export { type Media, mediaOf } from "./sdk/media.ts";
export { type OptionsOf, optionFormats, readOptions } from "./sdk/options.ts";
export { digitsOfPhone, toE164 } from "./sdk/phone.ts";
export { readItem } from "./sdk/read-item.ts";
export { timeOf, toIsoTime } from "./sdk/time.ts";

/** A longer payload fails the delivery with reason `transformer_error`. */
export const payloadBytesMax = 256 * 1024;

/** A payload that is more than a JSON body. Made by `respond`. */
export class TransformerResponse {
  readonly body: string | Uint8Array;
  readonly contentType: string;
  readonly headers: Readonly<Record<string, string>>;

  constructor(body: string | Uint8Array, contentType: string, headers: Readonly<Record<string, string>>) {
    this.body = body;
    this.contentType = contentType;
    this.headers = headers;
  }
}

/**
 * Says body, content type and headers of a payload exactly.
 *
 * @param response.body         text (sent as UTF-8) or bytes, at most `payloadBytesMax` bytes
 * @param response.contentType  default `application/json`
 * @param response.headers      extra request headers, without those that the gateway sets itself
 */
export function respond(response: {
  body: string | Uint8Array;
  contentType?: string;
  headers?: Record<string, string>;
}): TransformerResponse {
  return new TransformerResponse(
    response.body,
    response.contentType ?? "application/json",
    response.headers ?? {},
  );
}

/** A plugin: what it says of itself, and the function that makes payloads. */
export interface Transformer {
  /** Lower-case letters, digits and hyphens; what a webhook names in `transformer`. */
  readonly name: string;
  /** Changes whenever the bytes that it makes could; kept in the log with each payload. */
  readonly version: string;
  readonly description: string;
  /** Event types it makes payloads of; a trailing `*` covers what starts alike. */
  readonly handles: readonly string[];
  /** Signature header of its partners beside Standard Webhooks. */
  readonly signature?: "intelli" | "insights";
  /** JSON Schema (draft 2020-12) of `transformer_options`; may use the formats of `optionFormats`. */
  readonly optionsSchema?: Readonly<Record<string, unknown>>;
  /**
   * How many messages of the conversation it reads, 0 to 50 (default 0); or the name of the option that says so,
   * with the number that holds when the webhook leaves the option out.
   */
  readonly history?: number | { readonly option: string; readonly default: number };
  /** True if the same input always gives the same bytes. */
  readonly pure?: boolean;
  /**
   * Makes the payload: any JSON value is the body (`null` too), `respond(…)` says more, `undefined` sends nothing.
   * What it throws ends the delivery as `failed` with reason `transformer_error`.
   */
  transform(input: TransformerInput): unknown;
}

/** The version of this contract. A gateway refuses a plugin that was defined by another one. */
export const contractVersion = 1;

/** Registered, so that a plugin that brings a copy of this file along is known too. */
const contractMark = Symbol.for("posthorn.transformer.contract");

/**
 * Types and checks a transformer; a plugin's default export. It comes back with a mark that `contractVersionOf` reads.
 *
 * @throws DefinitionError naming the transformer, each field at fault and what it should be
 */
export function defineTransformer<const T extends Transformer>(transformer: T): T {
  const faults = findDefinitionFaults(transformer);
  if (faults.length > 0) throw new DefinitionError((transformer as T | null | undefined)?.name, faults);
  return Object.defineProperty(transformer, contractMark, { value: contractVersion });
}

/** The version of the contract that a plugin's default export was made by; null if `defineTransformer` did not. */
export function contractVersionOf(value: unknown): number | null {
  if (typeof value !== "object" || value === null) return null;
  const version: unknown = (value as Record<symbol, unknown>)[contractMark];
  return typeof version === "number" ? version : null;
}
