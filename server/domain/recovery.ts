/** Deliveries that somebody asks for again in bulk, or asks for the first time because their webhook missed them. */

import type { DeliveryState } from "./delivery.ts";

export type RecoveryState = "running" | "done" | "canceled";

/** What a recovery is about. */
export interface RecoveryScope {
  /** Null = every webhook of the owner that is on. */
  webhookId: number | null;
  /** The states that deliveries are taken from; empty = events that have no delivery. */
  states: readonly DeliveryState[];
  /** Empty = all. A trailing `*` covers what starts alike. */
  eventTypes: readonly string[];
  /** Made or received at this time or later; null = from the beginning. */
  since: Date | null;
  /** Made or received before this time. */
  until: Date;
  ratePerSecond: number;
}

export interface Recovery extends RecoveryScope {
  id: string;
  state: RecoveryState;
  /** Null while it is counted. */
  totalCount: number | null;
  /** How many had their turn. */
  doneCount: number;
  /** How many of those got a 2xx answer, ended without one, or ended otherwise or were left alone. */
  deliveredCount: number;
  failedCount: number;
  otherCount: number;
  startedAt: Date;
  finishedAt: Date | null;
}

/** Deliveries that are asked for again unless somebody says otherwise. */
export const statesDefault = ["failed", "canceled"] as const satisfies readonly DeliveryState[];

export const ratePerSecondDefault = 50;

/** How often a recovery has its turn at most; at a lower pace a turn takes up a single delivery. */
const turnsPerSecond = 4;

/** How many deliveries one turn takes up. */
export function turnSize(ratePerSecond: number): number {
  return Math.max(1, Math.ceil(ratePerSecond / turnsPerSecond));
}

/** A turn takes a second at most: a wait that is much longer was planned by a clock that has been set back since. */
const waitMaxMs = 5_000;

/** True if a turn may come now that was to come at `nextAt`. */
export function isTurnDue(nextAt: Date, now: Date): boolean {
  const waitMs = nextAt.getTime() - now.getTime();
  return waitMs <= 0 || waitMs > waitMaxMs;
}

/**
 * When the next turn may come after one that took up `count`. A turn that came late is made up for by one turn at most,
 * so that no pause is followed by a burst.
 *
 * @param dueAt  when this turn could have come
 */
export function nextTurnAt(dueAt: Date, now: Date, count: number, ratePerSecond: number): Date {
  const takesMs = (count * 1_000) / ratePerSecond;
  const fromMs = Math.max(Math.min(dueAt.getTime(), now.getTime()), now.getTime() - takesMs);
  return new Date(fromMs + takesMs);
}
