/** Lets a transformer make the payload of one delivery. It knows nothing of sending, and holds no secret. */

import {
  type Conversation,
  type ConversationMessage,
  type Transformer,
  type TransformerEvent,
  type TransformerInput,
  TransformerResponse,
} from "../../plugins/transformer.ts";
import type { MadePayload } from "../domain/attempt-report.ts";
import { extraHeadersMax, findHeaderFault } from "../domain/request-headers.ts";
import type { JobConversation, JobEvent, JobMessage, TransformTask } from "./job.ts";

export type TransformResult =
  | { kind: "made"; payload: MadePayload }
  | { kind: "skipped" }
  | { kind: "transformer_error"; message: string };

export const payloadBytesMax = 256 * 1024;
/** Of a `transformer_error`, in characters. */
export const messageMax = 300;

/**
 * Runs the transformer that the task names. Never rejects: what the transformer does wrong is a `transformer_error`
 * whose message is one short line.
 *
 * @param budgetMs  how long an answer that comes as a promise may take
 * @param describe  makes the message of what was thrown
 */
export async function makePayload(
  task: TransformTask,
  transformers: ReadonlyMap<string, Transformer>,
  budgetMs: number,
  describe = describeThrown,
): Promise<TransformResult> {
  const transformer = transformers.get(task.transformer);
  if (transformer === undefined) return refuse(`transformer ${task.transformer} is not loaded`);
  try {
    const answer = transformer.transform(toInput(task));
    const made = isPromise(answer) ? await withinBudget(answer, budgetMs) : answer;
    if (made === undefined) return { kind: "skipped" };
    return checkPayload(made instanceof TransformerResponse ? made : toJson(made), transformer.version);
  } catch (error) {
    return refuse(describe(error));
  }
}

function refuse(message: string): TransformResult {
  return { kind: "transformer_error", message };
}

function toJson(value: unknown): TransformerResponse {
  const text = JSON.stringify(value);
  if (text === undefined)
    throw new TypeError(`the transformer returned a ${typeof value}, which is no JSON value`);
  return new TransformerResponse(text, "application/json", {});
}

/** The payload if it may be sent as it is, with bytes of its own. */
export function checkPayload(
  response: Pick<TransformerResponse, "body" | "contentType" | "headers">,
  transformerVersion: string,
): TransformResult {
  const { contentType, headers } = response;
  if (typeof response.body !== "string" && !(response.body instanceof Uint8Array)) {
    return refuse("the body of the response is neither text nor bytes");
  }
  // A byte a character at least. An enormous text must not be copied only to count it.
  if (response.body.length > 4 * payloadBytesMax) {
    return refuse(
      `the payload has more than ${4 * payloadBytesMax} bytes, at most ${payloadBytesMax} are sent`,
    );
  }
  const body = toBytes(response.body);
  if (body.byteLength > payloadBytesMax) {
    return refuse(`the payload has ${body.byteLength} bytes, at most ${payloadBytesMax} are sent`);
  }
  if (typeof contentType !== "string" || !/^[\x20-\x7e]{1,200}$/.test(contentType)) {
    return refuse("the content type is not 1 to 200 characters of ASCII");
  }
  if (typeof headers !== "object" || headers === null)
    return refuse("the headers of the response are no object");
  const names = Object.keys(headers);
  if (names.length > extraHeadersMax) {
    return refuse(`the response asks for ${names.length} headers, at most ${extraHeadersMax} are sent`);
  }
  for (const name of names) {
    const fault = findHeaderFault(name, headers[name]);
    if (fault !== null) return refuse(`header ${JSON.stringify(name.slice(0, 100))} ${fault}`);
  }
  return { kind: "made", payload: { body, contentType, headers: { ...headers }, transformerVersion } };
}

const encoder = new TextEncoder();

/** Bytes in memory of their own: views would take their whole buffer along between threads. */
function toBytes(body: string | Uint8Array): Uint8Array {
  if (typeof body === "string") return encoder.encode(body);
  // Shared memory could still be written to when the bytes are signed.
  const isOwn = body.byteLength === body.buffer.byteLength && body.buffer instanceof ArrayBuffer;
  return isOwn ? body : new Uint8Array(body);
}

function isPromise(value: unknown): value is PromiseLike<unknown> {
  return value instanceof Promise || (typeof value === "object" && value !== null && "then" in value);
}

async function withinBudget(answer: PromiseLike<unknown>, budgetMs: number): Promise<unknown> {
  let timer: NodeJS.Timeout | undefined;
  const overrun = new Promise((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`the transformer took longer than ${budgetMs} ms`)), budgetMs);
  });
  try {
    return await Promise.race([answer, overrun]);
  } finally {
    clearTimeout(timer);
  }
}

/** Anything can be thrown, even what throws again when it is looked at. The database takes no U+0000 in a text. */
export function describeThrown(error: unknown): string {
  try {
    const text =
      error instanceof Error ? `${error.name}: ${error.message}` : `threw ${typeof error}: ${String(error)}`;
    return text
      .replace(/[\s\p{Cc}]+/gu, " ")
      .slice(0, messageMax)
      .toWellFormed();
  } catch {
    return "threw something that cannot be shown";
  }
}

function toInput({ event, conversation, options, mediaUrl }: TransformTask): TransformerInput {
  return {
    event: new LazyEvent(event),
    conversation: conversation === null ? null : toConversation(conversation),
    options,
    mediaUrl,
  };
}

/** Parses the item when it is asked for: a transformer that passes the text on never needs that. */
class LazyEvent implements TransformerEvent {
  readonly id: string;
  readonly type: string;
  readonly itemJson: string;
  readonly occurredAt: Date | null;
  readonly receivedAt: Date;
  readonly phoneNumberId: string | null;
  readonly businessPhone: string | null;
  readonly wabaId: string | null;
  readonly clientRef: string | null;
  readonly user: TransformerEvent["user"];
  #item: unknown;
  #isParsed = false;

  constructor(event: JobEvent) {
    this.id = event.id;
    this.type = event.type;
    this.itemJson = event.itemJson;
    this.occurredAt = event.occurredAtMs === null ? null : new Date(event.occurredAtMs);
    this.receivedAt = new Date(event.receivedAtMs);
    this.phoneNumberId = event.phoneNumberId;
    this.businessPhone = event.businessPhone;
    this.wabaId = event.wabaId;
    this.clientRef = event.clientRef;
    this.user = event.user;
  }

  get item(): unknown {
    if (!this.#isParsed) {
      this.#item = JSON.parse(this.itemJson);
      this.#isParsed = true;
    }
    return this.#item;
  }
}

function toConversation(conversation: JobConversation): Conversation {
  return {
    ...conversation,
    messages: conversation.messages.map(toMessage),
    lastUserMessage: conversation.lastUserMessage && toMessage(conversation.lastUserMessage),
    lastBotMessage: conversation.lastBotMessage && toMessage(conversation.lastBotMessage),
  };
}

function toMessage({ sender, content, contentType, sentAtMs }: JobMessage): ConversationMessage {
  return { sender, content, contentType, sentAt: new Date(sentAtMs) };
}
