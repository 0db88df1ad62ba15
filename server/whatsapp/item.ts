/** One item of a change and the event it becomes: messages, echoes, statuses, errors, user actions, whole changes. */

import type { DedupKey, IncomingEvent } from "../domain/event.ts";
import { messageTypeOf, readEntry, readRevision } from "./content.ts";
import { hashItem, hashMessage, hashStatus } from "./dedup.ts";
import { readHistory } from "./history.ts";
import { readIdUpdates, readSystemChange } from "./identity.ts";
import { idOf } from "./json.ts";
import type { Surroundings } from "./surroundings.ts";
import { findTime, timeOf } from "./time.ts";
import { readEchoRecipient, readSender, readStatusRecipient, readStatusRecipientId } from "./user.ts";

type Item = Record<string, unknown>;

/** Makes the event of one item. Throws RangeError if the item is nested too deep to be written as JSON. */
export type EventMaker = (item: Item, around: Surroundings) => IncomingEvent;

export function makeReceived(message: Item, around: Surroundings): IncomingEvent {
  const type = messageTypeOf(message);
  const event = makeEvent(
    type === "reaction" ? "message.reaction" : "message.received",
    message,
    timeOf(message.timestamp) ?? around.entryAt,
    hashOfMessage("received", message, type, around),
    around,
  );
  event.user = readSender(message, around.contacts, around.businessPhone);
  if (hasIdentity(event)) event.entry = readEntry(message, type, "user");
  event.revision = readRevision(message, type);
  const identityChange = type === "system" ? readSystemChange(message, event.user) : null;
  if (identityChange) event.identityChanges = [identityChange];
  return event;
}

export function makeSent(echo: Item, around: Surroundings): IncomingEvent {
  const type = messageTypeOf(echo);
  const event = makeEvent(
    "message.sent",
    echo,
    timeOf(echo.timestamp) ?? around.entryAt,
    hashOfMessage("sent", echo, type, around),
    around,
  );
  event.user = readEchoRecipient(echo, around.contacts, around.businessPhone);
  if (hasIdentity(event)) event.entry = readEntry(echo, type, "bot");
  event.revision = readRevision(echo, type);
  Object.assign(event.dedup, daysOf(event.occurredAt));
  return event;
}

export function makeStatus(status: Item, around: Surroundings): IncomingEvent {
  const event = makeEvent(
    "message.status",
    status,
    timeOf(status.timestamp) ?? around.entryAt,
    hashOfStatus(status),
    around,
  );
  event.user = readStatusRecipient(status, around.contacts);
  return event;
}

/** An item of `errors`: it has no time of its own, and WhatsApp does not say whose it is. */
export function makeError(error: Item, around: Surroundings): IncomingEvent {
  return makeEvent("whatsapp.error", error, around.entryAt, null, around);
}

export function makeUserAction(action: Item, around: Surroundings): IncomingEvent {
  const occurredAt = timeOf(action.timestamp) ?? around.entryAt;
  return makeEvent("whatsapp.user_action", action, occurredAt, null, around);
}

/**
 * A change that is one event, its whole value the item. The times inside a `history` are those of the messages it
 * brings along: they place its key, but the import itself happened when WhatsApp sent it.
 */
export function makeChange(value: unknown, around: Surroundings): IncomingEvent {
  const foundAt = findTime(value) ?? around.entryAt;
  const occurredAt = around.field === "history" ? around.entryAt : foundAt;
  const event = makeEvent(typeOfField(around.field), value, occurredAt, null, around);
  event.dedup.placedAt = foundAt;
  if (around.field === "history") {
    const imported = readHistory(value, around);
    if (imported.length > 0) event.imported = imported;
  } else if (around.field === "user_id_update") {
    const identityChanges = readIdUpdates(value, around.contacts);
    if (identityChanges.length > 0) event.identityChanges = identityChanges;
  }
  return event;
}

/** @param ownHash  the key that the item's own ids make; null = the hash of the item itself */
function makeEvent(
  type: string,
  item: unknown,
  occurredAt: Date | null,
  ownHash: string | null,
  around: Surroundings,
): IncomingEvent {
  const itemJson = JSON.stringify(item);
  return {
    type,
    phoneNumberId: around.phoneNumberId,
    businessPhone: around.businessPhone,
    wabaId: around.wabaId,
    occurredAt,
    item: itemJson,
    user: null,
    entry: null,
    revision: null,
    dedup: {
      hash: ownHash ?? hashItem(around.entryId, around.entryTime, around.field, itemJson),
      placedAt: occurredAt,
    },
  };
}

function hashOfMessage(
  direction: "received" | "sent",
  message: Item,
  type: string,
  around: Surroundings,
): string | null {
  const wamid = idOf(message.id);
  return wamid === null || around.phoneNumberId === null
    ? null
    : hashMessage(direction, around.phoneNumberId, wamid, type);
}

function hashOfStatus(status: Item): string | null {
  const wamid = idOf(status.id);
  const state = idOf(status.status);
  const recipientId = readStatusRecipientId(status);
  const timestamp = idOf(status.timestamp);
  return wamid === null || state === null || recipientId === null || timestamp === null
    ? null
    : hashStatus(wamid, state, recipientId, timestamp);
}

/**
 * Keys of what the business sends lie by the day: of a message sent through us both its sending and its echo are told,
 * each with a time of its own, seconds apart. Near midnight those may be two days, so the key lies at both.
 */
function daysOf(at: Date | null): Pick<DedupKey, "placedAt" | "alsoPlacedAt"> {
  if (at === null) return { placedAt: null };
  const dayAt = (ms: number) => new Date(Math.floor(ms / dayMs) * dayMs);
  const placedAt = dayAt(at.getTime());
  for (const nearMs of [at.getTime() - midnightMarginMs, at.getTime() + midnightMarginMs]) {
    const alsoPlacedAt = dayAt(nearMs);
    if (alsoPlacedAt.getTime() !== placedAt.getTime()) return { placedAt, alsoPlacedAt };
  }
  return { placedAt };
}

const dayMs = 24 * 3_600_000;
const midnightMarginMs = 10 * 60_000;

/** A conversation needs somebody to be had with. */
function hasIdentity(event: IncomingEvent): boolean {
  return event.user !== null && (event.user.phone !== null || event.user.bsuid !== null);
}

/** `whatsapp.<field>`; a field that is missing or no plain name becomes `whatsapp.unknown`. */
function typeOfField(field: string | null): string {
  return field !== null && /^[\w.-]{1,100}$/.test(field) ? `whatsapp.${field}` : "whatsapp.unknown";
}
