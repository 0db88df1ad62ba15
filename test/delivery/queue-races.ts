/** Histories of two processes that do not wait for each other. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { ClaimedDelivery } from "../../server/domain/delivery-claim.ts";
import type { DeliveryQueue } from "../../server/domain/delivery-queue.ts";
import { aSettledAttempt } from "../store/reports.ts";
import type { Acts } from "./queue-lab.ts";

export function testRaces(actsOf: () => Acts): void {
  describe("two processes at the same time", () => {
    test("that fail, drop, give back and come late bring every delivery to one end", {
      timeout: 120_000,
    }, async () => {
      let lostCount = 0;
      let lateCount = 0;
      await fc.assert(
        fc.asyncProperty(fc.array(deeds, { minLength: 20, maxLength: 60, size: "max" }), async (script) => {
          const acts = actsOf();
          const { lab } = acts;
          await lab.clear();
          const webhookId = await lab.addWebhook();
          const ids = await acts.enqueue(webhookId, 12);
          const counts = await runTogether(acts, webhookId, script);
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

const deeds = fc.constantFrom("succeed", "fail", "fail", "fail", "drop", "drop", "release", "come late");
type Deed = "succeed" | "fail" | "drop" | "release" | "come late";

const roundsMax = 2_000;

/** Lets two processes work until nothing is left, each by its own part of the script and then by none but successes. */
async function runTogether(
  { lab, at, claim, lose, settle }: Acts,
  webhookId: number,
  script: readonly Deed[],
) {
  const counts = { settled: 0, lost: 0, late: 0 };

  async function work(queue: DeliveryQueue, deedsOfOne: Deed[]): Promise<void> {
    const late: ClaimedDelivery[] = [];
    for (let round = 0; round < roundsMax; round++) {
      await lab.pass(lab.leaseMs / 4);
      const claimed = await claim(queue, webhookId, 3);
      for (const one of claimed) await act(queue, one, deedsOfOne.shift() ?? "succeed", late);
      const broken = await queue.listBroken(lab.now(), 10);
      if (broken.length > 0) {
        const lostCount = await patiently(() => lose(queue, broken));
        counts.lost += lostCount;
      }
      const tooLate = late.filter(({ id }) => broken.some((lease) => lease.id === id));
      if (tooLate.length > 0) {
        const batch = tooLate.map((one) => aSettledAttempt(one, "succeeded", lab.now()));
        const counted = await patiently(() => queue.settle(batch, lab.now()));
        counts.late += batch.length - counted.size;
        counts.settled += counted.size;
        late.splice(0, late.length, ...late.filter((one) => !tooLate.includes(one)));
      }
      const isLeft = (await queue.listDue()).some((due) => due.webhookId === webhookId);
      const isHeld = (await queue.listBroken(at(10 * lab.leaseMs), 1)).length > 0;
      if (!isLeft && !isHeld) return;
    }
    throw new Error(`deliveries are left after ${roundsMax} rounds`);
  }

  async function act(
    queue: DeliveryQueue,
    one: ClaimedDelivery,
    deed: Deed,
    late: ClaimedDelivery[],
  ): Promise<void> {
    if (deed === "drop") return;
    if (deed === "come late") late.push(one);
    else if (deed === "release") await queue.release([one], lab.now());
    else {
      const outcome = deed === "succeed" ? "succeeded" : "failed";
      const counted = await patiently(() => settle(queue, one, outcome));
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
