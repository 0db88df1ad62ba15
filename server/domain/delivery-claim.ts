/**
 * Deliveries as they pass through the queue: asked for, claimed for one attempt under a lease, and what became of that
 * attempt. What may be done with them says `delivery-queue.ts`.
 */

import type { AttemptReport } from "./attempt-report.ts";
import type { Settlement } from "./delivery.ts";

export interface NewDelivery {
  id: string;
  webhookId: number;
  tenantId: number;
  eventId: string;
  eventType: string;
  /** Set: the first attempt starts as soon as the transaction is committed. Null: it waits to be claimed. */
  leasedUntil: Date | null;
}

/** A webhook with deliveries that wait, and when the first of them is due. */
export interface DueWebhook {
  webhookId: number;
  dueAt: Date;
}

/** How many deliveries of a webhook there is room for. */
export interface ClaimAsked {
  webhookId: number;
  room: number;
}

/** A delivery whose attempt `attemptNumber` this process may make until the lease ends. */
export interface ClaimedDelivery {
  id: string;
  webhookId: number;
  tenantId: number;
  eventId: string;
  attemptNumber: number;
  roundAttemptCount: number;
  isResend: boolean;
  /** Null when no attempt has made the payload yet. */
  payload: { body: Uint8Array; contentType: string; headers: Record<string, string> } | null;
}

export interface Claimed {
  deliveries: ClaimedDelivery[];
  /** The configuration that the claim saw; what is older must not start an attempt. */
  configurationVersion: bigint;
}

/** A lease, by the number of the attempt that it was claimed for. */
export type HeldDelivery = Pick<ClaimedDelivery, "id" | "webhookId" | "attemptNumber">;

/** A reported attempt with the state that follows it. */
export interface SettledAttempt {
  report: AttemptReport;
  settlement: Settlement;
  /** Transformer of the payload, when this attempt made it. */
  transformer: string | null;
  /** Ids of the messages that the answer schedules; left out if it schedules none. */
  replyIds?: readonly string[];
  /** The tenant, if the delivery fails with this attempt and the tenant asks to be told; left out otherwise. */
  toldTenantId?: number;
}

/** A lease that its holder did not end. */
export interface BrokenLease {
  id: string;
  webhookId: number;
  attemptNumber: number;
  isResend: boolean;
  /** Attempts lost one after the other right before this one. */
  lostInARow: number;
  leasedUntil: Date;
}

/** A broken lease with the state that follows its attempt. */
export interface LostAttempt {
  lease: BrokenLease;
  settlement: Settlement;
  startedAt: Date;
}
