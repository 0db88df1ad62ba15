/**
 * Finds what is due in the table and claims it, as much of each webhook as its lane has room for: at each wake-up, when
 * the next delivery is due, and every poll interval. Cancels what waits for webhooks that are off or gone.
 */

import type { Logger } from "pino";
import type { Clock } from "../clock.ts";
import type { GivenUpReason } from "../domain/delivery.ts";
import type { ClaimAsked, ClaimedDelivery } from "../domain/delivery-claim.ts";
import type { DeliveryQueue } from "../domain/delivery-queue.ts";
import { cancelUnfinished } from "../store/delivery-changes.ts";
import type { DirectoryKeeper } from "../store/directory.ts";
import { readEvents, type StoredEvent } from "../store/events.ts";
import type { Database } from "../store/orm.ts";
import type { Lanes } from "./lanes.ts";

export interface Claimer {
  /** Looks for due deliveries now. */
  wake(): void;
  /** Looks for due deliveries at this instant at the latest. */
  wakeAt(at: Date): void;
  /** Settles when no canceling is under way. */
  canceled(): Promise<void>;
  /** Claims nothing more; settles when the claim under way has been taken. */
  close(): Promise<void>;
}

export interface ClaimerParts {
  queue: Pick<DeliveryQueue, "listDue" | "claim" | "release" | "expire">;
  database: Database;
  directory: DirectoryKeeper;
  lanes: Lanes;
  /** True if attempts for the webhook may start. */
  mayStart(webhookId: number): boolean;
  /** Gets each claimed delivery; the event is null when the payload is made already. */
  take(claimed: ClaimedDelivery, event: StoredEvent | null): void;
  /** Tenants that ask to be told of deliveries that fail. */
  failureToldTenants(): readonly number[];
  /** Called after what one claim gave was taken. */
  onTaken(): void;
  /** Called after each look, whatever it found. */
  onLooked(): void;
  clock: Clock;
  log: Logger;
}

export function createClaimer(parts: ClaimerParts, settings: { pollMs: number; leaseMs: number }): Claimer {
  const { queue, database, directory, lanes, mayStart, clock, log } = parts;
  let isClosed = false;
  let nextPoll: { timer: NodeJS.Timeout; atMs: number } | null = null;
  let polling: Promise<void> | null = null;
  let canceling: Promise<void> | null = null;
  let isWoken = false;
  pollAt(0);

  function pollAt(delayMs: number): void {
    if (isClosed) return;
    const atMs = clock.now().getTime() + delayMs;
    if (nextPoll && nextPoll.atMs <= atMs) return;
    clearTimeout(nextPoll?.timer);
    nextPoll = { atMs, timer: setTimeout(poll, delayMs) };
  }

  function poll(): void {
    nextPoll = null;
    if (isClosed) return;
    if (polling) {
      isWoken = true;
      return;
    }
    isWoken = false;
    polling = claimAll()
      .catch((error: unknown) => log.warn({ err: error }, "due deliveries could not be claimed"))
      .finally(() => {
        polling = null;
        pollAt(isWoken ? 0 : settings.pollMs);
        parts.onLooked();
      });
  }

  async function claimAll(): Promise<void> {
    const now = clock.now();
    const waiting = await queue.listDue();
    if (waiting.some(({ webhookId }) => !directory.current.webhooks.has(webhookId)))
      await directory.refresh();
    const asked: ClaimAsked[] = [];
    let nextDueMs = Number.POSITIVE_INFINITY;
    for (const { webhookId, dueAt } of waiting) {
      const target = directory.current.webhooks.get(webhookId);
      if (!target?.isEnabled) {
        cancelWaiting(webhookId, target ? "webhook_disabled" : "webhook_deleted");
        continue;
      }
      const isDue = dueAt <= now;
      if (!isDue) {
        nextDueMs = Math.min(nextDueMs, dueAt.getTime());
        continue;
      }
      const lane = lanes.of(webhookId);
      lane.hasBacklog = true;
      const room = mayStart(webhookId) ? lanes.roomOf(lane, target) : 0;
      if (room > 0) asked.push({ webhookId, room });
    }
    const dueIds = new Set(waiting.filter(({ dueAt }) => dueAt <= now).map(({ webhookId }) => webhookId));
    for (const lane of lanes.all()) if (!dueIds.has(lane.webhookId)) lane.hasBacklog = false;
    await claim(asked);
    if (nextDueMs !== Number.POSITIVE_INFINITY) wakeAt(new Date(nextDueMs));
  }

  /**
   * Cancels what waits for a webhook that is off or gone: beside the polling, since that may be much and others wait for
   * the next claim, and one webhook at a time, since others need the connections.
   */
  function cancelWaiting(webhookId: number, reason: GivenUpReason): void {
    canceling ??= cancelUnfinished(database, webhookId, reason, clock.now())
      .then(
        (count) => {
          if (count > 0) wake();
        },
        (error: unknown) => {
          if (!isClosed) log.warn({ err: error, webhookId }, "deliveries could not be canceled");
        },
      )
      .finally(() => {
        canceling = null;
      });
  }

  async function claim(asked: readonly ClaimAsked[]): Promise<void> {
    if (asked.length === 0) return;
    const now = clock.now();
    const leasedUntil = new Date(now.getTime() + settings.leaseMs);
    const claimed = await queue.claim(asked, now, leasedUntil);
    const wanted = claimed.deliveries.filter((one) => !one.payload);
    let events: Map<string, StoredEvent>;
    try {
      events = await readEvents(database.pool, wanted);
      if (claimed.configurationVersion > directory.current.version) await directory.refresh();
    } catch (error) {
      await queue.release(claimed.deliveries, clock.now());
      throw error;
    }
    const outdated: ClaimedDelivery[] = [];
    for (const one of claimed.deliveries) {
      const event = events.get(one.eventId) ?? null;
      if (one.payload || event) parts.take(one, event);
      else outdated.push(one);
    }
    if (outdated.length > 0) await expire(outdated);
    for (const { webhookId, room } of asked) {
      const count = claimed.deliveries.filter((one) => one.webhookId === webhookId).length;
      if (count < room) lanes.of(webhookId).hasBacklog = false;
    }
    parts.onTaken();
  }

  /** Ends deliveries whose payload was never made and cannot be any more: retention has dropped their events. */
  async function expire(outdated: readonly ClaimedDelivery[]): Promise<void> {
    try {
      const count = await queue.expire(outdated, parts.failureToldTenants(), clock.now());
      log.warn({ count, deliveryId: outdated[0]!.id }, "deliveries have expired: their events are gone");
    } catch (error) {
      // Their leases run out, and the next claim comes to the same end.
      log.warn({ err: error, count: outdated.length }, "deliveries without their events could not be ended");
    }
  }

  function wake(): void {
    if (polling) isWoken = true;
    else pollAt(0);
  }

  function wakeAt(at: Date): void {
    pollAt(Math.max(0, at.getTime() - clock.now().getTime()));
  }

  return {
    wake,
    wakeAt,
    async canceled() {
      await canceling;
    },
    async close() {
      isClosed = true;
      clearTimeout(nextPoll?.timer);
      await polling;
    },
  };
}
