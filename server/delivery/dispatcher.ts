/**
 * Brings due deliveries to the worker threads, fairly between webhooks.
 *
 *   just committed ──reserve/start──►┐
 *                                    ├─► lane of the webhook ──► threads ──► report ──► recorder
 *   waiting in the table ──claim────►┘
 *
 * Promises: never more of a webhook in flight than its `max_in_flight`; nothing starts for a webhook that is off, gone
 * or paused, or for which its transformer can make nothing; a delivery in hand that cannot start soon goes back to the table before
 * its lease ends. A wake-up carries no data: a lost one costs a poll interval.
 */

import type { Logger } from "pino";
import type { Clock } from "../clock.ts";
import type { AttemptReport } from "../domain/attempt-report.ts";
import type { ClaimedDelivery, HeldDelivery } from "../domain/delivery-claim.ts";
import type { DeliveryQueue } from "../domain/delivery-queue.ts";
import type { WebhookTarget } from "../domain/webhook.ts";
import type { DirectoryKeeper } from "../store/directory.ts";
import { type History, readHistories, type StoredEvent } from "../store/events.ts";
import type { Database } from "../store/orm.ts";
import type { TransformerFacts } from "../workers/catalog.ts";
import type { DeliveryJob } from "../workers/job.ts";
import type { PluginPool } from "../workers/plugin-pool.ts";
import { createClaimer } from "./claimer.ts";
import { createHeldDeliveries } from "./held-deliveries.ts";
import type { HoldCheck } from "./holds.ts";
import { buildJob, buildTask, coversEvent, historyNeeded, type JobLimits } from "./jobs.ts";
import { createLanes, type Held, type Lane } from "./lanes.ts";
import { createMaker } from "./making.ts";
import type { Handover } from "./publish.ts";
import type { Recorded, Recorder } from "./recorder.ts";

export interface Dispatcher extends Handover {
  /** Looks for due deliveries now. */
  wake(): void;
  /** To be called with what the threads report. */
  onReports(reports: readonly AttemptReport[]): void;
  /** To be called once attempts are saved. */
  onRecorded(recorded: readonly Recorded[]): void;
  /** Lets go of deliveries whose thread died; returns what they were. */
  onLost(keys: readonly { deliveryId: string; attemptNumber: number }[]): HeldDelivery[];
  /** True if this very attempt is in hand here: waiting, in flight or being recorded. */
  isHolding(delivery: HeldDelivery): boolean;
  /** Stops starting attempts, gives back what waits, and settles when the ones in flight are recorded or time is up. */
  close(boundMs: number): Promise<void>;
}

export interface DispatcherParts {
  queue: Pick<DeliveryQueue, "listDue" | "claim" | "release" | "expire">;
  database: Database;
  directory: DirectoryKeeper;
  recorder: Recorder;
  /** Hands jobs to the threads. */
  run(jobs: DeliveryJob[]): void;
  factsOf(transformer: string): TransformerFacts | undefined;
  /** Why nothing can be made for a webhook for now; null if it can. */
  findHold: HoldCheck;
  plugins: Pick<PluginPool, "isPlugin" | "transform" | "noteError">;
  /** Tenants that ask to be told of deliveries that fail. */
  failureToldTenants(): readonly number[];
  clock: Clock;
  log: Logger;
}

export interface DispatcherSettings extends JobLimits {
  pollMs: number;
  leaseMs: number;
  /** A delivery that waits in hand for longer goes back to the table. */
  holdMs: number;
  /** Attempts in flight of all webhooks together. */
  inFlightMax: number;
  /** Deliveries in hand from which on the publisher waits a moment before it commits more. */
  heldBusyCount: number;
  /** Reports that may wait to be saved before nothing new is started. */
  recordBacklogMax: number;
}

/** While attempts end this often, deliveries in hand are getting fewer and are worth waiting for, but not for long. */
const progressMaxMs = 50;
const roomWaitMaxMs = 25;

export function createDispatcher(parts: DispatcherParts, settings: DispatcherSettings): Dispatcher {
  const { queue, database, directory, clock, log } = parts;
  const lanes = createLanes(settings.inFlightMax);
  const held = createHeldDeliveries();
  let isClosed = false;
  let isPumping = false;
  const idle: (() => void)[] = [];
  const waitingForRoom: (() => void)[] = [];
  let lastEndedAtMs = 0;

  const claimer = createClaimer(
    {
      queue,
      database,
      directory,
      lanes,
      mayStart: (webhookId) => startable(webhookId) !== null,
      take,
      failureToldTenants: parts.failureToldTenants,
      onTaken: pump,
      onLooked() {
        pump();
        noteProgress();
      },
      clock,
      log,
    },
    settings,
  );
  const maker = createMaker({
    database,
    plugins: parts.plugins,
    onMade: takeMade,
    onEnded(one, report) {
      finish(one, report);
      lastEndedAtMs = clock.now().getTime();
      pump();
      refill(lanes.of(report.webhookId));
    },
    onHeld: takeBack,
    clock,
    log,
  });
  const sweepTimer = setInterval(giveBackStale, 1_000);

  /** The webhook as it is now, if attempts for it may start. */
  function startable(webhookId: number): { target: WebhookTarget; facts: TransformerFacts } | null {
    const target = directory.current.webhooks.get(webhookId);
    if (!target?.isEnabled || target.isPaused || target.fault) return null;
    if (parts.findHold(target) !== null) return null;
    const facts = parts.factsOf(target.transformer);
    return facts ? { target, facts } : null;
  }

  function take(claimed: ClaimedDelivery, event: StoredEvent | null): Held {
    const sinceMs = clock.now().getTime();
    const one: Held = { claimed, event, sinceMs, transformer: null, unstored: null };
    held.add(one);
    lanes.of(claimed.webhookId).waiting.push(one);
    return one;
  }

  /** Starts what may start; what is asked for while it runs waits for the same turn of the event loop. */
  function pump(): void {
    if (isPumping || isClosed) return;
    isPumping = true;
    setImmediate(() => {
      isPumping = false;
      // A process that may have missed a change of a webhook starts nothing; the keeper wakes it when it has caught up.
      if (isClosed || !directory.isCurrent()) return;
      if (parts.recorder.backlogCount() > settings.recordBacklogMax) return;
      const starting: Starting[] = [];
      const refused: Held[] = [];
      for (const lane of lanes.all()) {
        if (lane.waiting.length === 0) continue;
        const now = startable(lane.webhookId);
        if (!now) {
          refused.push(...lane.waiting.splice(0));
          continue;
        }
        const count = lanes.startableCount(lane, now.target);
        lanes.noteStarted(lane, count);
        for (const one of lane.waiting.splice(0, count)) starting.push({ held: one, ...now });
      }
      if (refused.length > 0) giveBack(refused);
      if (starting.length > 0) start(starting);
    });
  }

  function start(starting: readonly Starting[]): void {
    const plain: Starting[] = [];
    const withHistory: (Starting & { count: number })[] = [];
    for (const one of starting) {
      const count = historyNeeded(one.held.claimed, one.held.event, one.target, one.facts);
      if (count === 0) plain.push(one);
      else withHistory.push({ ...one, count });
    }
    runJobs(plain, null);
    if (withHistory.length === 0) return;
    readHistories(
      database.pool,
      withHistory.map(({ held: { event }, count }) => ({ ...event!.conversation!, count })),
    ).then(
      (histories) => startRead(withHistory, histories),
      (error: unknown) => {
        log.warn({ err: error }, "conversations could not be read; their deliveries wait");
        for (const one of withHistory) lanes.noteEnded(lanes.of(one.held.claimed.webhookId), null);
        giveBack(withHistory.map((one) => one.held));
      },
    );
  }

  /**
   * Runs what can be sent as it was prepared. A webhook may have changed while the histories were read, and no attempt
   * may start by what was before: its deliveries go back to the front of their lane.
   */
  function startRead(prepared: readonly Starting[], histories: History[]): void {
    const isReady = ({ target }: Starting) =>
      !isClosed && directory.isCurrent() && startable(target.id)?.target === target;
    const ready = prepared.map(isReady);
    runJobs(
      prepared.filter((_, index) => ready[index]),
      histories.filter((_, index) => ready[index]),
    );
    const outdated = prepared.filter((_, index) => !ready[index]).map(({ held }) => held);
    if (outdated.length === 0) return;
    for (const one of outdated.toReversed()) {
      const lane = lanes.of(one.claimed.webhookId);
      lanes.noteEnded(lane, null);
      if (!isClosed) lane.waiting.unshift(one);
    }
    if (isClosed) giveBack(outdated);
    else pump();
  }

  function runJobs(starting: readonly Starting[], histories: History[] | null): void {
    const now = clock.now();
    const jobs: DeliveryJob[] = [];
    for (const [index, { held: one, target, facts }] of starting.entries()) {
      const { claimed, event } = one;
      const isSkipped = !claimed.payload && event !== null && !coversEvent(facts, event);
      if (isSkipped) {
        finish(one, {
          kind: "skipped",
          deliveryId: claimed.id,
          webhookId: claimed.webhookId,
          attemptNumber: claimed.attemptNumber,
          startedAtMs: now.getTime(),
          durationMs: 0,
        });
        continue;
      }
      const history = histories?.[index] ?? null;
      if (!claimed.payload) one.transformer = target.transformer;
      if (!claimed.payload && parts.plugins.isPlugin(target.transformer)) {
        maker.make(one, buildTask(event!, history, target));
        continue;
      }
      jobs.push(buildJob(claimed, event, history, target, facts, settings, now));
      // The thread has all it needs: what is in hand for long is small.
      one.event = null;
    }
    if (jobs.length > 0) parts.run(jobs);
  }

  function finish(one: Held, report: AttemptReport): void {
    lanes.noteEnded(lanes.of(one.claimed.webhookId), report.durationMs);
    const { unstored, transformer } = one;
    // Of payloads that were made before they were sent, the threads know nothing.
    const whole = unstored && "payload" in report ? { ...report, payload: unstored } : report;
    if (report.kind === "transformer_error" && transformer !== null && !parts.plugins.isPlugin(transformer)) {
      parts.plugins.noteError(transformer);
    }
    parts.recorder.record(one.claimed, whole, transformer);
  }

  /** Payloads of plugins are ready to be sent, by their webhooks as they are now. */
  function takeMade(made: readonly Held[]): void {
    for (const one of made) {
      const lane = lanes.of(one.claimed.webhookId);
      lanes.noteEnded(lane, null);
      one.sinceMs = clock.now().getTime();
      if (!isClosed) lane.waiting.unshift(one);
    }
    if (isClosed) giveBack(made);
    else pump();
  }

  function takeBack(unmade: readonly Held[]): void {
    for (const one of unmade) lanes.noteEnded(lanes.of(one.claimed.webhookId), null);
    giveBack(unmade);
  }

  /** Ends leases of deliveries whose attempt did not start; they are due again for whoever may send them. */
  function giveBack(deliveries: readonly Held[]): void {
    for (const one of deliveries) {
      lanes.of(one.claimed.webhookId).hasBacklog = true;
    }
    const claims = deliveries.map((one) => one.claimed);
    queue
      .release(claims, clock.now())
      .catch((error: unknown) =>
        log.warn({ err: error }, "leases could not be given back; they will run out"),
      )
      .finally(() => {
        for (const one of deliveries) held.remove(one);
        noteProgress();
      });
  }

  function giveBackStale(): void {
    const before = clock.now().getTime() - settings.holdMs;
    for (const lane of lanes.all()) {
      const stale = lane.waiting.findIndex((one) => one.sinceMs >= before);
      const count = stale === -1 ? lane.waiting.length : stale;
      if (count > 0) giveBack(lane.waiting.splice(0, count));
    }
    lanes.sweep();
  }

  /** Claims more for a lane that ran half empty while its deliveries wait in the table. */
  function refill(lane: Lane): void {
    if (!lane.hasBacklog) return;
    const now = startable(lane.webhookId);
    if (now && lane.waiting.length < now.target.maxInFlight) claimer.wake();
  }

  function noteProgress(): void {
    if (held.count() === 0) for (const resolve of idle.splice(0)) resolve();
    if (held.count() < settings.heldBusyCount) for (const resolve of waitingForRoom.splice(0)) resolve();
  }

  async function waitForRoom(): Promise<void> {
    // Only while attempts end: endpoints that hang must not hold up what is meant for others.
    if (held.count() < settings.heldBusyCount || clock.now().getTime() - lastEndedAtMs > progressMaxMs)
      return;
    const { promise, resolve } = Promise.withResolvers<void>();
    waitingForRoom.push(resolve);
    const timer = setTimeout(resolve, roomWaitMaxMs);
    await promise;
    clearTimeout(timer);
  }

  return {
    wake: claimer.wake,
    waitForRoom,
    reserve(target) {
      const lane = lanes.of(target.id);
      const isFree =
        !isClosed && !lane.hasBacklog && startable(target.id) !== null && lanes.roomOf(lane, target) > 0;
      if (isFree) lane.reservedCount += 1;
      else lane.hasBacklog = true;
      return isFree;
    },
    release(webhookId) {
      lanes.of(webhookId).reservedCount -= 1;
    },
    start(deliveries) {
      const taken = deliveries.map(({ claimed, event }) => {
        lanes.of(claimed.webhookId).reservedCount -= 1;
        return take(claimed, event);
      });
      if (isClosed) giveBack(taken);
      else pump();
    },
    onReports(reports) {
      const touched = new Set<Lane>();
      for (const report of reports) {
        const one = held.find({ id: report.deliveryId, attemptNumber: report.attemptNumber });
        if (!one) continue;
        finish(one, report);
        touched.add(lanes.of(report.webhookId));
      }
      lastEndedAtMs = clock.now().getTime();
      pump();
      for (const lane of touched) refill(lane);
    },
    onRecorded(recorded) {
      for (const { claimed, settlement } of recorded) {
        const one = held.find(claimed);
        if (one) held.remove(one);
        if (settlement.state === "pending") claimer.wakeAt(settlement.dueAt);
      }
      noteProgress();
      pump();
    },
    onLost(keys) {
      const lost: HeldDelivery[] = [];
      for (const { deliveryId, attemptNumber } of keys) {
        const one = held.find({ id: deliveryId, attemptNumber });
        if (!one) continue;
        held.remove(one);
        lanes.noteEnded(lanes.of(one.claimed.webhookId), null);
        lost.push(one.claimed);
      }
      noteProgress();
      return lost;
    },
    isHolding: (delivery) => held.find(delivery) !== undefined,
    async close(boundMs) {
      isClosed = true;
      clearInterval(sweepTimer);
      await claimer.close();
      for (const lane of lanes.all()) if (lane.waiting.length > 0) giveBack(lane.waiting.splice(0));
      const nothingHeld = Promise.withResolvers<void>();
      idle.push(nothingHeld.resolve);
      noteProgress();
      const timeUp = Promise.withResolvers<void>();
      const timer = setTimeout(timeUp.resolve, boundMs);
      await Promise.race([Promise.all([nothingHeld.promise, claimer.canceled()]), timeUp.promise]);
      clearTimeout(timer);
    },
  };
}

interface Starting {
  held: Held;
  target: WebhookTarget;
  facts: TransformerFacts;
}
