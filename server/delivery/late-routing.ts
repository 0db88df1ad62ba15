/**
 * Gives events that were nobody's to the client that got their number or account.
 *
 *   change of a client ──► routing_task ──► batches, oldest event first ──► event, conversation, deliveries
 *
 * Runs beside everything else, in transactions of its own: the change of the client only notes a task, under the lock
 * that keeps publishers out, so no event of nobody can come after it unseen. Each batch takes the task's row, holds the
 * shared configuration lock as a publisher does, and writes what publishing would have written: the tenant's duplicate
 * keys, the place in the conversation, one delivery for each webhook. So a process may die between two batches, and
 * several may work on one task: what a batch has committed is no longer nobody's. Events that the tenant has got from
 * a repeat meanwhile are dropped; those that are older than `deliverWithinMs` are routed and make no deliveries.
 */

import type pg from "pg";
import type { Logger } from "pino";
import type { Clock } from "../clock.ts";
import type { DeliveryQueue } from "../domain/delivery-queue.ts";
import type { IdSource } from "../domain/ids.ts";
import type { MediaLink } from "../domain/media-link.ts";
import { findAndLock, resolveContacts } from "../store/contacts.ts";
import type { DirectoryKeeper } from "../store/directory.ts";
import { isDataFault, isRepeatable } from "../store/faults.ts";
import { keepMalformed } from "../store/malformed.ts";
import { noteLate } from "../store/missed-events.ts";
import type { Database } from "../store/orm.ts";
import type { Partitions } from "../store/partitions.ts";
import { commitPublishing } from "../store/publishing.ts";
import {
  dropUnrouted,
  endTask,
  listRoutingTasks,
  moveEvents,
  openRouting,
  type RoutingTask,
  readUnrouted,
  takeKeysLate,
  type UnroutedEvent,
} from "../store/unrouted.ts";
import { emptyPlan, type Plan, planRows } from "./plan.ts";
import {
  contactsOf,
  distinctContacts,
  listContacts,
  nobodysTenantId,
  type Route,
  routeOf,
} from "./routing.ts";

export interface LateRouting {
  /** Looks for tasks now. */
  wake(): void;
  /** Settles once the batch under way has ended. */
  close(): Promise<void>;
}

export interface LateRoutingParts {
  queue: Pick<DeliveryQueue<pg.ClientBase>, "enqueue">;
  database: Database;
  directory: DirectoryKeeper;
  partitions: Partitions;
  /** Event types that a transformer makes payloads of; undefined if it is not loaded. */
  handlesOf(transformer: string): readonly string[] | undefined;
  wakeDispatcher(): void;
  ids: IdSource;
  /** A new link for the media of a message. */
  makeMediaLink(): MediaLink;
  clock: Clock;
  log: Logger;
}

export interface LateRoutingSettings {
  /** Events that share a commit at most. */
  batchEventsMax: number;
  /** How often tasks that another process left are looked for. */
  pollMs: number;
  /** Events that were received longer ago make no deliveries. */
  deliverWithinMs: number;
}

/** What came of one batch: `left` = there is more, `busy` = another process has the task in hand. */
type Outcome = "left" | "done" | "busy";

export function createLateRouting(parts: LateRoutingParts, settings: LateRoutingSettings): LateRouting {
  const { database, directory, clock, log } = parts;
  let running: Promise<void> | null = null;
  let isWoken = false;
  let isClosed = false;
  let timer: NodeJS.Timeout | undefined;
  wake();

  function wake(): void {
    if (isClosed) return;
    if (running) {
      isWoken = true;
      return;
    }
    clearTimeout(timer);
    isWoken = false;
    running = routeAll()
      .catch((error: unknown) => log.warn({ err: error }, "events of nobody could not be routed"))
      .finally(() => {
        running = null;
        if (isClosed) return;
        if (isWoken) wake();
        else timer = setTimeout(wake, settings.pollMs);
      });
  }

  /** A batch of each task in turn, so that a long one does not hold up the others. */
  async function routeAll(): Promise<void> {
    let tasks = await listRoutingTasks(database.pool);
    while (tasks.length > 0 && !isClosed) {
      const left: RoutingTask[] = [];
      for (const task of tasks) {
        if (isClosed) return;
        if ((await routeBatch(task)) === "left") left.push(task);
      }
      tasks = left;
    }
  }

  async function routeBatch(task: RoutingTask): Promise<Outcome> {
    try {
      return await repeating(() => routeOnce(parts, settings, task, settings.batchEventsMax));
    } catch (error) {
      if (!isDataFault(error)) throw error;
      return await routeSingly(task);
    }
  }

  /** Past an event that the database refuses as data: it is kept as a malformed body and holds up nothing. */
  async function routeSingly(task: RoutingTask): Promise<Outcome> {
    for (let count = 0; count < settings.batchEventsMax; count++) {
      try {
        const outcome = await repeating(() => routeOnce(parts, settings, task, 1));
        if (outcome !== "left") return outcome;
      } catch (error) {
        if (!isDataFault(error)) throw error;
        await setAside(task, error);
        return "left";
      }
    }
    return "left";
  }

  async function setAside(task: RoutingTask, error: unknown): Promise<void> {
    const client = await database.pool.connect();
    try {
      const [first] = await readUnrouted(client, task, 1);
      if (!first) return;
      log.error({ err: error, eventId: first.eventId }, "event could not be routed; kept as malformed");
      await keepMalformed(
        database,
        Buffer.from(first.event.item),
        "not storable for its client",
        clock.now(),
      );
      await dropUnrouted(client, [first.eventId]);
    } finally {
      client.release();
    }
  }

  return {
    wake,
    async close() {
      isClosed = true;
      clearTimeout(timer);
      await running;
    },
  };

  /** A batch that deadlocked, or met a new configuration, is tried again. */
  async function repeating(route: () => Promise<Outcome | "stale">): Promise<Outcome> {
    for (let attempt = 1; ; attempt++) {
      try {
        const outcome = await route();
        if (outcome !== "stale") return outcome;
        await directory.refresh();
      } catch (error) {
        if (!isRepeatable(error) || attempt >= attemptsMax) throw error;
      }
      if (attempt >= attemptsMax) return "busy";
    }
  }
}

const attemptsMax = 5;

async function routeOnce(
  parts: LateRoutingParts,
  settings: LateRoutingSettings,
  task: RoutingTask,
  limit: number,
): Promise<Outcome | "stale"> {
  const { directory, clock } = parts;
  const now = clock.now();
  await parts.partitions.ensureDay(now);
  await parts.partitions.ensureDay(new Date(now.getTime() + 60_000));
  const client = await parts.database.pool.connect();
  try {
    const version = await openRouting(client, task);
    if (version === null || version !== directory.current.version) {
      await client.query("ROLLBACK");
      client.release();
      return version === null ? "busy" : "stale";
    }
    const events = await readUnrouted(client, task, limit);
    const route = events[0] ? routeOf(directory.current, events[0].event, false) : null;
    const hasOwner = route !== null && route.tenantId !== nobodysTenantId;
    // Without an owner they stay nobody's: the number has left its client again.
    const isDone = !hasOwner || events.length < limit;
    if (isDone) await endTask(client, task);
    const plan = hasOwner ? await planBatch(parts, settings, { client, events, route, now }) : emptyPlan();
    // Recoveries look for the deliveries of an event where it was stored, and here.
    await noteLate(client, plan.deliveries);
    await commitPublishing(client, plan, now, parts.queue.enqueue, moveEvents);
    client.release();
    noteBatch(parts, task, events.length, plan);
    return isDone ? "done" : "left";
  } catch (error) {
    await client.query("ROLLBACK").then(
      () => client.release(),
      () => client.release(true),
    );
    throw error;
  }
}

interface Batch {
  client: pg.ClientBase;
  events: readonly UnroutedEvent[];
  /** The same for all: a task's events are of one number, or of one account. */
  route: Route;
  now: Date;
}

/** Claims what publishing would claim for these events, drops those that are repeats, and plans the rows of the rest. */
async function planBatch(
  parts: LateRoutingParts,
  settings: LateRoutingSettings,
  { client, events, route, now }: Batch,
): Promise<Plan> {
  const fresh = await takeKeysLate(client, events, route.tenantId);
  const repeats = events.filter((_, index) => !fresh.has(index));
  await dropUnrouted(
    client,
    repeats.map(({ eventId }) => eventId),
  );
  const routed = events.filter((_, index) => fresh.has(index));
  const contacts = routed.map(({ event }) => contactsOf(event, route));
  const asked = listContacts(contacts);
  const found = await findAndLock(client, distinctContacts(asked));
  const book =
    asked.length === 0 ? null : await resolveContacts(client, asked, found, () => parts.ids.next(), now);
  const sinceMs = now.getTime() - settings.deliverWithinMs;
  const plan = emptyPlan();
  planRows(
    plan,
    {
      ids: parts.ids,
      makeMediaLink: parts.makeMediaLink,
      handlesOf: parts.handlesOf,
      // All wait in the table: what just happened goes first.
      reserve: () => false,
      webhooksOf: (tenantId) => parts.directory.current.webhooksByTenant.get(tenantId) ?? [],
    },
    routed.map(({ eventId, receivedAt, event }) => ({
      event,
      receivedAt,
      stored: { eventId, isDelivered: receivedAt.getTime() > sinceMs },
    })),
    { routes: routed.map(() => route), contacts, fresh: new Set(routed.keys()), book },
    now,
  );
  return plan;
}

function noteBatch(parts: LateRoutingParts, task: RoutingTask, eventCount: number, plan: Plan): void {
  if (plan.deliveries.length > 0) parts.wakeDispatcher();
  if (eventCount === 0) return;
  const { phoneNumberId, wabaId } = task;
  parts.log.info(
    {
      phoneNumberId,
      wabaId,
      eventCount,
      routedCount: plan.events.length,
      deliveryCount: plan.deliveries.length,
    },
    "events that were nobody's have been looked at for their client",
  );
}
