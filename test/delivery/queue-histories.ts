/** Histories that nobody wrote down: two processes do what chance says, and the promises hold all the same. */

import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ClaimedDelivery } from "../../server/domain/delivery-claim.ts";
import { aSettledAttempt, type Outcome } from "../store/reports.ts";
import { type Acts, createActs, type QueueLab } from "./queue-lab.ts";
import { createModel } from "./queue-model.ts";
import { testRaces } from "./queue-races.ts";

/** @param open  a queue whose time passes at once: chance makes many hours; called once */
export function testQueueHistories(open: () => Promise<QueueLab>): void {
  let acts: Acts;
  beforeAll(async () => {
    acts = createActs(await open());
  });
  afterAll(() => acts?.lab.close());

  describe("two processes that take turns", () => {
    test("see in every answer and in the log what the rules say", { timeout: 120_000 }, async () => {
      const seen = new Set<string>();
      await fc.assert(
        fc.asyncProperty(fc.array(moves, { minLength: 10, maxLength: 60, size: "max" }), async (sequence) => {
          const { lab } = acts;
          await lab.clear();
          const turns = await openTurns(acts);
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

  testRaces(() => acts);
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
  | { kind: "pass"; leaseCount: number };

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
      leaseCount: fc.constantFrom(0.25, 0.5, 1.25, 3, 15),
    }),
  },
);

async function openTurns({ lab, at, claim, enqueue, lose }: Acts) {
  const model = createModel();
  const webhookIds = [await lab.addWebhook(), await lab.addWebhook()];
  /** Newest first; those that ended long ago stay, and come late when they are named. */
  const claims: ClaimedDelivery[] = [];

  async function make(move: Move): Promise<void> {
    const now = lab.now();
    const leasedUntil = at(lab.leaseMs);
    if (move.kind === "pass") return await lab.pass(move.leaseCount * lab.leaseMs);
    if (move.kind === "enqueue") {
      const webhookId = webhookIds[move.webhook]!;
      const lease = move.isStarted ? leasedUntil : null;
      const [id] = await enqueue(webhookId, 1, lease);
      model.add(id!, webhookId, now, lease);
      return;
    }
    const queue = lab.queues[move.process]!;
    if (move.kind === "claim") {
      const webhookId = webhookIds[move.webhook]!;
      const claimed = await claim(queue, webhookId, move.room);
      model.expectClaim(claimed, webhookId, move.room, now, leasedUntil);
      claims.unshift(...claimed);
      return;
    }
    if (move.kind === "lose") {
      const broken = await queue.listBroken(now, move.limit);
      model.expectBroken(broken, now, move.limit);
      expect(await lose(queue, broken)).toBe(broken.length);
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
      await queue.extend([claimed], at(2 * lab.leaseMs));
      if (isCurrent) one.extend(at(2 * lab.leaseMs));
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

  return { model, make };
}
