/** Histories that nobody wrote down: two processes do what chance says, and the promises hold all the same. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { ClaimedDelivery } from "../../server/domain/delivery-claim.ts";
import type { DeliveryQueue } from "../../server/domain/delivery-queue.ts";
import { aSettledAttempt, type Outcome } from "../store/reports.ts";
import { claim, enqueue, labTime, leaseMs, lostOf, type QueueLab } from "./queue-lab.ts";
import { createModel, type Model } from "./queue-model.ts";

export function testHistories(labOf: () => QueueLab<unknown>): void {
  describe("two processes that take turns", () => {
    test("see in every answer and in the log what the rules say", { timeout: 120_000 }, async () => {
      const seen = new Set<string>();
      await fc.assert(
        fc.asyncProperty(fc.array(moves, { minLength: 10, maxLength: 60, size: "max" }), async (sequence) => {
          const lab = labOf();
          await lab.clear();
          const turns = await openTurns(lab);
          for (const move of sequence) await turns.make(move);
          for (const [id, model] of turns.model.all()) {
            expect(await lab.readLog(id)).toEqual(model.log());
            seen.add(model.log().state);
          }
        }),
        { numRuns: 80 },
      );
      // Chance led to every state, or this test has shown less than it says.
      expect([...seen]).toEqual(
        expect.arrayContaining(["pending", "delivering", "delivered", "failed", "skipped"]),
      );
    });
  });

  describe("two processes at the same time", () => {
    test("that fail, drop, give back and come late bring every delivery to one end", {
      timeout: 120_000,
    }, async () => {
      let lostCount = 0;
      let lateCount = 0;
      await fc.assert(
        fc.asyncProperty(fc.array(deeds, { minLength: 20, maxLength: 60, size: "max" }), async (script) => {
          const lab = labOf();
          await lab.clear();
          const webhookId = await lab.addWebhook();
          const ids = await enqueue(lab, webhookId, { count: 12 });
          const counts = await runTogether(lab, webhookId, script);
          const logs = await Promise.all(ids.map(async (id) => (await lab.readLog(id))!));
          for (const { state, attempts } of logs) {
            const outcomes = attempts.map((one) => one.split(" ")[1]!);
            expect(attempts).toEqual(outcomes.map((outcome, index) => `${index + 1} ${outcome}`));
            const succeededCount = outcomes.filter((one) => one === "succeeded").length;
            const failedCount = outcomes.filter((one) => one === "failed").length;
            if (state === "delivered") {
              expect(outcomes.at(-1)).toBe("succeeded");
              expect([succeededCount, failedCount < 4]).toEqual([1, true]);
            } else {
              expect(state).toBe("failed");
              expect(succeededCount).toBe(0);
              const isLost = outcomes.slice(-5).filter((one) => one === "lost").length === 5;
              expect(failedCount === 4 || isLost).toBe(true);
            }
          }
          const all = logs.flatMap(({ attempts }) => attempts);
          const lost = all.filter((one) => one.endsWith("lost"));
          expect({ settled: all.length - lost.length, lost: lost.length }).toEqual({
            settled: counts.settled,
            lost: counts.lost,
          });
          lostCount += counts.lost;
          lateCount += counts.late;
        }),
        { numRuns: 10 },
      );
      expect(lostCount).toBeGreaterThan(0);
      expect(lateCount).toBeGreaterThan(0);
    });
  });
}

const outcomes = fc.constantFrom<Outcome>(
  "succeeded",
  "failed",
  "failed",
  "failed",
  "skipped",
  "transformer_error",
);
/** Which of what there is, counted from the newest. */
const which = fc.oneof({ weight: 3, arbitrary: fc.nat(2) }, fc.nat(9));
const process = fc.nat(1);
const webhook = fc.nat(1);

type Move =
  | { kind: "enqueue"; webhook: number; isStarted: boolean }
  | { kind: "claim"; process: number; webhook: number; room: number }
  | { kind: "settle"; process: number; which: number; outcome: Outcome }
  | { kind: "extend" | "release"; process: number; which: number }
  | { kind: "lose"; process: number; limit: number }
  | { kind: "pass"; ms: number };

const moves: fc.Arbitrary<Move> = fc.oneof(
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant("enqueue" as const), webhook, isStarted: fc.boolean() }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("claim" as const),
      process,
      webhook,
      room: fc.integer({ min: 1, max: 4 }),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({ kind: fc.constant("settle" as const), process, which, outcome: outcomes }),
  },
  fc.record({ kind: fc.constantFrom("extend" as const, "release" as const), process, which }),
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("lose" as const),
      process,
      limit: fc.integer({ min: 1, max: 9 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant("pass" as const),
      ms: fc.constantFrom(1, 5_000, leaseMs + 1, 60_000, 300_000),
    }),
  },
);

async function openTurns(lab: QueueLab<unknown>) {
  const model = createModel();
  const webhookIds = [await lab.addWebhook(), await lab.addWebhook()];
  /** Newest first; those that ended long ago stay, and come late when they are named. */
  const claims: ClaimedDelivery[] = [];
  let nowMs = 0;
  const leaseEnd = () => labTime(nowMs + leaseMs);

  async function make(move: Move): Promise<void> {
    const now = labTime(nowMs);
    if (move.kind === "pass") {
      nowMs += move.ms;
      return;
    }
    if (move.kind === "enqueue") {
      const webhookId = webhookIds[move.webhook]!;
      const [id] = await enqueue(lab, webhookId, {
        dueAt: now,
        ...(move.isStarted && { leasedUntil: leaseEnd() }),
      });
      model.add(id!, webhookId, now, move.isStarted ? leaseEnd() : null);
      return;
    }
    const queue = lab.queues[move.process]!;
    if (move.kind === "claim") {
      const webhookId = webhookIds[move.webhook]!;
      const claimed = await claim(queue, webhookId, { room: move.room, now });
      model.expectClaim(claimed, webhookId, move.room, now, leaseEnd());
      claims.unshift(...claimed);
      return;
    }
    if (move.kind === "lose") {
      const broken = await queue.listBroken(now, move.limit);
      model.expectBroken(broken, now, move.limit);
      expect(await queue.lose(lostOf(broken, now), [], now)).toBe(broken.length);
      for (const { id } of broken) model.lose(id, now);
      return;
    }
    const claimed = claims[move.which % claims.length];
    if (!claimed) return;
    const one = model.of(claimed.id);
    const isCurrent = one.holds(claimed.attemptNumber);
    expect(await queue.listHeld([claimed])).toHaveLength(isCurrent ? 1 : 0);
    if (move.kind === "settle") {
      const attempt = aSettledAttempt(claimed, move.outcome, now);
      expect(await queue.settle([attempt], now)).toEqual(new Set(isCurrent ? [claimed.id] : []));
      if (!isCurrent) return;
      one.settle(move.outcome, attempt.settlement);
      // Its number is free: what comes late under it would be another attempt.
      if (move.outcome === "skipped" || move.outcome === "transformer_error") forget(claimed);
    } else if (move.kind === "extend") {
      await queue.extend([claimed], labTime(nowMs + 2 * leaseMs));
      if (isCurrent) one.extend(labTime(nowMs + 2 * leaseMs));
    } else {
      await queue.release([claimed], now);
      if (!isCurrent) return;
      one.release(now);
      forget(claimed);
    }
  }

  function forget(claimed: ClaimedDelivery): void {
    claims.splice(claims.indexOf(claimed), 1);
  }

  return { model: model as Model, make };
}

const deeds = fc.constantFrom("succeed", "fail", "fail", "fail", "drop", "drop", "release", "come late");
type Deed = "succeed" | "fail" | "drop" | "release" | "come late";

const roundsMax = 2_000;

/** Lets two processes work until nothing is left, each by its own part of the script and then by none but successes. */
async function runTogether(lab: QueueLab<unknown>, webhookId: number, script: readonly Deed[]) {
  const counts = { settled: 0, lost: 0, late: 0 };
  let nowMs = 0;

  async function work(queue: DeliveryQueue, deedsOfOne: Deed[]): Promise<void> {
    const late: ClaimedDelivery[] = [];
    for (let round = 0; round < roundsMax; round++) {
      nowMs += leaseMs / 4;
      const now = labTime(nowMs);
      const claimed = await claim(queue, webhookId, { room: 3, now });
      for (const one of claimed) await act(queue, one, deedsOfOne.shift() ?? "succeed", late, now);
      const broken = await queue.listBroken(now, 10);
      if (broken.length > 0) {
        const lostCount = await patiently(() => queue.lose(lostOf(broken, now), [], now));
        counts.lost += lostCount;
      }
      const tooLate = late.filter(({ id }) => broken.some((lease) => lease.id === id));
      if (tooLate.length > 0) {
        const batch = tooLate.map((one) => aSettledAttempt(one, "succeeded", now));
        const counted = await patiently(() => queue.settle(batch, now));
        counts.late += batch.length - counted.size;
        counts.settled += counted.size;
        late.splice(0, late.length, ...late.filter((one) => !tooLate.includes(one)));
      }
      const isLeft = (await queue.listDue()).some((due) => due.webhookId === webhookId);
      const isHeld = (await queue.listBroken(labTime(nowMs + 10 * leaseMs), 1)).length > 0;
      if (!isLeft && !isHeld) return;
    }
    throw new Error(`deliveries are left after ${roundsMax} rounds`);
  }

  async function act(
    queue: DeliveryQueue,
    one: ClaimedDelivery,
    deed: Deed,
    late: ClaimedDelivery[],
    now: Date,
  ): Promise<void> {
    if (deed === "drop") return;
    if (deed === "come late") late.push(one);
    else if (deed === "release") await queue.release([one], now);
    else {
      const attempt = aSettledAttempt(one, deed === "succeed" ? "succeeded" : "failed", now);
      const counted = await patiently(() => queue.settle([attempt], now));
      counts.settled += counted.size;
    }
  }

  const half = Math.ceil(script.length / 2);
  await Promise.all([work(lab.queues[0], script.slice(0, half)), work(lab.queues[1], script.slice(half))]);
  return counts;
}

/** What another process was in the way of has done nothing, and is done again. */
async function patiently<T>(call: () => Promise<T>): Promise<T> {
  for (let attempt = 1; attempt < 5; attempt++) {
    try {
      return await call();
    } catch {
      // Once more; the last time it may fail.
    }
  }
  return await call();
}
