/** Events to try a transformer on: one of every kind, and any of the author's own. */

import { buildTask } from "../../server/delivery/jobs.ts";
import { sampleHistory, sampleStoredEvent } from "../../server/delivery/sample-input.ts";
import type { IncomingEvent } from "../../server/domain/event.ts";
import { splitBody } from "../../server/whatsapp/envelope.ts";
import type { TransformTask } from "../../server/workers/job.ts";
import { sampleBodies } from "./bodies.ts";

/** An event to try a transformer on. */
export interface Sample {
  /** `text`, `voice note`, `status failed`, `account update`, … */
  readonly name: string;
  /** The event's type, such as `message.received`. */
  readonly type: string;
  /** What the gateway hands to the threads of transformers, the options aside. */
  readonly task: Omit<TransformTask, "transformer" | "options">;
}

/**
 * One event of every kind that WhatsApp sends, newer and broken kinds among them: what a transformer has to stand.
 * The people, numbers and ids do not exist; all of it happened at 2026-03-05T12:00:00Z. Each call makes them anew.
 */
export function samples(): Sample[] {
  return sampleBodies().map(([name, body]) => {
    const [sample] = readSamples(JSON.stringify(body), { name });
    const { event } = sample!.task;
    // What is about an account and no number of it may be no single client's.
    return event.phoneNumberId === null
      ? { ...sample!, task: { ...sample!.task, event: { ...event, clientRef: null } } }
      : sample!;
  });
}

/** @throws Error with the names that there are */
export function sampleOf(name: string): Sample {
  const all = samples();
  const found = all.find((sample) => sample.name === name);
  if (found !== undefined) return found;
  throw new Error(
    `there is no sample ${JSON.stringify(name)}; there are ${all.map((sample) => sample.name).join(", ")}`,
  );
}

/** What is not in a body itself. */
export interface ReadSettings {
  /** What to call them; several get a number. Default `sample`. */
  readonly name?: string;
  /** When the gateway took them in; default 2026-03-05T12:00:02Z. */
  readonly receivedAt?: Date;
}

/**
 * The events of a body that WhatsApp sends, or of a single item (a message or a status), split as the gateway does it.
 * Client, contact and one earlier message of the other side are made up, as PreviewTransform does it for a body.
 *
 * @param json  JSON text
 * @throws Error saying what cannot be read
 */
export function readSamples(json: string, settings: ReadSettings = {}): Sample[] {
  const name = settings.name ?? "sample";
  const receivedAt = settings.receivedAt ?? new Date("2026-03-05T12:00:02Z");
  const { events, faults } = splitBody(Buffer.from(wrapItem(json)), receivedAt);
  if (events.length === 0) {
    const reason = faults.length === 0 ? "it holds no event" : faults.join("; ");
    throw new Error(`not a body of a WhatsApp webhook, nor a message or status of one: ${reason}`);
  }
  return events.map((event, index) => ({
    name: events.length === 1 ? name : `${name} ${index + 1}`,
    type: event.type,
    task: toTask(event, receivedAt),
  }));
}

const envelopeKeys = ["object", "entry", "changes", "value", "field"];
const listKeys = ["messages", "statuses", "message_echoes", "errors", "user_actions"];

/** A single item gets an envelope around its text, which stays as it is: its numbers may be beyond JavaScript's. */
function wrapItem(json: string): string {
  let item: unknown;
  try {
    item = JSON.parse(json);
  } catch (error) {
    throw new Error(`not JSON: ${(error as Error).message}`);
  }
  if (typeof item !== "object" || item === null || Array.isArray(item)) return json;
  const has = (key: string) => Object.hasOwn(item, key);
  if ([...envelopeKeys, ...listKeys].some(has)) return json;
  if (has("status")) return `{"statuses":[${json}]}`;
  if (has("to") || has("to_user_id")) return `{"message_echoes":[${json}]}`;
  return ["id", "type", "from"].some(has) ? `{"messages":[${json}]}` : json;
}

const eventId = "0199c0de-0000-7000-8000-00000000000e";
const mediaUrl = "https://gateway.example.com/media/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
/** As many messages as any transformer may ask for. */
const historyMax = 50;

function toTask(event: IncomingEvent, receivedAt: Date): Sample["task"] {
  const owner = { tenantId: 1, clientId: null, clientRef: null };
  const stored = sampleStoredEvent(event, owner, eventId, receivedAt);
  const history = sampleHistory(event, historyMax, receivedAt);
  const task = buildTask(stored, history, { transformer: "", transformerOptions: {} });
  const hasFile = (event.entry?.mediaId ?? null) !== null;
  return { event: task.event, conversation: task.conversation, mediaUrl: hasFile ? mediaUrl : null };
}
