/**
 * Splits the body of a WhatsApp webhook into events, one for each item (contract, section 4).
 *
 *   body ─► entry[] ─► changes[] ─► field `messages`, or none     messages[]       ─► message.received, message.reaction
 *                                                                 statuses[]       ─► message.status
 *                                                                 message_echoes[] ─► message.sent
 *                                                                 errors[]         ─► whatsapp.error
 *                                                                 user_actions[]   ─► whatsapp.user_action
 *                                   `(smb_)message_echoes`        the same, messages[] ─► message.sent
 *                                   any other                     the whole value      ─► whatsapp.<field>
 *
 * It promises to throw on no bytes whatsoever, and that no part of a body costs its siblings. Shortened bodies that
 * people post by hand are read too: a bare entry, change or value; no `object`; no `field`.
 */

import { isUtf8 } from "node:buffer";
import type { IncomingEvent } from "../domain/event.ts";
import {
  type EventMaker,
  makeChange,
  makeError,
  makeReceived,
  makeSent,
  makeStatus,
  makeUserAction,
} from "./item.ts";
import { parseLossless, recordOf, textOf } from "./json.ts";
import { readSurroundings, type Surroundings } from "./surroundings.ts";

/** WhatsApp sends at most 1,000 updates in a body; a body of more items than this is made to do harm. */
const eventCountMax = 20_000;
const faultCountMax = 50;

export interface SplitResult {
  /** By their WhatsApp time (those without one last), then by their place in the body. */
  events: IncomingEvent[];
  /** Where each event stands in the body, such as `entry[0].changes[0].value.messages[0]`; in the order of `events`. */
  paths: string[];
  /** False when nothing could be split out: the body is worth keeping as it came. */
  isSensible: boolean;
  /** What could not be read, as `path: reason`, at most 50; the events beside it are complete. */
  faults: string[];
}

interface Makers {
  readonly messages: EventMaker;
  readonly message_echoes: EventMaker;
  readonly statuses: EventMaker;
  readonly errors: EventMaker;
  readonly user_actions: EventMaker;
}

const inboundMakers: Makers = {
  messages: makeReceived,
  message_echoes: makeSent,
  statuses: makeStatus,
  errors: makeError,
  user_actions: makeUserAction,
};
const echoMakers: Makers = { ...inboundMakers, messages: makeSent };
const itemKeys = Object.keys(inboundMakers) as (keyof Makers)[];

type Item = Record<string, unknown>;
interface Located {
  event: IncomingEvent;
  path: string;
}
interface Split {
  found: Located[];
  faults: string[];
}

class TooManyItems extends Error {}

/**
 * @param rawBody     the bytes as received; their signature is checked before
 * @param receivedAt  stands in for a missing time when events are put in order, and for nothing else
 */
export function splitBody(rawBody: Uint8Array, receivedAt: Date): SplitResult {
  const split: Split = { found: [], faults: [] };
  try {
    splitEnvelope(readJson(rawBody, split), split);
  } catch (error) {
    if (!(error instanceof TooManyItems)) throw error;
    return {
      events: [],
      paths: [],
      isSensible: false,
      faults: [`body: holds more than ${eventCountMax} items`],
    };
  }
  const found = inOrder(split.found, receivedAt);
  return {
    events: found.map(({ event }) => event),
    paths: found.map(({ path }) => path),
    isSensible: found.length > 0,
    faults: split.faults,
  };
}

/** The body as JSON; undefined if it is none. */
function readJson(rawBody: Uint8Array, split: Split): unknown {
  if (!isUtf8(rawBody)) addFault(split, "body", "is not UTF-8");
  const bytes = Buffer.from(rawBody.buffer, rawBody.byteOffset, rawBody.byteLength);
  const text = bytes.toString("utf8");
  const json = text.startsWith("\uFEFF") ? text.slice(1) : text;
  try {
    return parseLossless(json);
  } catch (error) {
    if (!(error instanceof RangeError)) return undefined;
  }
  // Some part is nested too deep for the careful parser. The plain one has no such limit, and a rounded
  // number is better than lost siblings.
  addFault(split, "body", "is nested too deep to keep the source text of numbers");
  try {
    return JSON.parse(json);
  } catch {
    return undefined;
  }
}

function splitEnvelope(body: unknown, split: Split): void {
  const envelope = recordOf(body);
  if (envelope === null) {
    addFault(split, "body", "is not a JSON object");
    return;
  }
  const object = envelope.object ?? null;
  if (object !== null && object !== "whatsapp_business_account") {
    addFault(split, "object", "is not whatsapp_business_account");
    return;
  }
  if (Array.isArray(envelope.entry)) {
    for (const [index, entry] of envelope.entry.entries()) splitEntry(entry, `entry[${index}]`, split);
  } else if (envelope.changes !== undefined) {
    splitEntry(envelope, "body", split);
  } else if (envelope.value !== undefined) {
    splitChange(envelope, {}, "body", split);
  } else if (itemKeys.some((key) => Array.isArray(envelope[key]))) {
    splitChange({ value: envelope }, {}, "body", split);
  } else {
    addFault(split, "entry", "is not a list");
  }
}

function splitEntry(value: unknown, path: string, split: Split): void {
  const entry = recordOf(value);
  if (entry === null || !Array.isArray(entry.changes)) {
    addFault(split, path, "has no list of changes");
    return;
  }
  for (const [index, change] of entry.changes.entries()) {
    splitChange(change, entry, `${path}.changes[${index}]`, split);
  }
}

function splitChange(item: unknown, entry: Item, path: string, split: Split): void {
  const change = recordOf(item);
  if (change === null || (change.value ?? null) === null) {
    addFault(split, path, "has no value");
    return;
  }
  const value = recordOf(change.value);
  // Meta's own pages have `field` one level too high or too low now and then.
  const field = textOf(change.field) ?? textOf(value?.field) ?? textOf(entry.field);
  const around = readSurroundings(value ?? {}, entry, field);
  const makers = makersOf(field, value);
  if (makers !== null && value !== null && itemKeys.some((key) => (value[key] ?? null) !== null)) {
    for (const key of itemKeys)
      splitItems(value[key] ?? null, makers[key], around, `${path}.value.${key}`, split);
  } else if (makers !== null && (value === null || Object.keys(value).length === 0)) {
    addFault(split, `${path}.value`, "holds nothing");
  } else {
    addEvent(change.value, makeChange, around, `${path}.value`, split);
  }
}

/** How the items of a change are read; null for a change that is one event as a whole. */
function makersOf(field: string | null, value: Item | null): Makers | null {
  if (field === "messages") return inboundMakers;
  if (field === "message_echoes" || field === "smb_message_echoes") return echoMakers;
  const looksLikeMessages =
    field === null && value !== null && itemKeys.some((key) => Array.isArray(value[key]));
  return looksLikeMessages ? inboundMakers : null;
}

function splitItems(
  items: unknown,
  make: EventMaker,
  around: Surroundings,
  path: string,
  split: Split,
): void {
  if (items === null) return;
  if (!Array.isArray(items)) {
    addFault(split, path, "is not a list");
    return;
  }
  for (const [index, value] of items.entries()) {
    const item = recordOf(value);
    if (item === null) addFault(split, `${path}[${index}]`, "is not an object");
    else addEvent(item, make, around, `${path}[${index}]`, split);
  }
}

function addEvent<T>(
  item: T,
  make: (item: T, around: Surroundings) => IncomingEvent,
  around: Surroundings,
  path: string,
  split: Split,
): void {
  if (split.found.length === eventCountMax) throw new TooManyItems();
  try {
    split.found.push({ event: make(item, around), path });
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    addFault(split, path, "is nested too deep");
  }
}

/** Sorts by time, and keeps the order of the body where times are the same. */
function inOrder(found: Located[], receivedAt: Date): Located[] {
  const timeMs = ({ event }: Located) => (event.occurredAt ?? receivedAt).getTime();
  return found.length < 2 ? found : found.sort((first, second) => timeMs(first) - timeMs(second));
}

function addFault(split: Split, path: string, reason: string): void {
  if (split.faults.length < faultCountMax) split.faults.push(`${path}: ${reason}`);
}
