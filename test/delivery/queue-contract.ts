/** What every engine's queue keeps to (`server/domain/delivery-queue.ts`), told in acts of two processes. */

import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { ClaimedDelivery } from "../../server/domain/delivery-claim.ts";
import { testEndings } from "./queue-endings.ts";
import { type Acts, createActs, idsOf, type QueueLab } from "./queue-lab.ts";
import { testLeases } from "./queue-leases.ts";

/** @param open  a new, empty queue; called once */
export function testDeliveryQueue(open: () => Promise<QueueLab>): void {
  let acts: Acts;
  beforeAll(async () => {
    acts = createActs(await open());
  });
  afterAll(() => acts?.lab.close());
  afterEach(() => acts.lab.clear());

  describe("enqueue", () => {
    test("adds nothing if its change fails, and shows nothing before it is committed", async () => {
      const { lab, here, there, claim } = acts;
      const webhookId = await lab.addWebhook();
      const [dropped, kept] = [acts.aNewDelivery(webhookId), acts.aNewDelivery(webhookId)];
      const failing = lab.inChange(async (change) => {
        await here.enqueue(change, [dropped], lab.now());
        throw new Error("the change fails");
      });
      await expect(failing).rejects.toThrow("the change fails");
      expect(await claim(here, webhookId)).toEqual([]);
      expect(await lab.readLog(dropped.id)).toBeNull();

      await lab.inChange(async (change) => {
        await here.enqueue(change, [kept], lab.now());
        expect(await claim(there, webhookId)).toEqual([]);
      });
      expect(idsOf(await claim(there, webhookId))).toEqual([kept.id]);
    });

    test("has sent what it has to send when it returns: the change may end at once, either way", async () => {
      const { lab, here } = acts;
      const webhookId = await lab.addWebhook();
      const [kept, dropped] = [acts.aNewDelivery(webhookId), acts.aNewDelivery(webhookId)];
      const enqueued: Promise<unknown>[] = [];
      await lab.inChange(async (change) => {
        enqueued.push(here.enqueue(change, [kept], lab.now()));
      });
      const failing = lab.inChange(async (change) => {
        enqueued.push(here.enqueue(change, [dropped], lab.now()));
        throw new Error("the change fails");
      });
      await expect(failing).rejects.toThrow("the change fails");
      await Promise.all(enqueued);
      expect(await lab.readLog(kept.id)).toEqual({ state: "pending", reason: null, attempts: [] });
      expect(await lab.readLog(dropped.id)).toBeNull();
    });

    test("under a lease gives the delivery to nobody else, and its first attempt counts", async () => {
      const { lab, here, there } = acts;
      const webhookId = await lab.addWebhook();
      const { leasedUntil, eventType, ...added } = acts.aNewDelivery(webhookId, acts.at(lab.leaseMs));
      await lab.inChange((change) => here.enqueue(change, [{ ...added, eventType, leasedUntil }], lab.now()));
      expect(await acts.claim(there, webhookId)).toEqual([]);
      const started: ClaimedDelivery = {
        ...added,
        attemptNumber: 1,
        roundAttemptCount: 0,
        isResend: false,
        payload: null,
      };
      expect(await acts.settle(here, started, "succeeded")).toEqual(new Set([added.id]));
      expect(await lab.readLog(added.id)).toMatchObject({ state: "delivered", attempts: ["1 succeeded"] });
    });
  });

  describe("listDue", () => {
    test("names every webhook with deliveries that wait, once, at a time that is not too late", async () => {
      const { lab, here, there } = acts;
      const [due, leased] = [await lab.addWebhook(), await lab.addWebhook()];
      await lab.addWebhook();
      const retry = await acts.oneClaimed();
      await acts.settle(here, retry.claimed, "failed");
      const dueAt = lab.now();
      await acts.enqueue(due, 3);
      await acts.enqueue(leased, 1, acts.at(lab.leaseMs));
      const listed = (await there.listDue()).toSorted((a, b) => a.webhookId - b.webhookId);
      expect(listed.map(({ webhookId }) => webhookId)).toEqual([due, retry.webhookId]);
      expect(listed[0]!.dueAt.getTime()).toBeLessThanOrEqual(dueAt.getTime());
    });
  });

  describe("claim", () => {
    test("takes of each webhook its oldest due deliveries, as many as there is room for", async () => {
      const { lab, here } = acts;
      const [first, second] = [await lab.addWebhook(), await lab.addWebhook()];
      const ids: string[] = [];
      for (let count = 0; count < 3; count++) {
        ids.push(...(await acts.enqueue(first)));
        await lab.pass(10);
      }
      const others = await acts.enqueue(second, 2);
      const asked = [
        { webhookId: first, room: 2 },
        { webhookId: second, room: 5 },
      ];
      const { deliveries } = await here.claim(asked, lab.now(), acts.at(lab.leaseMs));
      expect(idsOf(deliveries).toSorted()).toEqual([...ids.slice(0, 2), ...others].toSorted());
      expect(idsOf(await acts.claim(here, first))).toEqual(ids.slice(2));
    });

    test("by two processes at once gives each delivery to one of them", async () => {
      const { lab, here, there } = acts;
      const webhookId = await lab.addWebhook();
      const ids = await acts.enqueue(webhookId, 60);
      const queues = [here, there, here, there, here, there];
      const given = await Promise.all(queues.map((queue) => acts.claim(queue, webhookId, 15)));
      const rest = await acts.claim(here, webhookId);
      expect(idsOf([...given.flat(), ...rest]).toSorted()).toEqual(ids.toSorted());
    });

    test.for([{ isEnabled: false }, { isPaused: true }])(
      "takes nothing of a webhook that is %o",
      async (settings) => {
        const { lab, there } = acts;
        const webhookId = await lab.addWebhook();
        await acts.enqueue(webhookId);
        await lab.setWebhook(webhookId, settings);
        expect(await acts.claim(there, webhookId)).toEqual([]);
      },
    );

    test("tells what the attempt is to know: whose, of what, its number, and that no payload is made yet", async () => {
      const { lab, here, there } = acts;
      const webhookId = await lab.addWebhook();
      const added = acts.aNewDelivery(webhookId);
      await lab.inChange((change) => here.enqueue(change, [added], lab.now()));
      const { id, tenantId, eventId } = added;
      const known = { id, webhookId, tenantId, eventId, isResend: false, payload: null };
      expect(await acts.claim(there, webhookId)).toEqual([
        { ...known, attemptNumber: 1, roundAttemptCount: 0 },
      ]);
    });
  });

  testEndings(() => acts);
  testLeases(() => acts);
}
