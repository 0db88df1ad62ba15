/**
 * How much of each webhook's work this process takes on at once: one lane a webhook. A slow endpoint fills its own lane
 * and no other, and what all lanes hold together is bounded.
 */

import type { MadePayload } from "../domain/attempt-report.ts";
import type { ClaimedDelivery } from "../domain/delivery-claim.ts";
import type { WebhookTarget } from "../domain/webhook.ts";
import type { StoredEvent } from "../store/events.ts";

/** A delivery that this process has in hand under a lease. */
export interface Held {
  claimed: ClaimedDelivery;
  /** Null when the payload is made already. */
  event: StoredEvent | null;
  /** Unix milliseconds since when it has been waiting in its lane. */
  sinceMs: number;
  /** The transformer that makes the payload in this attempt; null before it starts, or if the payload is made. */
  transformer: string | null;
  /** What a plugin made for this attempt, to be stored with it; null if there is nothing to store. */
  unstored: MadePayload | null;
}

export interface Lane {
  readonly webhookId: number;
  /** Leased, and waiting for a place in flight. */
  readonly waiting: Held[];
  /** Attempts that the threads have. */
  inFlightCount: number;
  /** Places promised to deliveries that are being committed. */
  reservedCount: number;
  /** Deliveries of the webhook wait in the table: new ones go behind them. */
  hasBacklog: boolean;
  /** Moving average of how long attempts take; null before the first. */
  averageMs: number | null;
}

export interface Lanes {
  of(webhookId: number): Lane;
  all(): Iterable<Lane>;
  /** How many more deliveries the lane may take in hand. */
  roomOf(lane: Lane, target: WebhookTarget): number;
  /** How many of its waiting deliveries may start now. */
  startableCount(lane: Lane, target: WebhookTarget): number;
  noteStarted(lane: Lane, count: number): void;
  noteEnded(lane: Lane, durationMs: number | null): void;
  /** Attempts in flight in all lanes. */
  inFlightCount(): number;
  /** Lets go of lanes that hold nothing. */
  sweep(): void;
}

/** Deliveries in hand of one webhook at most, whatever its endpoint's speed. */
const heldMax = 2_000;
/** What is taken for the duration of attempts before one has ended. */
const unknownAverageMs = 250;

/** @param capacity  attempts in flight of all lanes together; each lane may have one more when it is used up */
export function createLanes(capacity: number): Lanes {
  const lanes = new Map<number, Lane>();
  let inFlightTotal = 0;

  return {
    of(webhookId) {
      let lane = lanes.get(webhookId);
      if (!lane) {
        lane = {
          webhookId,
          waiting: [],
          inFlightCount: 0,
          reservedCount: 0,
          hasBacklog: false,
          averageMs: null,
        };
        lanes.set(webhookId, lane);
      }
      return lane;
    },
    all: () => lanes.values(),
    roomOf(lane, target) {
      // What the endpoint takes in a second, so that none of its places idles and nothing waits long for one.
      const perSecond = (target.maxInFlight * 1_000) / Math.max(1, lane.averageMs ?? unknownAverageMs);
      const quota = Math.max(target.maxInFlight, Math.min(heldMax, Math.floor(perSecond)));
      return Math.max(0, quota - lane.waiting.length - lane.inFlightCount - lane.reservedCount);
    },
    startableCount(lane, target) {
      // At most half of what is still free, so that there is something left for others; and one place for a lane that
      // has none, even beyond the capacity: however many endpoints hang, they never keep another one waiting.
      const share = Math.floor((capacity - inFlightTotal) / 2);
      const places = lane.inFlightCount === 0 ? Math.max(1, share) : share;
      return Math.max(0, Math.min(lane.waiting.length, target.maxInFlight - lane.inFlightCount, places));
    },
    noteStarted(lane, count) {
      lane.inFlightCount += count;
      inFlightTotal += count;
    },
    noteEnded(lane, durationMs) {
      lane.inFlightCount -= 1;
      inFlightTotal -= 1;
      if (durationMs === null) return;
      lane.averageMs = lane.averageMs === null ? durationMs : lane.averageMs * 0.9 + durationMs * 0.1;
    },
    inFlightCount: () => inFlightTotal,
    sweep() {
      for (const [id, lane] of lanes) {
        if (!lane.hasBacklog && lane.waiting.length + lane.inFlightCount + lane.reservedCount === 0) {
          lanes.delete(id);
        }
      }
    },
  };
}
