/** What the suite of an engine's queue needs beside the queue itself. */

import { settleLost } from "../../server/domain/delivery.ts";
import type {
  BrokenLease,
  ClaimedDelivery,
  LostAttempt,
  NewDelivery,
} from "../../server/domain/delivery-claim.ts";
import type { DeliveryQueue } from "../../server/domain/delivery-queue.ts";

export interface QueueLab<Change> {
  /** The queues of two processes that share their deliveries. */
  queues: readonly [DeliveryQueue<Change>, DeliveryQueue<Change>];
  /** Commits what `change` did when it has settled; nothing of it is left if it rejects. */
  inChange(change: (change: Change) => Promise<unknown>): Promise<void>;
  addWebhook(): Promise<number>;
  setWebhook(id: number, settings: { isEnabled?: boolean; isPaused?: boolean }): Promise<void>;
  newId(): string;
  /** Null for a delivery that there is not. */
  readLog(id: string): Promise<Logged | null>;
  /** Forgets all deliveries. */
  clear(): Promise<void>;
  close(): Promise<void>;
}

export interface Logged {
  state: string;
  reason: string | null;
  /** Number and outcome of each, such as `1 failed`. */
  attempts: string[];
}

export const labNow = new Date("2026-03-05T12:00:00.000Z");
export const labTime = (sinceMs: number) => new Date(labNow.getTime() + sinceMs);
export const leaseMs = 20_000;

/**
 * Adds deliveries by a change of their own.
 *
 * @param options.dueAt        when all of them are due; `labNow` if it is left out
 * @param options.leasedUntil  set = all start at once, under this lease
 */
export async function enqueue<Change>(
  lab: QueueLab<Change>,
  webhookId: number,
  options: { count?: number; dueAt?: Date; leasedUntil?: Date } = {},
): Promise<string[]> {
  const { count = 1, dueAt = labNow, leasedUntil = null } = options;
  const added = Array.from({ length: count }, () => aNewDelivery(lab, webhookId, leasedUntil));
  await lab.inChange((change) => lab.queues[0].enqueue(change, added, dueAt));
  return added.map(({ id }) => id);
}

export function aNewDelivery(
  lab: Pick<QueueLab<unknown>, "newId">,
  webhookId: number,
  leasedUntil: Date | null = null,
): NewDelivery {
  const eventId = lab.newId();
  return { id: lab.newId(), webhookId, tenantId: 1, eventId, eventType: "message.received", leasedUntil };
}

export async function claim(
  queue: DeliveryQueue,
  webhookId: number,
  options: { room?: number; now?: Date } = {},
): Promise<ClaimedDelivery[]> {
  const { room = 100, now = labNow } = options;
  const leasedUntil = new Date(now.getTime() + leaseMs);
  return (await queue.claim([{ webhookId, room }], now, leasedUntil)).deliveries;
}

export const idsOf = (listed: readonly { id: string }[]) => listed.map(({ id }) => id);

/** Broken leases with what the rules make of them. */
export function lostOf(leases: readonly BrokenLease[], now: Date): LostAttempt[] {
  return leases.map((lease) => ({
    lease,
    settlement: settleLost(lease.isResend, lease.lostInARow + 1, now),
    startedAt: new Date(lease.leasedUntil.getTime() - leaseMs),
  }));
}
