/** What the suite of an engine's queue needs beside the queue itself, and the acts that its tests are made of. */

import { settleLost } from "../../server/domain/delivery.ts";
import type { BrokenLease, ClaimedDelivery, NewDelivery } from "../../server/domain/delivery-claim.ts";
import type { DeliveryQueue } from "../../server/domain/delivery-queue.ts";
import { aSettledAttempt, type Outcome } from "../store/reports.ts";

// biome-ignore lint/suspicious/noExplicitAny: a change is the engine's; tests hand it on
export interface QueueLab<Change = any> {
  /** The queues of two processes that share their deliveries. */
  queues: readonly [DeliveryQueue<Change>, DeliveryQueue<Change>];
  /** What both processes take for the time. */
  now(): Date;
  /** Settles when so much time has passed: at once, if the engine goes by what it is told. */
  pass(ms: number): Promise<void>;
  /** How long leases hold: longer than an act takes, and for an engine with a clock of its own not much longer. */
  leaseMs: number;
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

export const idsOf = (listed: readonly { id: string }[]) => listed.map(({ id }) => id);

export type Acts = ReturnType<typeof createActs>;

export function createActs(lab: QueueLab) {
  const [here, there] = lab.queues;
  const at = (sinceNowMs: number) => new Date(lab.now().getTime() + sinceNowMs);

  function aNewDelivery(webhookId: number, leasedUntil: Date | null = null): NewDelivery {
    const eventId = lab.newId();
    return { id: lab.newId(), webhookId, tenantId: 1, eventId, eventType: "message.received", leasedUntil };
  }

  /** Adds deliveries that are due at once, or leased, by a change of their own; gives their ids. */
  async function enqueue(webhookId: number, count = 1, leasedUntil: Date | null = null): Promise<string[]> {
    const added = Array.from({ length: count }, () => aNewDelivery(webhookId, leasedUntil));
    await lab.inChange((change) => here.enqueue(change, added, lab.now()));
    return idsOf(added);
  }

  async function claim(queue: DeliveryQueue, webhookId: number, room = 100): Promise<ClaimedDelivery[]> {
    return (await queue.claim([{ webhookId, room }], lab.now(), at(lab.leaseMs))).deliveries;
  }

  function settle(queue: DeliveryQueue, claimed: ClaimedDelivery, outcome: Outcome): Promise<Set<string>> {
    return queue.settle([aSettledAttempt(claimed, outcome, lab.now())], lab.now());
  }

  /** Loses these leases, with what the rules make of them. */
  async function lose(queue: DeliveryQueue, leases: readonly BrokenLease[]): Promise<number> {
    const now = lab.now();
    const lost = leases.map((lease) => ({
      lease,
      settlement: settleLost(lease.isResend, lease.lostInARow + 1, now),
      startedAt: now,
    }));
    return await queue.lose(lost, [], now);
  }

  /** A delivery of a new webhook, claimed here. */
  async function oneClaimed() {
    const webhookId = await lab.addWebhook();
    const [id] = await enqueue(webhookId);
    const [claimed] = await claim(here, webhookId);
    return { webhookId, id: id!, claimed: claimed! };
  }

  /** A delivery whose lease ran out here, and that was claimed there since. */
  async function takenOver() {
    const { webhookId, id, claimed } = await oneClaimed();
    await lab.pass(lab.leaseMs + 1);
    await lose(there, await there.listBroken(lab.now(), 10));
    const [successor] = await claim(there, webhookId);
    return { webhookId, id, late: claimed, successor: successor! };
  }

  return {
    lab,
    here,
    there,
    at,
    aNewDelivery,
    enqueue,
    claim,
    settle,
    lose,
    oneClaimed,
    takenOver,
    /** Longer than any wait that a test's attempts ask for. */
    passAll: () => lab.pass(20 * lab.leaseMs),
  };
}
