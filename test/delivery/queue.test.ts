import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openDatabase } from "../../server/store/orm.ts";
import { createPostgresQueue } from "../../server/store/postgres-queue.ts";
import { openStore } from "../store/open-store.ts";
import { aSettledAttempt } from "../store/reports.ts";
import { testDeliveryQueue } from "./queue-contract.ts";
import { claim, enqueue, labNow, type QueueLab } from "./queue-lab.ts";

/** Two processes' connections to one database. */
async function openPostgresLab() {
  const store = await openStore();
  const other = await openDatabase(store.url, { onConnectionError: () => undefined });
  const lab: QueueLab<Parameters<ReturnType<typeof createPostgresQueue>["enqueue"]>[0]> = {
    queues: [createPostgresQueue(store.pool), createPostgresQueue(other.pool)],
    async inChange(change) {
      const client = await store.pool.connect();
      try {
        await client.query("BEGIN");
        await change(client);
        await client.query("COMMIT");
      } catch (error) {
        await client.query("ROLLBACK");
        throw error;
      } finally {
        client.release();
      }
    },
    addWebhook: () => store.addWebhook(),
    setWebhook: (id, settings) => store.setWebhook(id, settings),
    newId: () => store.newId(),
    async readLog(id) {
      const row = await store.readDelivery(id);
      if (!row) return null;
      const attempts = await store.readAttempts(id);
      return {
        state: row.state,
        reason: row.reason,
        attempts: attempts.map(({ number, outcome }) => `${number} ${outcome}`),
      };
    },
    async clear() {
      await store.pool.query("TRUNCATE delivery, attempt");
    },
    async close() {
      await other.close();
      await store.close();
    },
  };
  return { lab, store };
}

describe("a queue in PostgreSQL", () => {
  testDeliveryQueue(async () => (await openPostgresLab()).lab);
});

describe("what is PostgreSQL's", () => {
  let opened: Awaited<ReturnType<typeof openPostgresLab>>;
  beforeAll(async () => {
    opened = await openPostgresLab();
  });
  afterAll(() => opened.lab.close());

  test("a batch with an attempt that the database refuses as data is refused whole, and known by its fault", async () => {
    const { lab } = opened;
    const [queue] = lab.queues;
    const webhookId = await lab.addWebhook();
    await enqueue(lab, webhookId, { count: 2 });
    const [good, bad] = (await claim(queue, webhookId)).map((one) => aSettledAttempt(one, "failed"));
    Object.assign(bad!.report, { errorMessage: "a character that no text holds: \u0000" });
    const fault = await queue.settle([good!, bad!], labNow).then(
      () => null,
      (error: unknown) => error,
    );
    expect(queue.isDataFault(fault)).toBe(true);
    expect(await lab.readLog(good!.report.deliveryId)).toMatchObject({ state: "delivering", attempts: [] });
    expect(await queue.settle([good!], labNow)).toEqual(new Set([good!.report.deliveryId]));
    expect(queue.isDataFault(new Error("Connection terminated"))).toBe(false);
  });
});
