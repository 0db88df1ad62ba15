/**
 * The duty to bring one event to one webhook.
 *
 *                       ┌────────── retry (after a wait) ──────────┐
 *                       ▼                                          │
 *   created ──────► pending ──── claim ────► delivering ───────────┤
 *      │                │                        │                 │
 *      └── at once ─────┼───────────────────────►│                 ├──► delivered   an attempt got 2xx
 *                       │                        │                 ├──► failed      out of attempts, transformer_error,
 *                       │                        │                 │                lost_repeatedly, expired
 *                       │                        │                 └──► skipped     the transformer had nothing to send
 *                       └──────── webhook off ───┴──► canceled          or gone; a 2xx in flight still gives delivered
 *
 * `failed` and `canceled` go back to `pending` for a new round when someone asks for it. A `delivered` one can be
 * sent once more: it stays `delivered`, whatever comes of it.
 */

import type { AttemptReport } from "./attempt-report.ts";
import { retryDelayMs } from "./retry.ts";

export const deliveryStates = [
  "pending",
  "delivering",
  "delivered",
  "failed",
  "canceled",
  "skipped",
] as const;
export type DeliveryState = (typeof deliveryStates)[number];

/** Why a delivery ended in `failed` or `canceled`. */
export type GivenUpReason =
  | "attempts_exhausted"
  | "transformer_error"
  | "lost_repeatedly"
  | "expired"
  | "webhook_disabled"
  | "webhook_deleted"
  | "client_deleted"
  | "contact_deleted";

/** After this many attempts lost in a row a delivery is given up: it may be what kills the threads. */
export const lostInARowMax = 5;

/** What an attempt finds when it starts, and what its end is judged by. */
export interface AttemptPosition {
  /** Attempts of this round that ended before this one, lost ones not counted. */
  roundAttemptCount: number;
  /** The delivery was `delivered` before and is sent once more. */
  isResend: boolean;
}

/** The state that follows an attempt. Applied by `store/`, unless the delivery was canceled meanwhile. */
export type Settlement =
  | { state: "delivered" }
  | { state: "pending"; dueAt: Date }
  | { state: "failed"; reason: GivenUpReason; detail: string | null }
  | { state: "skipped" };

/**
 * Decides what follows an attempt that was reported (a lost one is `settleLost`).
 *
 * @param retryScheduleMs  waits before the second, third, … attempt of a round; its length + 1 is the number of
 *                         attempts a round has
 */
export function settleAttempt(
  position: AttemptPosition,
  report: AttemptReport,
  retryScheduleMs: readonly number[],
): Settlement {
  if (position.isResend) return { state: "delivered" };
  switch (report.kind) {
    case "succeeded":
      return { state: "delivered" };
    case "skipped":
      return { state: "skipped" };
    case "transformer_error":
      return { state: "failed", reason: "transformer_error", detail: report.message };
    case "failed": {
      const waitMs = retryScheduleMs[position.roundAttemptCount];
      if (waitMs === undefined) return { state: "failed", reason: "attempts_exhausted", detail: null };
      const endedAtMs = report.startedAtMs + report.durationMs;
      return { state: "pending", dueAt: new Date(endedAtMs + retryDelayMs(waitMs, report, endedAtMs)) };
    }
  }
}

/** Decides what follows an attempt whose lease ran out, or whose thread died. */
export function settleLost(isResend: boolean, lostInARow: number, now: Date): Settlement {
  if (isResend) return { state: "delivered" };
  if (lostInARow >= lostInARowMax) return { state: "failed", reason: "lost_repeatedly", detail: null };
  return { state: "pending", dueAt: now };
}
