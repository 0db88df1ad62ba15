/**
 * The contract between the gateway and a transformer plugin (`posthorn/plugin`).
 *
 * A transformer turns one event into the payload for one webhook. It gets plain data and gives plain data: no clock,
 * no I/O, no handle into the gateway. This file imports nothing of the gateway's.
 */

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

export type TransformerOptions = Readonly<Record<string, unknown>>;

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

/**
 * Types and checks a transformer; a plugin's default export.
 *
 * @throws Error naming the transformer, the field at fault and what it should be
 */
export function defineTransformer<const T extends Transformer>(transformer: T): T {
  const fault = findFault(transformer);
  if (fault !== null) throw new Error(`transformer ${JSON.stringify(transformer.name)}: ${fault}`);
  return transformer;
}

/**
 * Formats that `optionsSchema` may name beside those of JSON Schema; the gateway checks options against them too.
 *
 * - `iana-time-zone`: a name of the time zone database, such as `Europe/Berlin` or `UTC`; no offset such as `+02:00`
 */
export const optionFormats: Readonly<Record<string, (value: string) => boolean>> = {
  "iana-time-zone": isTimeZoneName,
};

/**
 * Parses JSON so that `JSON.stringify` gives each number back as it was written. A number that JavaScript would
 * write differently (`12345678901234567890`, `1.50`, `1e3`) becomes the object that `JSON.rawJSON` makes of its text;
 * every other value is what `JSON.parse` gives. Text without such a number is parsed at the usual speed.
 *
 * @throws SyntaxError if `text` is no JSON
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
  isRawJSON(value: unknown): boolean;
}
// TypeScript's library does not know these parts of JSON yet.
const jsonWithSource = JSON as unknown as SourceTextAccess;

function keepNumberText(_key: string, value: unknown, context: { source?: string }): unknown {
  if (typeof value !== "number" || context.source === undefined) return value;
  return JSON.stringify(value) === context.source ? value : jsonWithSource.rawJSON(context.source);
}

function isTimeZoneName(value: string): boolean {
  // Intl takes offsets such as `+02:00` for time zones; no name starts with anything but a letter.
  if (!/^[A-Za-z][A-Za-z0-9_+/-]{0,63}$/.test(value)) return false;
  try {
    new Intl.DateTimeFormat("en-US", { timeZone: value });
    return true;
  } catch {
    return false;
  }
}

/** What is wrong with a transformer, which a plugin in JavaScript may have got wrong in any way; null = nothing. */
function findFault(transformer: Transformer): string | null {
  const { name, version, description, handles, signature, history } = transformer;
  if (typeof name !== "string" || !/^[a-z][a-z0-9-]{0,63}$/.test(name)) {
    return '"name" must be 1 to 64 lower-case letters, digits and hyphens, a letter first';
  }
  if (typeof version !== "string" || version === "") return '"version" must be a text such as "1.0.0"';
  if (typeof description !== "string") return '"description" must be a text';
  if (!Array.isArray(handles) || handles.length === 0) return '"handles" must name at least one event type';
  for (const pattern of handles) {
    if (typeof pattern !== "string" || !/^(?=.)[a-z0-9_.]*\*?$/.test(pattern)) {
      return `"handles" holds ${JSON.stringify(pattern)}: name an event type, or a prefix with one "*" at its end`;
    }
  }
  if (signature !== undefined && signature !== "intelli" && signature !== "insights") {
    return '"signature" must be "intelli", "insights" or left out';
  }
  const historyCount = typeof history === "object" ? history?.default : (history ?? 0);
  if (!Number.isInteger(historyCount) || Number(historyCount) < 0 || Number(historyCount) > 50) {
    return '"history" must be 0 to 50 messages, or { option, default } with such a default';
  }
  if (typeof history === "object" && !hasProperty(transformer.optionsSchema?.properties, history.option)) {
    return `"history" names the option ${JSON.stringify(history.option)}, which "optionsSchema" does not have`;
  }
  if (typeof transformer.transform !== "function") return '"transform" must be a function';
  return null;
}

function hasProperty(properties: unknown, name: string): boolean {
  return typeof properties === "object" && properties !== null && Object.hasOwn(properties, name);
}
