/**
 * The contract between the gateway and a transformer plugin (`posthorn/plugin`).
 *
 * A transformer turns one event into the payload for one webhook. It gets plain data and gives plain data: no clock,
 * no I/O, no handle into the gateway. Below stands what is in the data; the functions that help to read and write it
 * have a file each in `sdk/`, and all of them come from here. Nothing of it imports anything of the gateway's.
 */

import { DefinitionError, findDefinitionFaults } from "./sdk/definition.ts";

export { contentOf, type MessageContent, readContent } from "./sdk/content.ts";
export { DefinitionError, type DefinitionFault } from "./sdk/definition.ts";
export type * from "./sdk/items.ts";
export { cleanText, isJsonObject, parseLossless } from "./sdk/json.ts";
export { type Media, mediaOf } from "./sdk/media.ts";
export { type OptionsOf, optionFormats, readOptions } from "./sdk/options.ts";
export { digitsOfPhone, toE164 } from "./sdk/phone.ts";
export { readItem } from "./sdk/read-item.ts";
export { timeOf, toIsoTime } from "./sdk/time.ts";

/** The WhatsApp user as this very event names them; a part that the event lacks is null. */
export interface EventUser {
  /** Digits without `+`: the sender's of a message, the recipient's of a status or of a sent message. */
  readonly phone: string | null;
  /** Business-scoped user id, such as `US.13491208655302741918`. */
  readonly bsuid: string | null;
  /** `wa_id` as WhatsApp gave it beside the item. */
  readonly waId: string | null;
  /** Profile name as WhatsApp gave it beside the item. */
  readonly profileName: string | null;
}

/** One thing that happened on WhatsApp, or that the gateway tells of itself (`posthorn.*`). */
export interface TransformerEvent {
  /** UUID; the same for every webhook that gets this event. */
  readonly id: string;
  /** `message.received`, `message.status`, `whatsapp.account_update`, … */
  readonly type: string;
  /** The raw WhatsApp item (a message, a status, a change's value, …), parsed. */
  readonly item: unknown;
  /** The same item as compact JSON text in which every number has its source text; see `parseLossless`. */
  readonly itemJson: string;
  /** When it happened by WhatsApp's clock; null when WhatsApp gave no time. */
  readonly occurredAt: Date | null;
  /** When the gateway took it in. */
  readonly receivedAt: Date;
  /** The business number's id at WhatsApp; null for account-level events. */
  readonly phoneNumberId: string | null;
  /** Digits of the business number, without `+`; null when WhatsApp gave none. */
  readonly businessPhone: string | null;
  readonly wabaId: string | null;
  /** Name of the client (end business) that the event belongs to; null if it belongs to none. */
  readonly clientRef: string | null;
  readonly user: EventUser | null;
}

/** A message as its conversation shows it. */
export interface ConversationMessage {
  readonly sender: "user" | "bot";
  /** Text to show: the body, a caption, the chosen button's title, …; `""` if there is none. */
  readonly content: string;
  readonly contentType: "text" | "image" | "audio" | "video" | "document" | "location";
  readonly sentAt: Date;
}

/** One business number and one contact, as things stood when the event was committed. */
export interface Conversation {
  /** The contact's UUID. */
  readonly userId: string;
  /** Digits without `+`; null when only the business-scoped id is known. */
  readonly phone: string | null;
  readonly bsuid: string | null;
  /** Stored name, else profile name, `""` if unknown. */
  readonly name: string;
  readonly note: string;
  readonly noteAutomation: string;
  readonly labels: readonly string[];
  /** Newest first, this event's message first; as many as the transformer's `history` asks for. */
  readonly messages: readonly ConversationMessage[];
  /** The newest message of each side in the whole conversation, however far back; null if there is none. */
  readonly lastUserMessage: ConversationMessage | null;
  readonly lastBotMessage: ConversationMessage | null;
}

/** A webhook's `transformer_options`. */
export type TransformerOptions = Readonly<Record<string, unknown>>;

/** What `transform` is called with: plain data, to be read and not changed. */
export interface TransformerInput {
  readonly event: TransformerEvent;
  /** Null when the event is no message of a conversation (a status, a reaction, a system notice, …). */
  readonly conversation: Conversation | null;
  /** The webhook's `transformer_options`, checked against `optionsSchema`; `{}` if it has none. */
  readonly options: TransformerOptions;
  /** Link to the media of this event's message; null when it has none. */
  readonly mediaUrl: string | null;
}

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
