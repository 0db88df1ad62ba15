/**
 * Sends deliveries again in bulk, or for the first time what a webhook missed.
 *
 *   StartRecovery ──► row ──► count ──► turns: look ahead, take up, move on ──► endings counted ──► done
 *                      ▲                 │ (one transaction, at the pace asked for)
 *                      └── lease, cursor ┘
 *
 * Each process takes recoveries that no other has in hand, and works on them side by side, a turn each. What a turn takes
 * up waits in the table like every due delivery and goes through the dispatcher's lanes, so a recovery can delay the
 * webhooks that it is for and no others. Relies on `store/recovery-turns.ts` for what survives a crash.
 */

import type { Logger } from "pino";
import { isTurnDue, type Recovery, type RecoveryScope } from "../domain/recovery.ts";
import type { Access } from "../store/access.ts";
import { isRepeatable } from "../store/faults.ts";
import { expectSendable, startRecovery } from "../store/recoveries.ts";
import {
  claimRecoveries,
  type OpenRecovery,
  type Position,
  releaseRecoveries,
  type SettledUpTo,
  saveTotal,
} from "../store/recovery-turns.ts";
import { createTurns, type TurnParts } from "./recovery-turn.ts";
import { type Look, lookAhead, type WalkParts } from "./recovery-walk.ts";

export interface Recoveries {
  /**
   * Starts a recovery; it is stored when this settles.
   *
   * @throws GatewayError `not_found` if the webhook is not the caller's, `wrong_state` if it is off or gone, `over_limit`
   *         if the tenant has too many running
   */
  start(access: Access, scope: Omit<RecoveryScope, "until"> & { until: Date | null }): Promise<Recovery>;
  /** Settles once the turn under way has ended; others may take over at once. */
  close(): Promise<void>;
}

export interface RecoveriesParts extends Omit<TurnParts, "walk">, Pick<WalkParts, "handlesOf"> {
  log: Logger;
}

export interface RecoverySettings {
  /** How often recoveries that nobody has in hand are looked for. */
  pollMs: number;
  /** How long a recovery is this process's without a sign of life. */
  leaseMs: number;
  /** Recoveries that this process works on at once. */
  heldMax: number;
  /** How long the round of all of them rests when there is more to do, so that the rest of the gateway has its turn. */
  restMs: number;
  /** How often the endings of one recovery are counted: at most, and while nothing ends at least. */
  settleEveryMs: number;
  settleEveryMaxMs: number;
  /** How long a start may take to count what is ahead; beyond that it is counted in the background. */
  countAtStartMs: number;
  /** Rows that one look reads at most. */
  lookRowsMax: number;
  /** Endings that one look counts at most. */
  settleRowsMax: number;
}

/** What this process remembers of a recovery between two rounds; nothing that must not be lost. */
interface Memory {
  countedTo: Position;
  countedCount: number;
  settledUpTo: SettledUpTo;
  settledAtMs: number;
  /** Grows while nothing ends: what waits for a paused webhook may wait for days. */
  settleWaitMs: number;
}

const looksInARowMax = 20;
/** Starts that count at once: the connections are those that events are published on. Others are counted afterwards. */
const countingAtStartMax = 2;

export function createRecoveries(parts: RecoveriesParts, settings: RecoverySettings): Recoveries {
  const { database, directory, clock, log } = parts;
  const holderId = parts.ids.next();
  const memories = new Map<string, Memory>();
  let held: OpenRecovery[] = [];
  let countingCount = 0;
  let claimedAtMs = Number.NEGATIVE_INFINITY;
  let isClosed = false;
  let rest = new AbortController();
  const walk: WalkParts = {
    webhookOf: (id) => directory.current.webhooks.get(id),
    handlesOf: parts.handlesOf,
  };
  const turns = createTurns({ ...parts, walk }, holderId, settings);
  const running = run();

  async function run(): Promise<void> {
    while (!isClosed) {
      let restMs = settings.pollMs;
      try {
        await claim();
        const round = await runRound();
        if (round === "more") restMs = settings.restMs;
        else if (round === "wait" && held.length > 0) restMs = restUntilTurn();
      } catch (error) {
        log.warn({ err: error }, "recoveries could not be looked for");
      }
      await clock.sleep(restMs, rest.signal);
      if (rest.signal.aborted && !isClosed) rest = new AbortController();
    }
  }

  /** Looks for recoveries now. */
  function wake(): void {
    claimedAtMs = Number.NEGATIVE_INFINITY;
    rest.abort();
  }

  /** Leases are renewed three times before they end. */
  async function claim(): Promise<void> {
    const now = clock.now();
    const nowMs = now.getTime();
    const everyMs = Math.min(settings.pollMs, settings.leaseMs / 3);
    if (nowMs >= claimedAtMs && nowMs - claimedAtMs < everyMs) return;
    claimedAtMs = nowMs;
    const until = new Date(nowMs + settings.leaseMs);
    held = await claimRecoveries(database.pool, holderId, now, until, settings.heldMax);
    const heldIds = new Set(held.map(({ id }) => id));
    for (const id of memories.keys()) if (!heldIds.has(id)) memories.delete(id);
  }

  /** A turn of each: `more` = there is more to do at once. */
  async function runRound(): Promise<"more" | "wait" | "failed"> {
    let outcome: "more" | "wait" = "wait";
    let hasFailed = false;
    for (const [index, recovery] of held.entries()) {
      if (isClosed) return "wait";
      try {
        const after = await step(recovery);
        held[index] = after.recovery;
        if (after.isMore) outcome = "more";
      } catch (error) {
        // Deliveries that are recorded or canceled at the same time are locked in another order.
        if (isRepeatable(error)) continue;
        hasFailed = true;
        log.warn({ err: error, recoveryId: recovery.id }, "a recovery could not go on; it is tried again");
      }
    }
    return hasFailed ? "failed" : outcome;
  }

  function restUntilTurn(): number {
    const nowMs = clock.now().getTime();
    const running = held.filter((one) => one.state === "running" && !one.isWalked);
    const waits = running.map(({ nextAt }) => nextAt.getTime() - nowMs);
    return Math.max(settings.restMs, Math.min(settings.settleEveryMs, ...waits));
  }

  async function step(recovery: OpenRecovery): Promise<{ recovery: OpenRecovery; isMore: boolean }> {
    const memory = memoryOf(recovery.id);
    const now = clock.now();
    const sinceSettledMs = now.getTime() - memory.settledAtMs;
    if (sinceSettledMs >= memory.settleWaitMs || sinceSettledMs < 0) await settle(recovery.id, memory, now);
    if (recovery.state !== "running" || recovery.isWalked) return { recovery, isMore: false };
    if (recovery.totalCount === null) {
      const totalCount = await countOn(recovery, memory);
      return { recovery: { ...recovery, totalCount }, isMore: true };
    }
    if (!isTurnDue(recovery.nextAt, now)) return { recovery, isMore: false };
    const after = await turns.take(recovery);
    // Something may end soon, or nothing is left but to end.
    memory.settleWaitMs = settings.settleEveryMs;
    return after;
  }

  function memoryOf(id: string): Memory {
    let memory = memories.get(id);
    if (!memory) {
      memory = {
        countedTo: startPosition,
        countedCount: 0,
        settledUpTo: null,
        settledAtMs: Number.NEGATIVE_INFINITY,
        settleWaitMs: settings.settleEveryMs,
      };
      memories.set(id, memory);
    }
    return memory;
  }

  /** A stretch of counting; null while it has not come to the end. */
  async function countOn(recovery: OpenRecovery, memory: Memory): Promise<number | null> {
    for (let looks = 0; looks < looksInARowMax; looks++) {
      const look = await lookOn(recovery, memory.countedTo);
      memory.countedCount += look.matches.length;
      if (look.position === null) {
        await saveTotal(database.pool, recovery.id, memory.countedCount);
        return memory.countedCount;
      }
      memory.countedTo = look.position;
    }
    return null;
  }

  /** All that matches in the next stretch. */
  function lookOn(recovery: OpenRecovery, position: Position): Promise<Look> {
    return lookAhead(database.pool, walk, recovery, position, Number.POSITIVE_INFINITY, settings.lookRowsMax);
  }

  async function settle(id: string, memory: Memory, now: Date): Promise<void> {
    memory.settledAtMs = now.getTime();
    const settled = await turns.settle(id, memory.settledUpTo);
    memory.settledUpTo = settled?.upTo ?? null;
    memory.settleWaitMs = settled?.endedCount
      ? settings.settleEveryMs
      : Math.min(memory.settleWaitMs * 2, settings.settleEveryMaxMs);
  }

  /** Null if it takes longer than `countAtStartMs`, or others are being counted. */
  async function countAtStart(recovery: OpenRecovery): Promise<number | null> {
    if (countingCount >= countingAtStartMax) return null;
    countingCount += 1;
    return await countInTime(recovery).finally(() => {
      countingCount -= 1;
    });
  }

  async function countInTime(recovery: OpenRecovery): Promise<number | null> {
    const endMs = clock.now().getTime() + settings.countAtStartMs;
    let count = 0;
    for (let position: Position | null = startPosition; position !== null; ) {
      if (clock.now().getTime() > endMs) return null;
      const look: Look = await lookOn(recovery, position);
      count += look.matches.length;
      position = look.position;
    }
    return count;
  }

  return {
    async start(access, { until, ...asked }) {
      const now = clock.now();
      const scope = { ...asked, until: until && until < now ? until : now };
      if (scope.webhookId !== null) await expectSendable(database, access, scope.webhookId);
      const id = parts.ids.next();
      const totalCount = await countAtStart(openRecovery(id, access, scope, now));
      const started = await startRecovery(database, access, id, scope, totalCount, now);
      wake();
      return started;
    },
    async close() {
      isClosed = true;
      rest.abort();
      await running;
      await releaseRecoveries(database.pool, holderId).catch((error: unknown) =>
        log.warn({ err: error }, "recoveries could not be handed over; their leases will run out"),
      );
    },
  };
}

const startPosition: Position = { webhookId: 0, afterId: null };

/** As the row will be. */
function openRecovery(id: string, owner: Access, scope: RecoveryScope, now: Date): OpenRecovery {
  const { tenantId, clientId } = owner;
  return {
    id,
    tenantId,
    clientId,
    webhookId: scope.webhookId,
    states: [...scope.states],
    eventTypes: [...scope.eventTypes],
    sinceAt: scope.since,
    untilAt: scope.until,
    ratePerSecond: scope.ratePerSecond,
    state: "running",
    totalCount: null,
    position: startPosition,
    isWalked: false,
    nextAt: now,
    startedAt: now,
  };
}
