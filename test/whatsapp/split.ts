import type { IncomingEvent } from "../../server/domain/event.ts";
import { type SplitResult, splitBody } from "../../server/whatsapp/envelope.ts";
import { aChange, aContact, anEnvelope, type Json, toBytes } from "../helpers/whatsapp-bodies.ts";

export const receivedAt = new Date("2026-03-05T12:00:05Z");

export function split(body: unknown): SplitResult {
  return splitBody(toBytes(body), receivedAt);
}

/** The one event of a body; fails if there are more or fewer. */
export function splitOne(body: unknown): IncomingEvent {
  const { events } = split(body);
  if (events.length !== 1) throw new Error(`expected one event, got ${events.length}`);
  return events[0]!;
}

/** The event of one message, echo or status beside the default contact. */
export function eventOf(item: Json, key = "messages", field = "messages"): IncomingEvent {
  return splitOne(anEnvelope([aChange({ contacts: [aContact()], [key]: [item] }, field)]));
}
