import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { settleLost } from "../../server/domain/delivery.ts";
import { listLeases, loseAttempts } from "../../server/store/delivery-leases.ts";
import { waitFor } from "../helpers/wait.ts";
import { openDelivery } from "./open-delivery.ts";

let delivery: Awaited<ReturnType<typeof openDelivery>>;
beforeEach(async () => {
  delivery = await openDelivery();
});
afterEach(() => delivery.close());

const started = (count: number) =>
  waitFor(
    `${count} jobs`,
    () => delivery.jobs.length,
    (seen) => seen === count,
    3_000,
  );
const stateOf = async (id: string) => (await delivery.store.readDelivery(id)).state;

/** What another process's rescuer does when it finds this one's lease at its end. */
async function loseElsewhere(job: {
  deliveryId: string;
  webhookId: number;
  attemptNumber: number;
}): Promise<void> {
  const leases = await listLeases(delivery.store.pool, [{ ...job, id: job.deliveryId }]);
  const now = new Date();
  await loseAttempts(
    delivery.store.pool,
    leases.map((lease) => ({
      lease,
      settlement: settleLost(false, lease.lostInARow + 1, now),
      startedAt: now,
    })),
    now,
  );
}

describe("an attempt that another process took for lost, and that this process makes again", () => {
  test.for(["old first", "new first"])("loses neither report nor place, %s", async (order) => {
    const webhookId = await delivery.addWebhook(2);
    const id = await delivery.store.addDelivery({ webhookId, madeAt: new Date(), body: "made" });
    await started(1);
    const first = delivery.jobs[0]!;
    await loseElsewhere(first);
    await started(2);
    const second = delivery.jobs[1]!;
    expect([first.attemptNumber, second.attemptNumber]).toEqual([1, 2]);
    expect(delivery.dispatcher.isHolding({ id, webhookId, attemptNumber: 2 })).toBe(true);
    const reports = [first, second].map(delivery.succeed);
    for (const report of order === "old first" ? reports : reports.reverse()) {
      delivery.dispatcher.onReports([report]);
      await waitFor(
        "record",
        () => delivery.recorder.backlogCount(),
        (count) => count === 0,
      );
    }
    await waitFor(
      "delivered",
      () => stateOf(id),
      (state) => state === "delivered",
    );
    expect((await delivery.store.readAttempts(id)).map(({ outcome }) => outcome)).toEqual([
      "lost",
      "succeeded",
    ]);

    // Both places are free again: two more start at once, and no third.
    for (let count = 0; count < 3; count++) {
      await delivery.store.addDelivery({ webhookId, madeAt: new Date(), body: "made" });
    }
    await started(4);
    delivery.dispatcher.onReports([delivery.succeed(delivery.jobs[2]!)]);
    await started(5);
  });

  test("is not let go of when only the former one's thread dies", async () => {
    const webhookId = await delivery.addWebhook();
    const id = await delivery.store.addDelivery({ webhookId, madeAt: new Date(), body: "made" });
    await started(1);
    await loseElsewhere(delivery.jobs[0]!);
    await started(2);
    expect(delivery.dispatcher.onLost([{ deliveryId: id, attemptNumber: 1 }])).toMatchObject([
      { attemptNumber: 1 },
    ]);
    expect(delivery.dispatcher.isHolding({ id, webhookId, attemptNumber: 2 })).toBe(true);
    delivery.dispatcher.onReports([delivery.succeed(delivery.jobs[1]!)]);
    await waitFor(
      "delivered",
      () => stateOf(id),
      (state) => state === "delivered",
    );
  });
});

describe("the places in flight", () => {
  test("of a webhook are never more than its max_in_flight, and each that gets free is used", async () => {
    const webhookId = await delivery.addWebhook(3);
    for (let count = 0; count < 10; count++) {
      await delivery.store.addDelivery({ webhookId, madeAt: new Date(), body: "made" });
    }
    await started(3);
    for (let done = 0; done < 7; done++) {
      delivery.dispatcher.onReports([delivery.succeed(delivery.jobs[done]!)]);
      await started(4 + done);
    }
    expect(new Set(delivery.jobs.map(({ deliveryId }) => deliveryId)).size).toBe(10);
  });

  test("of all webhooks have room for one more, however many hang", async () => {
    const hanging = await Promise.all(Array.from({ length: 4 }, () => delivery.addWebhook(256)));
    for (const webhookId of hanging) {
      for (let count = 0; count < 60; count++) {
        await delivery.store.addDelivery({ webhookId, madeAt: new Date(), body: "made" });
      }
    }
    await waitFor(
      "a gateway that is full",
      () => delivery.jobs.length,
      (count) => count >= 95,
    );
    // Every other wake-up gives hanging webhooks a chance to take what is left.
    for (let round = 0; round < 20; round++) {
      delivery.dispatcher.onReports([]);
      await new Promise((resolve) => setImmediate(resolve));
    }
    const healthy = await delivery.addWebhook(8);
    const id = await delivery.store.addDelivery({ webhookId: healthy, madeAt: new Date(), body: "made" });
    const job = await waitFor(
      "the healthy one's job",
      () => delivery.jobs.find(({ deliveryId }) => deliveryId === id),
      (found) => found !== undefined,
      2_000,
    );
    delivery.dispatcher.onReports([delivery.succeed(job!)]);
    await waitFor(
      "delivered",
      () => stateOf(id),
      (state) => state === "delivered",
    );
  });
});

test("close gives back what has not started and waits for what has", async () => {
  const webhookId = await delivery.addWebhook(2);
  const ids: string[] = [];
  for (let count = 0; count < 6; count++) {
    ids.push(await delivery.store.addDelivery({ webhookId, madeAt: new Date(), body: "made" }));
  }
  await started(2);
  const closing = delivery.dispatcher.close(5_000);
  let isClosed = false;
  closing.then(() => {
    isClosed = true;
  });
  const states = async () => (await Promise.all(ids.map(stateOf))).toSorted();
  await waitFor(
    "return of what waited",
    states,
    (seen) => seen.filter((state) => state === "pending").length === 4,
  );
  expect(isClosed).toBe(false);
  delivery.dispatcher.onReports(delivery.jobs.map(delivery.succeed));
  await closing;
  expect(await states()).toEqual([...Array(2).fill("delivered"), ...Array(4).fill("pending")]);
  expect(delivery.jobs).toHaveLength(2);
});
