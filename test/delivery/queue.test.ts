import type pg from "pg";
import { describe, expect, test } from "vitest";
import { openDatabase } from "../../server/store/orm.ts";
import { createPostgresQueue } from "../../server/store/postgres-queue.ts";
import { openStore, storeNow } from "../store/open-store.ts";
import { aSettledAttempt } from "../store/reports.ts";
import { testDeliveryQueue } from "./queue-contract.ts";
import { testQueueHistories } from "./queue-histories.ts";
import { createActs, type QueueLab } from "./queue-lab.ts";

/** Two processes' connections to one database. */
async function openPostgresLab() {
  const store = await openStore();
  const other = await openDatabase(store.url, { onConnectionError: () => undefined });
  let now = storeNow;
  const lab: QueueLab<pg.ClientBase> = {
    queues: [createPostgresQueue(store.pool), createPostgresQueue(other.pool)],
    now: () => now,
    async pass(ms) {
      now = new Date(now.getTime() + ms);
    },
    leaseMs: 20_000,
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
  return lab;
}

describe("a queue in PostgreSQL", () => {
  testDeliveryQueue(openPostgresLab);
  testQueueHistories(openPostgresLab);

  test("refuses a batch whole in which an attempt is no data for the database, and knows that fault", async () => {
    const lab = await openPostgresLab();
    try {
      const { here: queue, enqueue, claim } = createActs(lab);
      const webhookId = await lab.addWebhook();
      await enqueue(webhookId, 2);
      const [good, bad] = (await claim(queue, webhookId)).map((one) => aSettledAttempt(one, "failed"));
      Object.assign(bad!.report, { errorMessage: "a character that no text holds: \u0000" });
      const fault = await queue.settle([good!, bad!], lab.now()).then(
        () => null,
        (error: unknown) => error,
      );
      expect(queue.isDataFault(fault)).toBe(true);
      const { deliveryId } = good!.report;
      expect(await lab.readLog(deliveryId)).toMatchObject({ state: "delivering", attempts: [] });
      expect(await queue.settle([good!], lab.now())).toEqual(new Set([deliveryId]));
      expect(queue.isDataFault(new Error("Connection terminated"))).toBe(false);
    } finally {
      await lab.close();
    }
  });
});
