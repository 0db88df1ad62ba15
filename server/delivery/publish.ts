/**
 * Accepts events: drops repeats, finds whose they are and which webhooks want them, and stores events, conversation
 * and deliveries together. What arrives while a commit is under way shares the next one.
 *
 * Promises: when `publish` settles, the events and their deliveries are durable, routed by a configuration that was
 * current when they were committed. An event that the database refuses as data never fails its neighbours: the commit
 * is repeated in halves until the bad one stands alone, and that one is kept as a malformed body.
 */

import type { Logger } from "pino";
import type pg from "pg";
import type { Clock } from "../clock.ts";
import { GatewayError } from "../domain/errors.ts";
import type { IncomingEvent } from "../domain/event.ts";
import type { IdSource } from "../domain/ids.ts";
import { admits, type WebhookTarget } from "../domain/webhook.ts";
import { addClientsOf, type UnknownNumber } from "../store/clients.ts";
import type { Directory, DirectoryClient, DirectoryNumber } from "../store/configuration.ts";
import {
  type ContactAsked,
  type ContactBook,
  type LockedConversation,
  resolveContacts,
} from "../store/contacts.ts";
import type { ClaimedDelivery } from "../store/deliveries.ts";
import type { DirectoryKeeper } from "../store/directory.ts";
import type { ConversationSnapshot, StoredDetails, StoredEvent } from "../store/events.ts";
import { isConnectionFault, isDataFault, isRepeatable } from "../store/faults.ts";
import { keepMalformed } from "../store/malformed.ts";
import type { Database } from "../store/orm.ts";
import type { Partitions } from "../store/partitions.ts";
import {
  commitPublishing,
  type NewDelivery,
  type NewEvent,
  type NewMessage,
  type NewRevision,
  openPublishing,
  type Opened,
} from "../store/publishing.ts";

export interface PublishedEvent {
  /** Null for a repeat, and for an event that could not be stored. */
  eventId: string | null;
  isDuplicate: boolean;
  deliveryCount: number;
}

/** Whose events a caller may publish; null = anybody's. */
export interface PublishScope {
  tenantId: number | null;
}

export interface Publisher {
  /**
   * Settles when all events are durable, with one answer an event in the same order.
   *
   * @throws GatewayError `unavailable` when the database is away or too far behind; nothing may be taken for stored
   * @throws GatewayError `forbidden` when an event is outside the scope; nothing of the call is stored
   */
  publish(events: readonly IncomingEvent[], scope: PublishScope): Promise<PublishedEvent[]>;
  /** Settles when everything accepted is committed. */
  close(): Promise<void>;
}

/** What the publisher hands to the dispatcher, without a second read. */
export interface Handover {
  /**
   * Settles when there is room for more deliveries in flight, or after a moment: back-pressure, so that events are not
   * taken in faster than they go out, by way of the table.
   */
  waitForRoom(): Promise<void>;
  /** Asks for a place in flight; false = leave it in the table. */
  reserve(target: WebhookTarget): boolean;
  /** Gives back a place whose delivery was not committed. */
  release(webhookId: number): void;
  /** Starts deliveries whose places were reserved. */
  start(deliveries: { claimed: ClaimedDelivery; event: StoredEvent }[]): void;
}

export interface PublisherParts {
  database: Database;
  directory: DirectoryKeeper;
  partitions: Partitions;
  handover: Handover;
  /** Event types that a transformer makes payloads of; undefined if it is not loaded. */
  handlesOf(transformer: string): readonly string[] | undefined;
  ids: IdSource;
  clock: Clock;
  log: Logger;
}

export interface PublishSettings {
  /** Make a client for a number that has none, and take account-level events of unknown accounts (development). */
  autoClients: boolean;
  leaseMs: number;
  /** Events that share a commit at most. */
  batchEventsMax: number;
  /** Events waiting at most; beyond it `publish` is refused as `unavailable`. */
  queueEventsMax: number;
}

interface Queued {
  event: IncomingEvent;
  scope: PublishScope;
  receivedAt: Date;
  resolve(published: PublishedEvent): void;
  reject(error: unknown): void;
}

interface Route {
  tenantId: number;
  client: DirectoryClient | null;
  number: DirectoryNumber | null;
}

const nobody: Route = { tenantId: 0, client: null, number: null };
const attemptsMax = 5;

export function createPublisher(parts: PublisherParts, settings: PublishSettings): Publisher {
  const { database, directory, clock, log } = parts;
  const queue: Queued[] = [];
  let draining: Promise<void> | null = null;
  let isClosed = false;

  async function drain(): Promise<void> {
    while (queue.length > 0) {
      await parts.handover.waitForRoom();
      await commit(queue.splice(0, settings.batchEventsMax));
    }
    // In the same turn as the look at the queue: what is queued from here on starts a drain of its own.
    draining = null;
  }

  /** Never rejects: every queued event gets its own answer. */
  async function commit(batch: Queued[]): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        const done = await commitOnce(parts, settings, batch);
        if (done) return;
      } catch (error) {
        if (isRepeatable(error) && attempt < attemptsMax) continue;
        if (isDataFault(error)) return await isolate(batch, error);
        return refuse(batch, error);
      }
      if (attempt >= attemptsMax) return refuse(batch, new Error("configuration changed too often"));
    }
  }

  async function isolate(batch: Queued[], error: unknown): Promise<void> {
    if (batch.length > 1) {
      const half = Math.ceil(batch.length / 2);
      await commit(batch.slice(0, half));
      return await commit(batch.slice(half));
    }
    const [queued] = batch;
    log.error({ err: error, eventType: queued!.event.type }, "event could not be stored; kept as malformed");
    try {
      await keepMalformed(database, Buffer.from(queued!.event.item), "not storable", clock.now());
      queued!.resolve({ eventId: null, isDuplicate: false, deliveryCount: 0 });
    } catch (keepError) {
      refuse(batch, keepError);
    }
  }

  function refuse(batch: Queued[], error: unknown): void {
    if (!isConnectionFault(error)) log.error({ err: error }, "events could not be committed");
    const refusal =
      error instanceof GatewayError
        ? error
        : new GatewayError("unavailable", "the database is not available, try again", { cause: error });
    for (const queued of batch) queued.reject(refusal);
  }

  return {
    async publish(events, scope) {
      if (isClosed) throw new GatewayError("unavailable", "the gateway is stopping, try again");
      if (events.length === 0) return [];
      if (queue.length + events.length > settings.queueEventsMax && queue.length > 0) {
        throw new GatewayError("unavailable", "too many events are waiting to be stored, try again");
      }
      if (scope.tenantId !== null) assertOwned(directory.current, events, scope.tenantId);
      const receivedAt = clock.now();
      const answers = events.map(
        (event) =>
          new Promise<PublishedEvent>((resolve, reject) => {
            queue.push({ event, scope, receivedAt, resolve, reject });
          }),
      );
      draining ??= drain();
      return await Promise.all(answers);
    },
    async close() {
      isClosed = true;
      while (draining) await draining;
    },
  };
}

/** Refuses events of numbers and accounts that are not the tenant's. */
function assertOwned(current: Directory, events: readonly IncomingEvent[], tenantId: number): void {
  for (const [index, event] of events.entries()) {
    if (routeOf(current, event, false)?.tenantId !== tenantId) {
      throw new GatewayError(
        "forbidden",
        `event ${index} (${event.type}) is of a number or account that no client of this tenant has`,
        { field: `events[${index}]` },
      );
    }
  }
}

/**
 * @param isAnybodys  true if events of unknown accounts go to tenant `default` (development)
 * @returns undefined for a number that no client has
 */
function routeOf(current: Directory, event: IncomingEvent, isAnybodys: boolean): Route | undefined {
  if (event.phoneNumberId !== null) {
    const number = current.numbers.get(event.phoneNumberId);
    return number && { tenantId: number.client.tenantId, client: number.client, number };
  }
  const owners = event.wabaId === null ? [] : (current.wabas.get(event.wabaId) ?? []);
  const tenantId = owners[0]?.tenantId;
  if (tenantId !== undefined && owners.every((owner) => owner.tenantId === tenantId)) {
    return { tenantId, client: owners.length === 1 ? owners[0]! : null, number: null };
  }
  const fallback = isAnybodys && owners.length === 0 ? current.tenantIds.get("default") : undefined;
  return fallback === undefined ? nobody : { tenantId: fallback, client: null, number: null };
}

/** One try at committing a batch; false if the configuration changed under it. */
async function commitOnce(
  parts: PublisherParts,
  settings: PublishSettings,
  batch: readonly Queued[],
): Promise<boolean> {
  const { database, directory, partitions, clock } = parts;
  if (settings.autoClients) await addMissingClients(parts, batch);
  const now = clock.now();
  // Ids are minted below; the second day is for those that fall behind the coming midnight.
  await partitions.ensureDay(now);
  await partitions.ensureDay(new Date(now.getTime() + 60_000));

  const routes = batch.map(({ event }) => routeOf(directory.current, event, settings.autoClients) ?? nobody);
  const asked = batch.map(({ event }, index) => contactAskedBy(event, routes[index]!));
  const keys = batch.map(({ event }, index) => ({ ...event.dedup, tenantId: routes[index]!.tenantId }));

  const client = await database.pool.connect();
  let plan: Plan | undefined;
  try {
    const opened = await openPublishing(client, keys, distinct(asked), now);
    if (opened.configurationVersion !== directory.current.version) {
      await client.query("ROLLBACK");
      await directory.refresh(client);
      client.release();
      return false;
    }
    const book = await contactBook(parts, client, asked, opened, now);
    plan = planRows(parts, settings, batch, { routes, asked, fresh: opened.fresh, book, now });
    await commitPublishing(client, plan, now);
    client.release();
  } catch (error) {
    for (const delivery of plan?.started ?? []) parts.handover.release(delivery.claimed.webhookId);
    await client.query("ROLLBACK").then(
      () => client.release(),
      () => client.release(true),
    );
    throw error;
  }
  parts.handover.start(plan.started);
  for (const [index, queued] of batch.entries()) queued.resolve(plan.answers[index]!);
  return true;
}

async function addMissingClients(parts: PublisherParts, batch: readonly Queued[]): Promise<void> {
  const missing = new Map<string, UnknownNumber>();
  for (const { event } of batch) {
    const id = event.phoneNumberId;
    if (id === null || parts.directory.current.numbers.has(id)) continue;
    missing.set(id, { phoneNumberId: id, businessPhone: event.businessPhone, wabaId: event.wabaId });
  }
  if (missing.size === 0) return;
  await addClientsOf(parts.database, [...missing.values()], parts.clock.now());
  await parts.directory.announce();
}

/** The contact that an event's message belongs to; null if it is no message of a client's conversation. */
function contactAskedBy(event: IncomingEvent, route: Route): ContactAsked | null {
  const { entry, user } = event;
  if (!entry || !user || !route.number || (user.phone === null && user.bsuid === null)) return null;
  return {
    clientId: route.number.client.id,
    numberId: route.number.id,
    phone: user.phone,
    bsuid: user.bsuid,
    profileName: user.profileName,
  };
}

async function contactBook(
  parts: PublisherParts,
  client: pg.ClientBase,
  asked: readonly (ContactAsked | null)[],
  opened: Opened,
  now: Date,
): Promise<ContactBook | null> {
  const wanted = asked.filter((one, index) => one !== null && opened.fresh.has(index)) as ContactAsked[];
  if (wanted.length === 0) return null;
  return await resolveContacts(client, wanted, opened.found, () => parts.ids.next(), now);
}

/** Each contact once; the order stays. */
function distinct(asked: readonly (ContactAsked | null)[]): ContactAsked[] {
  const seen = new Map<string, ContactAsked>();
  for (const one of asked) {
    if (one) seen.set(`${one.numberId} ${one.phone} ${one.bsuid}`, one);
  }
  return [...seen.values()];
}

interface Plan {
  events: NewEvent[];
  messages: NewMessage[];
  revisions: NewRevision[];
  deliveries: NewDelivery[];
  conversations: LockedConversation[];
  /** Deliveries that got a place in flight. */
  started: { claimed: ClaimedDelivery; event: StoredEvent }[];
  answers: PublishedEvent[];
}

interface Resolved {
  routes: readonly Route[];
  asked: readonly (ContactAsked | null)[];
  fresh: ReadonlySet<number>;
  book: ContactBook | null;
  now: Date;
}

function planRows(
  parts: PublisherParts,
  settings: PublishSettings,
  batch: readonly Queued[],
  resolved: Resolved,
): Plan {
  const plan: Plan = {
    events: [],
    messages: [],
    revisions: [],
    deliveries: [],
    conversations: [],
    started: [],
    answers: [],
  };
  const touched = new Set<LockedConversation>();
  const leasedUntil = new Date(resolved.now.getTime() + settings.leaseMs);
  for (const [index, queued] of batch.entries()) {
    if (!resolved.fresh.has(index)) {
      plan.answers.push({ eventId: null, isDuplicate: true, deliveryCount: 0 });
      continue;
    }
    const route = resolved.routes[index]!;
    const asked = resolved.asked[index];
    const eventId = parts.ids.next();
    let snapshot: ConversationSnapshot | null = null;
    if (asked && resolved.book) {
      const { contact, conversation } = resolved.book.find(asked);
      const sequence = ++conversation.lastSequence;
      if (queued.event.entry!.sender === "user") conversation.lastUserSequence = sequence;
      else conversation.lastBotSequence = sequence;
      touched.add(conversation);
      plan.messages.push({
        conversationId: conversation.id,
        sequence,
        numberId: asked.numberId,
        sentAt: queued.event.occurredAt ?? queued.receivedAt,
        eventId,
        entry: queued.event.entry!,
      });
      snapshot = {
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
      };
    }
    if (queued.event.revision && route.number) {
      plan.revisions.push({ numberId: route.number.id, eventId, revision: queued.event.revision });
    }
    const event = storedEvent(eventId, queued, route, snapshot);
    plan.events.push(newEvent(event, snapshot));
    const deliveryCount = planDeliveries(parts, plan, event, leasedUntil);
    plan.answers.push({ eventId, isDuplicate: false, deliveryCount });
  }
  plan.conversations = [...touched];
  return plan;
}

function planDeliveries(parts: PublisherParts, plan: Plan, event: StoredEvent, leasedUntil: Date): number {
  const webhooks = parts.directory.current.webhooksByTenant.get(event.tenantId) ?? [];
  let count = 0;
  for (const webhook of webhooks) {
    // What a missing plugin would handle is not known: its deliveries wait until it is back.
    if (!admits(webhook, event, parts.handlesOf(webhook.transformer) ?? ["*"])) continue;
    count += 1;
    const id = parts.ids.next();
    const isStarted = parts.handover.reserve(webhook);
    plan.deliveries.push({
      id,
      webhookId: webhook.id,
      tenantId: event.tenantId,
      eventId: event.id,
      eventType: event.type,
      leasedUntil: isStarted ? leasedUntil : null,
    });
    if (!isStarted) continue;
    plan.started.push({
      claimed: {
        id,
        webhookId: webhook.id,
        tenantId: event.tenantId,
        eventId: event.id,
        attemptNumber: 1,
        roundAttemptCount: 0,
        isResend: false,
        payload: null,
      },
      event,
    });
  }
  return count;
}

function storedEvent(
  id: string,
  { event, receivedAt }: Queued,
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

function newEvent(event: StoredEvent, snapshot: ConversationSnapshot | null): NewEvent {
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
    item: Buffer.from(event.itemJson),
  };
}
