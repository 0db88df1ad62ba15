import { afterAll, beforeAll, expect, test } from "vitest";
import { openTestDatabase, type TestDatabase } from "../helpers/database.ts";
import { type DatabaseProxy, startDatabaseProxy } from "../helpers/database-proxy.ts";
import { startTestGateway, type TestGateway } from "../helpers/gateway.ts";
import { queryRows } from "../helpers/query-rows.ts";
import { startReceiver } from "../helpers/receiver.ts";
import { waitFor } from "../helpers/wait.ts";
import { anInboundBody, aTextMessage } from "../helpers/whatsapp-bodies.ts";

let testDatabase: TestDatabase;
let proxy: DatabaseProxy;
let gateway: TestGateway;
beforeAll(async () => {
  testDatabase = await openTestDatabase();
  proxy = await startDatabaseProxy(testDatabase.url);
  gateway = await startTestGateway({
    databaseUrl: proxy.url,
    // As short as the rules allow: what was sent while the database was away waits for its lease to end.
    overrides: { delivery: { requestTimeoutMs: 1_000, holdMs: 500, leaseMs: 3_000, rescueIntervalMs: 200 } },
  });
});
afterAll(async () => {
  await gateway.close();
  await proxy.close();
  await testDatabase.close();
});

let messageCount = 0;
const aBody = () => {
  const id = `wamid.away-${++messageCount}`;
  return { id, body: anInboundBody(aTextMessage({ id })) };
};

/** Posts from several connections until told to stop; keeps what was acknowledged, and every other status. */
function startPosting() {
  const acknowledged: string[] = [];
  const refusals: number[] = [];
  let isStopped = false;
  async function post(): Promise<void> {
    while (!isStopped) {
      const { id, body } = aBody();
      const status = await gateway.postBody(body);
      if (status === 200) acknowledged.push(id);
      else refusals.push(status);
      if (status !== 200) await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
  const posting = Promise.all([1, 2, 3, 4].map(post));
  return {
    acknowledged,
    refusals,
    async stop() {
      isStopped = true;
      await posting;
    },
  };
}

test("while the database is away events are refused with 503; afterwards all works and nothing acknowledged is lost", async () => {
  const receiver = await startReceiver({ answer: { delayMs: 20 } });
  const { id: webhookId } = await gateway.createWebhook({ webhooks: receiver.url });
  const posting = startPosting();
  for (let round = 1; round <= 3; round++) {
    const countBefore = posting.acknowledged.length;
    await waitFor(
      "events that are taken",
      () => posting.acknowledged.length,
      (count) => count > countBefore + 50,
    );
    const refusedBefore = posting.refusals.length;
    proxy.cut();
    await waitFor(
      "refusals",
      () => posting.refusals.length,
      (count) => count > refusedBefore + 10,
    );
    expect((await fetch(`${gateway.url()}/healthz`)).status).toBe(200);
    expect((await fetch(`${gateway.url()}/readyz`)).status).toBe(503);
    proxy.mend();
  }
  const countBefore = posting.acknowledged.length;
  await waitFor(
    "events that are taken again",
    () => posting.acknowledged.length,
    (count) => count > countBefore + 50,
  );
  await posting.stop();
  expect(new Set(posting.refusals)).toEqual(new Set([503]));

  const missing = () => {
    const arrived = new Set(receiver.requests.map((request) => JSON.parse(request.body.toString()).id));
    return posting.acknowledged.filter((id) => !arrived.has(id));
  };
  await waitFor("arrival of all that was acknowledged", missing, (ids) => ids.length === 0, 15_000);
  await waitFor(
    "end of every delivery",
    () => gateway.deliveries({ webhook_id: webhookId }),
    (found) => found.every(({ state }) => state === "delivered"),
    15_000,
  );
  await gateway.call("WebhookService/DeleteWebhook", { id: webhookId });
  await receiver.close();
}, 60_000);

test("a database that drops its connections and stays is no reason to lose or refuse for long", async () => {
  const receiver = await startReceiver();
  const { id: webhookId } = await gateway.createWebhook({ webhooks: receiver.url });
  const posting = startPosting();
  for (let round = 0; round < 5; round++) {
    const countBefore = posting.acknowledged.length;
    await queryRows(testDatabase.url)(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
       WHERE datname = current_database() AND pid <> pg_backend_pid()`,
    );
    await waitFor(
      "events that are taken",
      () => posting.acknowledged.length,
      (count) => count > countBefore + 30,
    );
  }
  await posting.stop();
  expect(posting.refusals.every((status) => status === 503)).toBe(true);
  const missing = () => {
    const arrived = new Set(receiver.requests.map((request) => JSON.parse(request.body.toString()).id));
    return posting.acknowledged.filter((id) => !arrived.has(id));
  };
  await waitFor("arrival of all that was acknowledged", missing, (ids) => ids.length === 0, 15_000);
  await gateway.call("WebhookService/DeleteWebhook", { id: webhookId });
  await receiver.close();
}, 60_000);

test("a change of configuration made after an outage reaches the process", async () => {
  const receiver = await startReceiver();
  proxy.cut();
  const refused = await gateway.call("WebhookService/ListWebhooks", {});
  expect([refused.status, refused.body.code]).toEqual([503, "unavailable"]);
  proxy.mend();
  const { id } = await waitFor(
    "webhook",
    () => gateway.createWebhook({ webhooks: receiver.url }).catch(() => null),
    (created) => created !== null,
  ).then((created) => created!);
  const { body } = aBody();
  await waitFor(
    "acknowledgement",
    () => gateway.postBody(body),
    (status) => status === 200,
  );
  await receiver.waitForRequests(1);
  expect(await gateway.deliveries({ webhook_id: id })).toHaveLength(1);
  await receiver.close();
}, 30_000);
