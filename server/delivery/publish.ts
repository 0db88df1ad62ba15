/**
 * Accepts events: drops repeats, finds whose they are and which webhooks want them, and stores events, conversation
 * and deliveries together. What arrives while a commit is under way shares the next one.
 *
 * Promises: when `publish` settles, the events and their deliveries are durable, routed by a configuration that was
 * current when they were committed. An event that the database refuses as data never fails its neighbours: the commit
 * is repeated in halves until the bad one stands alone, and that one is kept as a malformed body.
 */

import type pg from "pg";
import type { Logger } from "pino";
import type { Clock } from "../clock.ts";
import type { ClaimedDelivery } from "../domain/delivery-claim.ts";
import type { DeliveryQueue } from "../domain/delivery-queue.ts";
import { GatewayError } from "../domain/errors.ts";
import type { IncomingEvent } from "../domain/event.ts";
import type { IdSource } from "../domain/ids.ts";
import type { MediaLink } from "../domain/media-link.ts";
import type { WebhookTarget } from "../domain/webhook.ts";
import { addClientsOf, type UnknownNumber } from "../store/auto-clients.ts";
import { type ContactMemory, createContactMemory } from "../store/contact-memory.ts";
import { type ContactAsked, type ContactBook, resolveContacts } from "../store/contacts.ts";
import type { DirectoryKeeper } from "../store/directory.ts";
import type { StoredEvent } from "../store/events.ts";
import { isDatabaseOutage, isDataFault, isRepeatable } from "../store/faults.ts";
import { keepMalformed } from "../store/malformed.ts";
import type { Database } from "../store/orm.ts";
import type { Partitions } from "../store/partitions.ts";
import { beginPublishing, commitPublishing, openPublishing } from "../store/publishing.ts";
import { type BatchLimits, takeBatch } from "./batching.ts";
import { createKnownPairs, type KnownPairs } from "./known-pairs.ts";
import { createNotice } from "./notice.ts";
import { emptyPlan, type PublishedEvent, planRows } from "./plan.ts";
import { contactsOf, distinctContacts, listContacts, nobodysTenantId, routeOf } from "./routing.ts";
import { areAllowed, dropRefused, isLimited, type PublishScope, type Waiting } from "./screening.ts";

export type { PublishedEvent } from "./plan.ts";
export type { PublishScope } from "./screening.ts";

export interface Publisher {
  /**
   * Settles when all events are durable, with one answer an event in the same order.
   *
   * @throws GatewayError `unavailable` when the database is away or too far behind; nothing may be taken for stored
   * @throws GatewayError `forbidden` when an event is not of the scope's tenant or client; nothing of the call is
   *         stored. An event that the scope's signer may not bring is dropped alone (`isRefused`)
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
  queue: Pick<DeliveryQueue<pg.ClientBase>, "enqueue">;
  database: Database;
  directory: DirectoryKeeper;
  partitions: Partitions;
  handover: Handover;
  /** Event types that a transformer makes payloads of; undefined if it is not loaded. */
  handlesOf(transformer: string): readonly string[] | undefined;
  ids: IdSource;
  /** A new link for the media of a message. */
  makeMediaLink(): MediaLink;
  clock: Clock;
  log: Logger;
}

export interface PublishSettings {
  /** Make a client for a number that has none, and take account-level events of unknown accounts (development). */
  autoClients: boolean;
  leaseMs: number;
  /** Events that share a commit at most. */
  batchEventsMax: number;
  /** Events that share a commit have so many bytes together, or little more: a commit is in memory several times. */
  batchBytesMax: number;
  /** Events waiting at most; beyond it `publish` is refused as `unavailable`. */
  queueEventsMax: number;
}

interface Queued extends Waiting {
  receivedAt: Date;
}

/** What is remembered of contacts from commit to commit. */
interface Known {
  pairs: KnownPairs;
  contacts: ContactMemory;
}

const attemptsMax = 5;

export function createPublisher(parts: PublisherParts, settings: PublishSettings): Publisher {
  const { database, directory, clock, log } = parts;
  const queue: Queued[] = [];
  const known: Known = {
    pairs: createKnownPairs(() => clock.now().getTime()),
    contacts: createContactMemory(),
  };
  const unroutedNotice = createNotice(
    parts,
    "events of numbers or accounts that no client has were kept; ListUnroutedNumbers counts them",
  );
  const droppedNotice = createNotice(
    parts,
    "events were dropped: their body was not signed with the app secret that their client asks for",
  );
  let draining: Promise<void> | null = null;
  let isClosed = false;
  const batchLimits: BatchLimits<Queued> = {
    countMax: settings.batchEventsMax,
    bytesMax: settings.batchBytesMax,
    bytesOf: ({ event }) => event.item.length,
    sourceOf: tenantOf,
    isJoined: isOneLimitedCall,
  };

  /** Whose an event is, as far as it is known before its commit. */
  function tenantOf({ event, scope }: Queued): number {
    const owner =
      event.phoneNumberId === null ? undefined : directory.current.numbers.get(event.phoneNumberId);
    return scope.tenantId ?? owner?.client?.tenantId ?? nobodysTenantId;
  }

  async function drain(): Promise<void> {
    while (queue.length > 0) {
      await parts.handover.waitForRoom();
      await commit(takeBatch(queue, batchLimits));
    }
    // In the same turn as the look at the queue: what is queued from here on starts a drain of its own.
    draining = null;
  }

  /** Never rejects: every queued event gets its own answer. */
  async function commit(queued: Queued[]): Promise<void> {
    let batch = queued;
    let holdsConfiguration = false;
    for (let attempt = 1; ; attempt++) {
      try {
        const outcome = await commitOnce(parts, settings, known, batch, holdsConfiguration);
        // Changes may follow each other faster than commits: the next try does not let one come between.
        if (outcome === "stale") holdsConfiguration = true;
        else if (outcome === "misremembered") continue;
        else if (outcome === "refused") {
          const { allowed, dropped } = await dropRefused(directory, batch);
          droppedNotice.note(dropped.map(({ event }) => event.phoneNumberId));
          batch = allowed;
        } else {
          unroutedNotice.note(outcome.unroutedNumberIds);
          return;
        }
        if (batch.length === 0) return;
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
    if (!isDatabaseOutage(error)) log.error({ err: error }, "events could not be committed");
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
      const receivedAt = clock.now();
      // A copy, by which the events of this call know each other.
      const ownScope: PublishScope = { ...scope };
      const answers = events.map(
        (event, index) =>
          new Promise<PublishedEvent>((resolve, reject) => {
            queue.push({ event, index, scope: ownScope, receivedAt, resolve, reject });
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

/** A call that may be refused as a whole stays in one commit, however long it is. */
function isOneLimitedCall(first: Queued, second: Queued): boolean {
  return first.scope === second.scope && isLimited(second);
}

/**
 * One try at committing a batch.
 *
 * @param holdsConfiguration  true = lock the configuration before the events are routed: it costs a round trip, and the
 *                            try is not `stale`
 * @returns the number, if any, of each event that is nobody's; `stale` if the configuration changed under it,
 *          `misremembered` if a contact is not where it was, and `refused` if not all of them may be stored: nothing is, then
 */
async function commitOnce(
  parts: PublisherParts,
  settings: PublishSettings,
  known: Known,
  batch: readonly Queued[],
  holdsConfiguration: boolean,
): Promise<{ unroutedNumberIds: (string | null)[] } | "stale" | "misremembered" | "refused"> {
  const { database, directory, partitions, clock } = parts;
  if (settings.autoClients) await addMissingClients(parts, batch);
  const now = clock.now();
  // Ids are minted below; the second day is for those that fall behind the coming midnight.
  await partitions.ensureDay(now);
  await partitions.ensureDay(new Date(now.getTime() + 60_000));

  const plan = emptyPlan();
  let wanted: ContactAsked[] = [];
  let book: ContactBook | null = null;
  const client = await database.pool.connect();
  try {
    if (holdsConfiguration) {
      await beginPublishing(client);
      await directory.refresh(client);
    }
    const routedBy = directory.current.version;
    if (!areAllowed(directory.current, batch)) {
      if (holdsConfiguration) await client.query("ROLLBACK");
      client.release();
      return "refused";
    }
    const routes = batch.map(({ event }) => routeOf(directory.current, event, settings.autoClients));
    const contacts = batch.map(({ event }, index) => contactsOf(event, routes[index]!, known.pairs.has));
    const keys = batch.map(({ event }, index) => ({ ...event.dedup, tenantId: routes[index]!.tenantId }));
    const opened = await openPublishing(
      client,
      keys,
      distinctContacts(listContacts(contacts)),
      now,
      holdsConfiguration,
      known.contacts,
    );
    // From here to the commit no configuration changes, so what routed the events may choose their webhooks, too.
    if (opened.configurationVersion !== routedBy) {
      await client.query("ROLLBACK");
      await directory.refresh(client);
      client.release();
      return "stale";
    }
    const { found } = opened;
    if (found === null) {
      await client.query("ROLLBACK");
      client.release();
      return "misremembered";
    }
    wanted = listContacts(contacts.filter((_, index) => opened.fresh.has(index)));
    if (wanted.length > 0) book = await resolveContacts(client, wanted, found, () => parts.ids.next(), now);
    const planParts = {
      ids: parts.ids,
      makeMediaLink: parts.makeMediaLink,
      handlesOf: parts.handlesOf,
      reserve: parts.handover.reserve,
      webhooksOf: (tenantId: number) => directory.current.webhooksByTenant.get(tenantId) ?? [],
    };
    const leasedUntil = new Date(now.getTime() + settings.leaseMs);
    planRows(plan, planParts, batch, { routes, contacts, fresh: opened.fresh, book }, leasedUntil);
    await commitPublishing(client, plan, now, parts.queue.enqueue);
    client.release();
  } catch (error) {
    for (const { claimed } of plan.started) parts.handover.release(claimed.webhookId);
    await client.query("ROLLBACK").then(
      () => client.release(),
      () => client.release(true),
    );
    throw error;
  }
  if (book) noteContacts(known, book, wanted);
  parts.handover.start(plan.started);
  for (const [index, queued] of batch.entries()) queued.resolve(plan.answers[index]!);
  const unrouted = plan.events.filter((event) => event.tenantId === nobodysTenantId);
  return { unroutedNumberIds: unrouted.map((event) => event.phoneNumberId) };
}

function noteContacts({ pairs, contacts }: Known, book: ContactBook, wanted: readonly ContactAsked[]): void {
  for (const one of wanted) {
    if (book.isPaired(one)) pairs.note(one);
    if (one.becomes) continue;
    const { contact, conversation } = book.find(one);
    contacts.note(one, { contactId: contact.id, conversationId: conversation.id });
  }
}

async function addMissingClients(parts: PublisherParts, batch: readonly Queued[]): Promise<void> {
  const missing = new Map<string, UnknownNumber>();
  for (const { event, scope } of batch) {
    const id = event.phoneNumberId;
    // Nobody makes a client by naming a number that is not theirs.
    if (scope.tenantId !== null || scope.signer?.isOperator === false) continue;
    if (id === null || parts.directory.current.numbers.has(id)) continue;
    missing.set(id, { phoneNumberId: id, businessPhone: event.businessPhone, wabaId: event.wabaId });
  }
  if (missing.size === 0) return;
  await addClientsOf(parts.database, [...missing.values()], parts.clock.now());
  await parts.directory.announce();
}
