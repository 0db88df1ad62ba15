/** What every engine's queue keeps to (`server/domain/delivery-queue.ts`), told in acts of two processes. */

import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { ClaimedDelivery } from "../../server/domain/delivery-claim.ts";
import type { DeliveryQueue } from "../../server/domain/delivery-queue.ts";
import { aSettledAttempt, madePayload, type Outcome } from "../store/reports.ts";
import { testHistories } from "./queue-histories.ts";
import {
  aNewDelivery,
  claim,
  enqueue,
  idsOf,
  labNow,
  labTime,
  leaseMs,
  lostOf,
  type QueueLab,
} from "./queue-lab.ts";

/** @param open  a new, empty queue; called once */
export function testDeliveryQueue<Change>(open: () => Promise<QueueLab<Change>>): void {
  let lab: QueueLab<Change>;
  let here: DeliveryQueue<Change>;
  let there: DeliveryQueue<Change>;
  beforeAll(async () => {
    lab = await open();
    [here, there] = lab.queues;
  });
  afterAll(() => lab?.close());
  afterEach(() => lab.clear());

  const settle = (queue: DeliveryQueue, claimed: ClaimedDelivery, outcome: Outcome) =>
    queue.settle([aSettledAttempt(claimed, outcome)], labNow);
  const afterLease = labTime(leaseMs + 1);

  /** A delivery of a new webhook, claimed here. */
  async function oneClaimed() {
    const webhookId = await lab.addWebhook();
    const [id] = await enqueue(lab, webhookId);
    const [claimed] = await claim(here, webhookId);
    return { webhookId, id: id!, claimed: claimed! };
  }

  /** Once the lease of `oneClaimed` has run out: lost and claimed again there. */
  async function takenOver() {
    const { webhookId, id, claimed } = await oneClaimed();
    expect(await there.lose(lostOf(await there.listBroken(afterLease, 10), afterLease), [], afterLease)).toBe(
      1,
    );
    const [successor] = await claim(there, webhookId, { now: afterLease });
    return { webhookId, id, late: claimed, successor: successor! };
  }

  describe("enqueue", () => {
    test("adds nothing if its change fails, and shows nothing before it is committed", async () => {
      const webhookId = await lab.addWebhook();
      const dropped = aNewDelivery(lab, webhookId);
      const failing = lab.inChange(async (change) => {
        await here.enqueue(change, [dropped], labNow);
        throw new Error("the change fails");
      });
      await expect(failing).rejects.toThrow("the change fails");
      expect(await claim(here, webhookId)).toEqual([]);
      expect(await lab.readLog(dropped.id)).toBeNull();

      const kept = aNewDelivery(lab, webhookId);
      await lab.inChange(async (change) => {
        await here.enqueue(change, [kept], labNow);
        expect(await claim(there, webhookId)).toEqual([]);
      });
      expect(idsOf(await claim(there, webhookId))).toEqual([kept.id]);
    });

    test("has sent what it has to send when it returns: the change may end at once, either way", async () => {
      const webhookId = await lab.addWebhook();
      const [kept, dropped] = [aNewDelivery(lab, webhookId), aNewDelivery(lab, webhookId)];
      const enqueued: Promise<unknown>[] = [];
      await lab.inChange(async (change) => {
        enqueued.push(here.enqueue(change, [kept], labNow));
      });
      const failing = lab.inChange(async (change) => {
        enqueued.push(here.enqueue(change, [dropped], labNow));
        throw new Error("the change fails");
      });
      await expect(failing).rejects.toThrow("the change fails");
      await Promise.all(enqueued);
      expect(await lab.readLog(kept.id)).toEqual({ state: "pending", reason: null, attempts: [] });
      expect(await lab.readLog(dropped.id)).toBeNull();
    });

    test("under a lease gives the delivery to nobody else, and its first attempt counts", async () => {
      const webhookId = await lab.addWebhook();
      const added = aNewDelivery(lab, webhookId, labTime(leaseMs));
      await lab.inChange((change) => here.enqueue(change, [added], labNow));
      expect(await claim(there, webhookId)).toEqual([]);
      const started: ClaimedDelivery = {
        ...added,
        attemptNumber: 1,
        roundAttemptCount: 0,
        isResend: false,
        payload: null,
      };
      expect(await settle(here, started, "succeeded")).toEqual(new Set([added.id]));
      expect(await lab.readLog(added.id)).toMatchObject({ state: "delivered", attempts: ["1 succeeded"] });
    });
  });

  describe("listDue", () => {
    test("names every webhook with deliveries that wait, once, at a time that is not too late", async () => {
      const [due, later, leased, idle] = await Promise.all([1, 2, 3, 4].map(() => lab.addWebhook()));
      await enqueue(lab, due!, { dueAt: labTime(-5), count: 3 });
      await enqueue(lab, later!, { dueAt: labTime(60_000) });
      await enqueue(lab, leased!, { leasedUntil: labTime(leaseMs) });
      const listed = await there.listDue();
      const own = listed.filter(({ webhookId }) => [due, later, leased, idle].includes(webhookId));
      expect(own.map(({ webhookId }) => webhookId).toSorted((a, b) => a - b)).toEqual([due, later]);
      const timeOf = (id?: number) => own.find(({ webhookId }) => webhookId === id)!.dueAt.getTime();
      expect(timeOf(due)).toBeLessThanOrEqual(labTime(-5).getTime());
      expect(timeOf(later)).toBeLessThanOrEqual(labTime(60_000).getTime());
    });
  });

  describe("claim", () => {
    test("takes of each webhook its oldest due deliveries, as many as there is room for", async () => {
      const [first, second] = [await lab.addWebhook(), await lab.addWebhook()];
      const [young] = await enqueue(lab, first, { dueAt: labTime(-1_000) });
      const [oldest] = await enqueue(lab, first, { dueAt: labTime(-3_000) });
      const [old] = await enqueue(lab, first, { dueAt: labTime(-2_000) });
      const others = await enqueue(lab, second, { count: 2 });
      const asked = [
        { webhookId: first, room: 2 },
        { webhookId: second, room: 5 },
      ];
      const { deliveries } = await here.claim(asked, labNow, labTime(leaseMs));
      expect(new Set(idsOf(deliveries))).toEqual(new Set([oldest, old, ...others]));
      expect(idsOf(await claim(here, first))).toEqual([young]);
    });

    test("takes nothing before it is due", async () => {
      const webhookId = await lab.addWebhook();
      const [id] = await enqueue(lab, webhookId, { dueAt: labTime(1) });
      expect(await claim(here, webhookId)).toEqual([]);
      expect(idsOf(await claim(here, webhookId, { now: labTime(1) }))).toEqual([id]);
    });

    test("by two processes at once gives each delivery to one of them", async () => {
      const webhookId = await lab.addWebhook();
      const ids = await enqueue(lab, webhookId, { count: 60 });
      const queues = [here, there, here, there, here, there];
      const given = (await Promise.all(queues.map((queue) => claim(queue, webhookId, { room: 15 })))).flat();
      given.push(...(await claim(here, webhookId)));
      expect(idsOf(given).toSorted()).toEqual(ids.toSorted());
    });

    test.for([{ isEnabled: false }, { isPaused: true }])(
      "takes nothing of a webhook that is %o",
      async (settings) => {
        const webhookId = await lab.addWebhook();
        await enqueue(lab, webhookId);
        await lab.setWebhook(webhookId, settings);
        expect(await claim(there, webhookId)).toEqual([]);
      },
    );

    test("tells what the attempt is to know: whose, of what, its number, and that no payload is made yet", async () => {
      const webhookId = await lab.addWebhook();
      const added = aNewDelivery(lab, webhookId);
      await lab.inChange((change) => here.enqueue(change, [added], labNow));
      const { id, tenantId, eventId } = added;
      expect(await claim(there, webhookId)).toEqual([
        {
          id,
          webhookId,
          tenantId,
          eventId,
          attemptNumber: 1,
          roundAttemptCount: 0,
          isResend: false,
          payload: null,
        },
      ]);
    });
  });

  describe("settle", () => {
    test("counts an attempt once, whichever process says it first", async () => {
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
        const { webhookId, id, claimed } = await oneClaimed();
        expect(await settle(here, claimed, outcome)).toEqual(new Set([id]));
        expect(await lab.readLog(id)).toEqual({ state, reason, attempts });
        expect(await claim(there, webhookId, { now: labTime(3_600_000) })).toEqual([]);
        expect((await there.listDue()).map((due) => due.webhookId)).not.toContain(webhookId);
        expect(await there.listBroken(labTime(3_600_000), 10)).toEqual([]);
      },
    );

    test("makes a failed attempt's delivery due again at its time and not before, with the payload as it was made", async () => {
      const { webhookId, id, claimed } = await oneClaimed();
      const attempt = aSettledAttempt(claimed, "failed");
      if (attempt.settlement.state !== "pending") throw new Error("an attempt is left");
      const { dueAt } = attempt.settlement;
      await here.settle([attempt], labNow);
      expect(await claim(there, webhookId, { now: new Date(dueAt.getTime() - 1) })).toEqual([]);
      const [second] = await claim(there, webhookId, { now: dueAt });
      expect(second).toMatchObject({ id, attemptNumber: 2, roundAttemptCount: 1 });
      const { body, contentType, headers } = madePayload;
      expect(second!.payload).toMatchObject({ contentType, headers });
      expect(Buffer.from(second!.payload!.body)).toEqual(Buffer.from(body));
    });

    test("of a mixture of endings and retries settles each by itself", async () => {
      const webhookId = await lab.addWebhook();
      await enqueue(lab, webhookId, { count: 3 });
      const claimed = await claim(here, webhookId);
      const outcomes: Outcome[] = ["succeeded", "failed", "skipped"];
      const batch = claimed.map((one, index) => aSettledAttempt(one, outcomes[index]!));
      expect(await here.settle(batch, labNow)).toEqual(new Set(idsOf(claimed)));
      const states = await Promise.all(claimed.map(async ({ id }) => (await lab.readLog(id))!.state));
      expect(states).toEqual(["delivered", "pending", "skipped"]);
    });

    test("of an attempt that was taken over leaves no trace, before its successor ends and after", async () => {
      const { webhookId, id, late, successor } = await takenOver();
      expect(successor.attemptNumber).toBe(2);
      expect(await settle(here, late, "succeeded")).toEqual(new Set());
      expect(await lab.readLog(id)).toMatchObject({ state: "delivering", attempts: ["1 lost"] });
      await there.release([successor], afterLease);
      const again = await claim(there, webhookId, { now: afterLease });
      expect(again).toMatchObject([{ id, attemptNumber: 2, roundAttemptCount: 0, payload: null }]);
      expect(await settle(there, again[0]!, "failed")).toEqual(new Set([id]));
      expect(await settle(here, late, "succeeded")).toEqual(new Set());
      expect(await lab.readLog(id)).toMatchObject({ state: "pending", attempts: ["1 lost", "2 failed"] });
    });

    test("of both in one batch counts the successor alone", async () => {
      const { id, late, successor } = await takenOver();
      const both = [aSettledAttempt(late, "succeeded"), aSettledAttempt(successor, "failed")];
      expect(await here.settle(both, afterLease)).toEqual(new Set([id]));
      expect(await lab.readLog(id)).toMatchObject({ state: "pending", attempts: ["1 lost", "2 failed"] });
    });
  });

  describe("extend", () => {
    test("keeps a lease for as long as it says", async () => {
      const { id, claimed } = await oneClaimed();
      await here.extend([claimed], labTime(3 * leaseMs));
      expect(await there.listBroken(labTime(2 * leaseMs), 10)).toEqual([]);
      expect(idsOf(await there.listBroken(labTime(3 * leaseMs + 1), 10))).toEqual([id]);
    });

    test("does nothing for an attempt that ended or was taken over", async () => {
      const { id, late, successor } = await takenOver();
      await here.extend([late], labTime(900_000));
      const broken = await here.listBroken(labTime(2 * leaseMs + 2), 10);
      expect(broken).toMatchObject([{ id, attemptNumber: 2 }]);
      await settle(there, successor, "succeeded");
      await there.extend([successor], labTime(900_000));
      expect(await here.listHeld([late, successor])).toEqual([]);
      expect(await lab.readLog(id)).toMatchObject({ state: "delivered" });
    });
  });

  describe("release", () => {
    test("makes deliveries due at once for anybody, under the same number and without an entry in the log", async () => {
      const { webhookId, id, claimed } = await oneClaimed();
      await here.release([claimed], labNow);
      expect(await lab.readLog(id)).toEqual({ state: "pending", reason: null, attempts: [] });
      expect(await claim(there, webhookId)).toMatchObject([{ id, attemptNumber: 1, roundAttemptCount: 0 }]);
    });

    test("by one whose lease is another's by now changes nothing", async () => {
      const { webhookId, id, late, successor } = await takenOver();
      await here.release([late], afterLease);
      expect(await claim(here, webhookId, { now: afterLease })).toEqual([]);
      expect(await settle(there, successor, "succeeded")).toEqual(new Set([id]));
      await there.release([successor], afterLease);
      expect(await lab.readLog(id)).toMatchObject({
        state: "delivered",
        attempts: ["1 lost", "2 succeeded"],
      });
    });
  });

  describe("expire", () => {
    test("ends claimed deliveries without an attempt, once, and only those that are still held", async () => {
      const { webhookId, id, claimed } = await oneClaimed();
      expect(await here.expire([claimed], [], labNow)).toBe(1);
      expect(await lab.readLog(id)).toEqual({ state: "failed", reason: "expired", attempts: [] });
      expect(await there.expire([claimed], [], labNow)).toBe(0);
      expect(await claim(there, webhookId, { now: labTime(3_600_000) })).toEqual([]);

      const { id: other, late } = await takenOver();
      expect(await here.expire([late], [], afterLease)).toBe(0);
      expect(await lab.readLog(other)).toMatchObject({ state: "delivering" });
    });
  });

  describe("a lease that ran out", () => {
    test("is listed, the oldest first and no more than asked for; one that holds is not", async () => {
      const webhookId = await lab.addWebhook();
      const [second] = await enqueue(lab, webhookId, { leasedUntil: labTime(-1) });
      const [first] = await enqueue(lab, webhookId, { leasedUntil: labTime(-2) });
      await enqueue(lab, webhookId, { leasedUntil: labTime(0) });
      expect(await there.listBroken(labNow, 10)).toMatchObject([
        {
          id: first,
          webhookId,
          attemptNumber: 1,
          isResend: false,
          lostInARow: 0,
          leasedUntil: labTime(-2),
        },
        { id: second },
      ]);
      expect(idsOf(await here.listBroken(labNow, 1))).toEqual([first]);
    });

    test("keeps its delivery from being claimed until it is lost", async () => {
      const { webhookId } = await oneClaimed();
      expect(await claim(there, webhookId, { now: afterLease })).toEqual([]);
    });

    test("is lost once, whichever of two processes does it", async () => {
      const webhookId = await lab.addWebhook();
      const [id] = await enqueue(lab, webhookId, { leasedUntil: labTime(-1) });
      const both = await Promise.all([here, there].map((queue) => queue.listBroken(labNow, 10)));
      const lost = await Promise.all(
        [here, there].map((queue, index) => queue.lose(lostOf(both[index]!, labNow), [], labNow)),
      );
      expect(lost.toSorted()).toEqual([0, 1]);
      expect(await lab.readLog(id!)).toMatchObject({ state: "pending", attempts: ["1 lost"] });
    });

    test("is not lost if it was extended or ended since it was listed", async () => {
      const { id, claimed } = await oneClaimed();
      const lost = lostOf(await there.listBroken(afterLease, 10), afterLease);
      expect(lost).toHaveLength(1);
      await here.extend([claimed], labTime(3 * leaseMs));
      expect(await there.lose(lost, [], afterLease)).toBe(0);
      await settle(here, claimed, "succeeded");
      expect(await there.lose(lost, [], afterLease)).toBe(0);
      expect(await lab.readLog(id)).toMatchObject({ state: "delivered", attempts: ["1 succeeded"] });
    });

    test("costs none of the round's attempts, and after five in a row the delivery is given up", async () => {
      const webhookId = await lab.addWebhook();
      const [id] = await enqueue(lab, webhookId);
      for (let count = 1; count <= 5; count++) {
        const now = labTime(count * 2 * leaseMs);
        const [claimed] = await claim(here, webhookId, { now });
        expect(claimed).toMatchObject({ attemptNumber: count, roundAttemptCount: 0 });
        const later = new Date(now.getTime() + leaseMs + 1);
        const broken = await there.listBroken(later, 10);
        expect(broken).toMatchObject([{ lostInARow: count - 1 }]);
        expect(await there.lose(lostOf(broken, later), [], later)).toBe(1);
      }
      expect(await lab.readLog(id!)).toEqual({
        state: "failed",
        reason: "lost_repeatedly",
        attempts: [1, 2, 3, 4, 5].map((number) => `${number} lost`),
      });
      expect(await claim(here, webhookId, { now: labTime(3_600_000) })).toEqual([]);
    });
  });

  describe("listHeld", () => {
    test("gives the leases that are still held, before their time, so that their holder may lose them", async () => {
      const { webhookId, id, claimed } = await oneClaimed();
      const held = await here.listHeld([claimed]);
      expect(held).toMatchObject([{ id, attemptNumber: 1, leasedUntil: labTime(leaseMs) }]);
      expect(await here.lose(lostOf(held, labNow), [], labNow)).toBe(1);
      expect(await here.listHeld([claimed])).toEqual([]);
      const [second] = await claim(there, webhookId);
      expect(await here.listHeld([claimed, second!])).toMatchObject([{ id, attemptNumber: 2 }]);
    });
  });

  testHistories(() => lab);
}
