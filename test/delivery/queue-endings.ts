/** The part of a queue's suite that is about how leases are ended by those who hold them. */

import { describe, expect, test } from "vitest";
import { aSettledAttempt, madePayload, type Outcome } from "../store/reports.ts";
import { type Acts, idsOf } from "./queue-lab.ts";

export function testEndings(actsOf: () => Acts): void {
  describe("settle", () => {
    test("counts an attempt once, whichever process says it first", async () => {
      const { lab, here, there, settle, oneClaimed } = actsOf();
      const { id, claimed } = await oneClaimed();
      const counted = await Promise.all([
        settle(here, claimed, "succeeded"),
        settle(there, claimed, "failed"),
      ]);
      expect(counted.map(({ size }) => size).toSorted()).toEqual([0, 1]);
      expect(await settle(here, claimed, "failed")).toEqual(new Set());
      expect((await lab.readLog(id))!.attempts).toHaveLength(1);
    });

    test.for([
      ["succeeded", "delivered", null, ["1 succeeded"]],
      ["skipped", "skipped", null, []],
      ["transformer_error", "failed", "transformer_error", []],
    ] as const)(
      "brings a delivery to its end after an attempt that %s",
      async ([outcome, state, reason, attempts]) => {
        const { lab, here, there, claim, settle, oneClaimed, passAll } = actsOf();
        const { webhookId, id, claimed } = await oneClaimed();
        expect(await settle(here, claimed, outcome)).toEqual(new Set([id]));
        expect(await lab.readLog(id)).toEqual({ state, reason, attempts });
        await passAll();
        expect(await claim(there, webhookId)).toEqual([]);
        expect(await there.listDue()).toEqual([]);
        expect(await there.listBroken(lab.now(), 10)).toEqual([]);
      },
    );

    test("makes a failed attempt's delivery due again at its time and not before, with the payload as it was made", async () => {
      const { lab, at, here, there, claim, oneClaimed } = actsOf();
      const { webhookId, id, claimed } = await oneClaimed();
      const { settlement: _, ...attempt } = aSettledAttempt(claimed, "failed", lab.now());
      const dueAt = at(lab.leaseMs);
      await here.settle([{ ...attempt, settlement: { state: "pending", dueAt } }], lab.now());
      await lab.pass(lab.leaseMs / 2);
      expect(await claim(there, webhookId)).toEqual([]);
      await lab.pass(lab.leaseMs / 2);
      const [second] = await claim(there, webhookId);
      expect(second).toMatchObject({ id, attemptNumber: 2, roundAttemptCount: 1 });
      const { body, contentType, headers } = madePayload;
      expect(second!.payload).toMatchObject({ contentType, headers });
      expect(Buffer.from(second!.payload!.body)).toEqual(Buffer.from(body));
    });

    test("of a mixture of endings and retries settles each by itself", async () => {
      const { lab, here, enqueue, claim } = actsOf();
      const webhookId = await lab.addWebhook();
      await enqueue(webhookId, 3);
      const claimed = await claim(here, webhookId);
      const outcomes: Outcome[] = ["succeeded", "failed", "skipped"];
      const batch = claimed.map((one, index) => aSettledAttempt(one, outcomes[index]!, lab.now()));
      expect(await here.settle(batch, lab.now())).toEqual(new Set(idsOf(claimed)));
      const states = await Promise.all(claimed.map(async ({ id }) => (await lab.readLog(id))!.state));
      expect(states).toEqual(["delivered", "pending", "skipped"]);
    });

    test("of an attempt that was taken over leaves no trace, before its successor ends and after", async () => {
      const { lab, here, there, claim, settle, takenOver } = actsOf();
      const { webhookId, id, late, successor } = await takenOver();
      expect(successor).toMatchObject({ id, attemptNumber: 2 });
      expect(await settle(here, late, "succeeded")).toEqual(new Set());
      expect(await lab.readLog(id)).toMatchObject({ state: "delivering", attempts: ["1 lost"] });
      await there.release([successor], lab.now());
      const again = await claim(there, webhookId);
      expect(again).toMatchObject([{ id, attemptNumber: 2, roundAttemptCount: 0, payload: null }]);
      expect(await settle(there, again[0]!, "failed")).toEqual(new Set([id]));
      expect(await settle(here, late, "succeeded")).toEqual(new Set());
      expect(await lab.readLog(id)).toMatchObject({ state: "pending", attempts: ["1 lost", "2 failed"] });
    });

    test("of both in one batch counts the successor alone", async () => {
      const { lab, here, takenOver } = actsOf();
      const { id, late, successor } = await takenOver();
      const both = [
        aSettledAttempt(late, "succeeded", lab.now()),
        aSettledAttempt(successor, "failed", lab.now()),
      ];
      expect(await here.settle(both, lab.now())).toEqual(new Set([id]));
      expect(await lab.readLog(id)).toMatchObject({ state: "pending", attempts: ["1 lost", "2 failed"] });
    });
  });

  describe("release", () => {
    test("makes deliveries due at once for anybody, under the same number and without an entry in the log", async () => {
      const { lab, here, there, claim, oneClaimed } = actsOf();
      const { webhookId, id, claimed } = await oneClaimed();
      await here.release([claimed], lab.now());
      expect(await lab.readLog(id)).toEqual({ state: "pending", reason: null, attempts: [] });
      expect(await claim(there, webhookId)).toMatchObject([{ id, attemptNumber: 1, roundAttemptCount: 0 }]);
    });

    test("by one whose lease is another's by now, or ended, changes nothing", async () => {
      const { lab, here, there, claim, settle, takenOver } = actsOf();
      const { webhookId, id, late, successor } = await takenOver();
      await here.release([late], lab.now());
      expect(await claim(here, webhookId)).toEqual([]);
      expect(await settle(there, successor, "succeeded")).toEqual(new Set([id]));
      await there.release([successor], lab.now());
      expect(await claim(here, webhookId)).toEqual([]);
      expect(await lab.readLog(id)).toMatchObject({
        state: "delivered",
        attempts: ["1 lost", "2 succeeded"],
      });
    });
  });

  describe("expire", () => {
    test("ends claimed deliveries without an attempt, once, and only those that are still held", async () => {
      const { lab, here, there, claim, oneClaimed, takenOver, passAll } = actsOf();
      const { webhookId, id, claimed } = await oneClaimed();
      expect(await here.expire([claimed], [], lab.now())).toBe(1);
      expect(await lab.readLog(id)).toEqual({ state: "failed", reason: "expired", attempts: [] });
      expect(await there.expire([claimed], [], lab.now())).toBe(0);
      await passAll();
      expect(await claim(there, webhookId)).toEqual([]);

      const { id: other, late } = await takenOver();
      expect(await here.expire([late], [], lab.now())).toBe(0);
      expect(await lab.readLog(other)).toMatchObject({ state: "delivering" });
    });
  });
}
