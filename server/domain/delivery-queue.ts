/**
 * What the engine asks of the queue of deliveries: everything about who may make which attempt when.
 *
 *   enqueue ──► waiting ──claim──► leased ──settle──► waiting again, or ended
 *                  ▲                  │ ▲
 *                  ├─────release──────┤ └─extend
 *                  └───────lose───────┘        (the lease ran out, or its holder knows that it died)
 *
 * Publishing, dispatcher, recorder and rescuer know this interface and no engine; one suite of tests says the same in
 * code (`test/delivery/queue-contract.ts`) and holds for every engine. `store/postgres-queue.ts` is the one there is.
 *
 * The promises that all others rest on:
 * - A delivery is in one place: waiting, under one lease, or ended. It leaves a lease once.
 * - Whatever ends or extends a lease names the attempt that it was claimed for, and counts only while that very attempt
 *   holds it. Whoever comes late changes nothing and leaves no trace in the log.
 * - The log follows along: a request, and an attempt that was lost, is in it if and only if it counted, and no later than
 *   its delivery goes on.
 * - What throws has changed nothing, or all of it if only the answer was lost. The same call may be made again, since what
 *   counted once counts no second time; but for `release` and `expire`, which free a number that may be another's by then.
 * - Instants are the callers'. An engine with a clock of its own (a server that holds messages back) may be late by the
 *   difference, never early.
 *
 * Changes that operators and tenants ask for (canceling, sending again, retention) are made to the log, by `store/`. A
 * claim gives what is due by the log as it is then: nothing that was canceled, and what is to be sent again.
 */

import type {
  BrokenLease,
  ClaimAsked,
  Claimed,
  ClaimedDelivery,
  DueWebhook,
  HeldDelivery,
  LostAttempt,
  NewDelivery,
  SettledAttempt,
} from "./delivery-claim.ts";

/** @typeParam Change  the transaction that stores events; of no interest to those who enqueue nothing */
export interface DeliveryQueue<Change = unknown> {
  /**
   * Adds new deliveries inside the change that stores their events: all of it is durable together, or none. One with
   * `leasedUntil` is leased to the caller for its first attempt, the others are due from `now` on.
   *
   * What it has to send by way of the change is sent before it returns: the caller may send the commit right behind and
   * wait for both. (An engine with a storage of its own notes the deliveries in the change, and moves them afterwards.)
   */
  enqueue(change: Change, deliveries: readonly NewDelivery[], now: Date): Promise<unknown>;

  /**
   * The webhooks for which deliveries wait, each once. The time may be earlier than the first of them is due (a claim
   * then gives nothing), and never later. Costs so much a webhook, however many deliveries wait.
   */
  listDue(): Promise<DueWebhook[]>;

  /**
   * Leases due deliveries to the caller for their next attempt: of each webhook no more than there is room for, oldest
   * due first, nothing of a webhook that is off or paused. Safe to call from several processes at once: each delivery goes
   * to one of them, and none waits for another.
   *
   * @param asked        each webhook at most once
   * @param leasedUntil  later than the attempt can last
   * @returns no deliveries when nothing is due
   */
  claim(asked: readonly ClaimAsked[], now: Date, leasedUntil: Date): Promise<Claimed>;

  /**
   * Ends leases with what became of their attempts: the delivery is at an end, or due again at a time. Both are one call,
   * since an attempt is logged with the state that follows it, and since a batch of whatever mixture is to cost one
   * statement. Nothing of a batch is settled when it throws.
   *
   * @param attempts  each delivery once, or under different numbers
   * @returns ids of the deliveries whose attempt counted
   */
  settle(attempts: readonly SettledAttempt[], now: Date): Promise<Set<string>>;

  /** True if `settle` threw this because of what an attempt holds: the same batch fails again, a part of it may not. */
  isDataFault(error: unknown): boolean;

  /** Gives leases until `leasedUntil` at least: their attempts are under way here, or wait to be settled. */
  extend(held: readonly HeldDelivery[], leasedUntil: Date): Promise<void>;

  /** Gives back deliveries whose attempt never started: they are due at once, and the attempt's number is free. */
  release(held: readonly HeldDelivery[], now: Date): Promise<void>;

  /**
   * Ends deliveries as `failed`, reason `expired`, that were claimed and can never be made, because retention dropped
   * their events. No attempt was started: its number is free. One that is sent once more stays `delivered`.
   *
   * @param toldTenantIds  tenants that ask to be told of deliveries that fail
   * @returns how many were ended
   */
  expire(claimed: readonly ClaimedDelivery[], toldTenantIds: readonly number[], now: Date): Promise<number>;

  /** Leases that ran out before `now`, whoever had them, oldest first. Nobody can claim their deliveries until they are lost. */
  listBroken(now: Date, limit: number): Promise<BrokenLease[]>;

  /** The leases that these attempts still hold, run out or not: for a holder that knows that they will not end. */
  listHeld(held: readonly HeldDelivery[]): Promise<BrokenLease[]>;

  /**
   * Ends broken leases: logs each attempt as `lost`, which keeps its number and is none of the round's attempts, and sets
   * the state that follows. A lease that was ended or extended since it was listed is left alone, so that of several
   * processes one loses it.
   *
   * @param toldTenantIds  tenants that ask to be told of deliveries that fail
   * @returns how many were ended
   */
  lose(lost: readonly LostAttempt[], toldTenantIds: readonly number[], now: Date): Promise<number>;
}
