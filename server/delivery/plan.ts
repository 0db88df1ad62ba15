/**
 * The rows of one commit: which of the batch's events are new, their place in their conversation, and a delivery for
 * each webhook that wants them. Pure but for the ids that it draws and the places in flight that it reserves.
 */

import type { ClaimedDelivery, NewDelivery } from "../domain/delivery-claim.ts";
import type { IncomingEvent } from "../domain/event.ts";
import type { IdSource } from "../domain/ids.ts";
import { expiryOfLink, type MediaLink } from "../domain/media-link.ts";
import { admits, type WebhookTarget } from "../domain/webhook.ts";
import type { ContactAsked, ContactBook, LockedConversation } from "../store/contacts.ts";
import type { ConversationSnapshot, StoredDetails, StoredEvent } from "../store/events.ts";
import type { NewImport, NewImportFile } from "../store/imports.ts";
import type { NewMediaLink } from "../store/media-links.ts";
import type { NewEvent, NewMessage, NewRevision } from "../store/publishing.ts";
import { type EventContacts, nobodysTenantId, type Route } from "./routing.ts";

export interface PublishedEvent {
  /** Null for a repeat, and for an event that could not be stored. */
  eventId: string | null;
  isDuplicate: boolean;
  /** True if it was dropped: its body was not signed with the app secret that its client asks for. */
  isRefused?: boolean;
  deliveryCount: number;
}

export interface PlanParts {
  ids: IdSource;
  /** A new link for the media of a message. */
  makeMediaLink(): MediaLink;
  /** Webhooks of a tenant that are not deleted. */
  webhooksOf(tenantId: number): readonly WebhookTarget[];
  /** Event types that a transformer makes payloads of; undefined if it is not loaded. */
  handlesOf(transformer: string): readonly string[] | undefined;
  /** Asks for a place in flight; false = the delivery waits in the table. */
  reserve(target: WebhookTarget): boolean;
}

export interface BatchedEvent {
  event: IncomingEvent;
  receivedAt: Date;
  /** Set for an event that was stored as nobody's and finds its client only now: it keeps its id. */
  stored?: {
    eventId: string;
    /** False = it is too old to be delivered. */
    isDelivered: boolean;
  };
}

/** Everything that one commit writes, and what follows from it. */
export interface Plan {
  events: NewEvent[];
  messages: NewMessage[];
  mediaLinks: NewMediaLink[];
  imports: NewImport[];
  importFiles: NewImportFile[];
  revisions: NewRevision[];
  deliveries: NewDelivery[];
  conversations: LockedConversation[];
  /** Deliveries that got a place in flight. */
  started: { claimed: ClaimedDelivery; event: StoredEvent }[];
  answers: PublishedEvent[];
}

/** What the database answered for the batch; positions are those of the batch. */
export interface Resolved {
  routes: readonly Route[];
  contacts: readonly EventContacts[];
  /** Positions of events that are no repeats. */
  fresh: ReadonlySet<number>;
  /** Null when no new event is a message of a conversation. */
  book: ContactBook | null;
}

export function emptyPlan(): Plan {
  return {
    events: [],
    messages: [],
    mediaLinks: [],
    imports: [],
    importFiles: [],
    revisions: [],
    deliveries: [],
    conversations: [],
    started: [],
    answers: [],
  };
}

/**
 * Adds the rows of the batch to `plan`, with one answer an event. Whatever is in `plan.started` has a reserved place
 * in flight, even if this throws halfway.
 *
 * @param leasedUntil  end of the lease of deliveries that start at once
 */
export function planRows(
  plan: Plan,
  parts: PlanParts,
  batch: readonly BatchedEvent[],
  resolved: Resolved,
  leasedUntil: Date,
): void {
  const touched = new Set<LockedConversation>();
  for (const [index, batched] of batch.entries()) {
    if (!resolved.fresh.has(index)) {
      plan.answers.push({ eventId: null, isDuplicate: true, deliveryCount: 0 });
      continue;
    }
    const route = resolved.routes[index]!;
    const { message: asked, imports } = resolved.contacts[index]!;
    const eventId = batched.stored?.eventId ?? parts.ids.next();
    let snapshot: ConversationSnapshot | null = null;
    if (asked && resolved.book) {
      snapshot = planMessage(plan, parts, batched, asked, resolved.book, eventId);
      touched.add(resolved.book.find(asked).conversation);
    }
    for (const one of planImports(plan, batched.event, imports, route, resolved.book, eventId))
      touched.add(one);
    const { revision, occurredAt } = batched.event;
    if (revision && route.number) {
      const { id: numberId, client } = route.number;
      const revisedAt = occurredAt ?? batched.receivedAt;
      plan.revisions.push({ clientId: client.id, numberId, eventId, revisedAt, revision });
    }
    const event = storedEvent(eventId, batched, route, snapshot);
    plan.events.push(newEvent(batched.event, event, snapshot));
    const isDelivered = batched.stored?.isDelivered ?? true;
    const deliveryCount = isDelivered ? planDeliveries(plan, parts, event, leasedUntil) : 0;
    plan.answers.push({ eventId, isDuplicate: false, deliveryCount });
  }
  plan.conversations.push(...touched);
}

/** Gives the message its place in its conversation, and notes how the conversation stands with it. */
function planMessage(
  plan: Plan,
  parts: PlanParts,
  { event, receivedAt }: BatchedEvent,
  asked: ContactAsked,
  book: ContactBook,
  eventId: string,
): ConversationSnapshot {
  const { contact, conversation } = book.find(asked);
  const entry = event.entry!;
  const sequence = ++conversation.lastSequence;
  if (entry.sender === "user") conversation.lastUserSequence = sequence;
  else conversation.lastBotSequence = sequence;
  plan.messages.push({
    conversationId: conversation.id,
    mayBeImported: conversation.hasImports,
    sequence,
    numberId: asked.numberId,
    sentAt: event.occurredAt ?? receivedAt,
    eventId,
    entry,
  });
  const mediaUrl = planMediaLink(plan, parts, { event, receivedAt }, conversation);
  return {
    conversationId: conversation.id,
    sequence,
    userId: contact.id,
    phone: contact.phone,
    bsuid: contact.bsuid,
    name: contact.givenName ?? contact.profileName ?? "",
    note: contact.note,
    noteAutomation: contact.noteAutomation,
    labels: contact.labels,
    lastUserSequence: conversation.lastUserSequence,
    lastBotSequence: conversation.lastBotSequence,
    ...(mediaUrl !== null && { mediaUrl }),
  };
}

/**
 * Gives imported messages their conversations; what is there already is told apart by the database. A file fills the
 * placeholder that it is of, as an edit would: payloads of earlier events stay.
 *
 * @returns the conversations that got messages
 */
function planImports(
  plan: Plan,
  { imported = [] }: IncomingEvent,
  asked: readonly (ContactAsked | null)[],
  route: Route,
  book: ContactBook | null,
  eventId: string,
): Set<LockedConversation> {
  const touched = new Set<LockedConversation>();
  if (!route.number) return touched;
  const { id: numberId, client } = route.number;
  for (const [index, { messages }] of imported.entries()) {
    const one = asked[index];
    const conversation = one && book ? book.find(one).conversation : null;
    for (const { sentAt, entry, isFile } of messages) {
      if (conversation) {
        const { id: conversationId, lastSequence } = conversation;
        const visibleFrom = lastSequence + 1;
        plan.imports.push({ clientId: client.id, conversationId, numberId, visibleFrom, sentAt, entry });
        conversation.hasImports = true;
        touched.add(conversation);
      }
      const { wamid, content, contentType, mediaId } = entry;
      if (!isFile || wamid === null) continue;
      plan.revisions.push({
        clientId: client.id,
        numberId,
        eventId,
        revisedAt: sentAt,
        revision: { wamid, content, contentType },
      });
      if (mediaId !== null) plan.importFiles.push({ numberId, wamid, mediaId });
    }
  }
  return touched;
}

/** Makes the link to the newest message's media, if it has any. */
function planMediaLink(
  plan: Plan,
  parts: PlanParts,
  { event, receivedAt }: BatchedEvent,
  conversation: LockedConversation,
): string | null {
  const { mediaId, fileName = null } = event.entry!;
  if (mediaId === null) return null;
  const { url, tokenDigest } = parts.makeMediaLink();
  plan.mediaLinks.push({
    conversationId: conversation.id,
    sequence: conversation.lastSequence,
    tokenDigest,
    fileName,
    expiresAt: expiryOfLink(event.occurredAt, receivedAt),
  });
  return url;
}

function planDeliveries(plan: Plan, parts: PlanParts, event: StoredEvent, leasedUntil: Date): number {
  let count = 0;
  for (const webhook of parts.webhooksOf(event.tenantId)) {
    // What a missing plugin would handle is not known: its deliveries wait until it is back.
    if (!admits(webhook, event, parts.handlesOf(webhook.transformer) ?? ["*"])) continue;
    count += 1;
    const claimed: ClaimedDelivery = {
      id: parts.ids.next(),
      webhookId: webhook.id,
      tenantId: event.tenantId,
      eventId: event.id,
      attemptNumber: 1,
      roundAttemptCount: 0,
      isResend: false,
      payload: null,
    };
    const isStarted = parts.reserve(webhook);
    if (isStarted) plan.started.push({ claimed, event });
    plan.deliveries.push({
      id: claimed.id,
      webhookId: webhook.id,
      tenantId: event.tenantId,
      eventId: event.id,
      eventType: event.type,
      leasedUntil: isStarted ? leasedUntil : null,
    });
  }
  return count;
}

function storedEvent(
  id: string,
  { event, receivedAt }: BatchedEvent,
  route: Route,
  conversation: ConversationSnapshot | null,
): StoredEvent {
  return {
    id,
    tenantId: route.tenantId,
    clientId: route.client?.id ?? null,
    type: event.type,
    phoneNumberId: event.phoneNumberId,
    businessPhone: event.businessPhone,
    wabaId: event.wabaId,
    clientRef: route.client?.clientRef ?? null,
    occurredAt: event.occurredAt,
    receivedAt,
    user: event.user,
    conversation,
    itemJson: event.item,
  };
}

function newEvent(
  { entry, revision, identityChanges, imported, dedup }: IncomingEvent,
  event: StoredEvent,
  snapshot: ConversationSnapshot | null,
): NewEvent {
  let conversation: StoredDetails["conversation"] = null;
  if (snapshot) {
    const { conversationId: _, sequence: __, ...rest } = snapshot;
    conversation = rest;
  }
  const details: StoredDetails = {
    clientRef: event.clientRef,
    businessPhone: event.businessPhone,
    user: event.user,
    conversation,
    ...(event.tenantId === nobodysTenantId && {
      unrouted: {
        entry,
        revision,
        ...(identityChanges && { identityChanges }),
        ...(imported && { imported }),
        dedup: { hash: dedup.hash, placedMs: dedup.placedAt?.getTime() ?? null },
      },
    }),
  };
  return {
    id: event.id,
    tenantId: event.tenantId,
    clientId: event.clientId,
    type: event.type,
    phoneNumberId: event.phoneNumberId,
    wabaId: event.wabaId,
    occurredAt: event.occurredAt,
    receivedAt: event.receivedAt,
    conversationId: snapshot?.conversationId ?? null,
    sequence: snapshot?.sequence ?? null,
    details: JSON.stringify(details),
    item: event.itemJson,
  };
}
