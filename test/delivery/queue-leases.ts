/** The part of a queue's suite that is about leases which their holders keep, or do not end. */

import { describe, expect, test } from "vitest";
import { type Acts, idsOf } from "./queue-lab.ts";

export function testLeases(actsOf: () => Acts): void {
  describe("extend", () => {
    test("keeps a lease for as long as it says", async () => {
      const { lab, at, here, there, oneClaimed } = actsOf();
      const { id, claimed } = await oneClaimed();
      await here.extend([claimed], at(3 * lab.leaseMs));
      await lab.pass(2 * lab.leaseMs);
      expect(await there.listBroken(lab.now(), 10)).toEqual([]);
      await lab.pass(lab.leaseMs + 1);
      expect(idsOf(await there.listBroken(lab.now(), 10))).toEqual([id]);
    });

    test("does nothing for an attempt that ended or was taken over", async () => {
      const { lab, at, here, there, settle, takenOver } = actsOf();
      const { id, late, successor } = await takenOver();
      await here.extend([late], at(50 * lab.leaseMs));
      await lab.pass(lab.leaseMs + 1);
      expect(await here.listBroken(lab.now(), 10)).toMatchObject([{ id, attemptNumber: 2 }]);
      expect(await settle(there, successor, "succeeded")).toEqual(new Set([id]));
      await there.extend([successor], at(50 * lab.leaseMs));
      expect(await here.listHeld([late, successor])).toEqual([]);
      expect(await lab.readLog(id)).toMatchObject({ state: "delivered" });
    });
  });

  describe("a lease that ran out", () => {
    test("is listed, the oldest first and no more than asked for; one that holds is not", async () => {
      const { lab, at, here, there, enqueue } = actsOf();
      const webhookId = await lab.addWebhook();
      const firstEnd = at(lab.leaseMs);
      const [second] = await enqueue(webhookId, 1, at(lab.leaseMs + 10));
      const [first] = await enqueue(webhookId, 1, firstEnd);
      await enqueue(webhookId, 1, at(10 * lab.leaseMs));
      await lab.pass(2 * lab.leaseMs);
      expect(await there.listBroken(lab.now(), 10)).toMatchObject([
        { id: first, webhookId, attemptNumber: 1, isResend: false, lostInARow: 0, leasedUntil: firstEnd },
        { id: second },
      ]);
      expect(idsOf(await here.listBroken(lab.now(), 1))).toEqual([first]);
    });

    test("keeps its delivery from being claimed until it is lost", async () => {
      const { lab, there, claim, lose, oneClaimed } = actsOf();
      const { webhookId, id } = await oneClaimed();
      await lab.pass(2 * lab.leaseMs);
      expect(await claim(there, webhookId)).toEqual([]);
      expect(await lose(there, await there.listBroken(lab.now(), 10))).toBe(1);
      expect(await claim(there, webhookId)).toMatchObject([{ id, attemptNumber: 2 }]);
    });

    test("is lost once, whichever of two processes does it", async () => {
      const { lab, here, there, lose, oneClaimed } = actsOf();
      const { id } = await oneClaimed();
      await lab.pass(2 * lab.leaseMs);
      const ours = await here.listBroken(lab.now(), 10);
      const theirs = await there.listBroken(lab.now(), 10);
      const counts = await Promise.all([lose(here, ours), lose(there, theirs)]);
      expect(counts.toSorted()).toEqual([0, 1]);
      expect(await lab.readLog(id)).toMatchObject({ state: "pending", attempts: ["1 lost"] });
    });

    test("is not lost if it was extended or ended since it was listed", async () => {
      const { lab, at, here, there, lose, settle, oneClaimed } = actsOf();
      const { id, claimed } = await oneClaimed();
      await lab.pass(lab.leaseMs + 1);
      const broken = await there.listBroken(lab.now(), 10);
      expect(broken).toMatchObject([{ id }]);
      await here.extend([claimed], at(2 * lab.leaseMs));
      expect(await lose(there, broken)).toBe(0);
      expect(await settle(here, claimed, "succeeded")).toEqual(new Set([id]));
      expect(await lose(there, broken)).toBe(0);
      expect(await lab.readLog(id)).toMatchObject({ state: "delivered", attempts: ["1 succeeded"] });
    });

    test("costs none of the round's attempts, and after five in a row the delivery is given up", async () => {
      const { lab, here, there, claim, lose, enqueue } = actsOf();
      const webhookId = await lab.addWebhook();
      const [id] = await enqueue(webhookId);
      for (let count = 1; count <= 5; count++) {
        expect(await claim(here, webhookId)).toMatchObject([{ attemptNumber: count, roundAttemptCount: 0 }]);
        await lab.pass(lab.leaseMs + 1);
        const broken = await there.listBroken(lab.now(), 10);
        expect(broken).toMatchObject([{ lostInARow: count - 1 }]);
        expect(await lose(there, broken)).toBe(1);
      }
      expect(await lab.readLog(id!)).toEqual({
        state: "failed",
        reason: "lost_repeatedly",
        attempts: [1, 2, 3, 4, 5].map((number) => `${number} lost`),
      });
      expect(await claim(here, webhookId)).toEqual([]);
    });
  });

  describe("listHeld", () => {
    test("gives the leases that are still held, before their time, so that their holder may lose them", async () => {
      const { lab, at, here, there, claim, lose, oneClaimed } = actsOf();
      const { webhookId, id, claimed } = await oneClaimed();
      const held = await here.listHeld([claimed]);
      expect(held).toMatchObject([{ id, attemptNumber: 1 }]);
      expect(held[0]!.leasedUntil.getTime()).toBeLessThanOrEqual(at(lab.leaseMs).getTime());
      expect(await lose(here, held)).toBe(1);
      expect(await here.listHeld([claimed])).toEqual([]);
      const [second] = await claim(there, webhookId);
      expect(await here.listHeld([claimed, second!])).toMatchObject([{ id, attemptNumber: 2 }]);
    });
  });
}
