import { expect, test } from "vitest";
import { openTestDatabase } from "../helpers/database.ts";
import { type SpawnedGateway, spawnGateway } from "../helpers/gateway.ts";
import { type Receiver, startReceiver } from "../helpers/receiver.ts";
import { aChange, anEnvelope, anInboundBody, aTextMessage } from "../helpers/whatsapp-bodies.ts";

/** Posts 40 messages, stops the gateway while ten attempts are under way, and starts it again. */
async function stopUnderWay(gateway: SpawnedGateway, receiver: Receiver): Promise<void> {
  const { id: webhookId } = await gateway.createWebhook({ webhooks: receiver.url, max_in_flight: 10 });
  const messages = Array.from({ length: 40 }, (_, index) => aTextMessage({ id: `wamid.stop-${index}` }));
  expect(await gateway.postBody(anEnvelope([aChange({ messages })]))).toBe(200);
  await receiver.waitForRequests(10);
  const startMs = Date.now();
  expect(await gateway.kill("SIGTERM")).toBe(0);
  expect(Date.now() - startMs).toBeLessThan(15_000);
  // None of those in flight was cut off, and none was started after.
  expect(receiver.requests.length).toBeGreaterThanOrEqual(10);
  const sentBefore = receiver.requests.length;

  await gateway.restart();
  const deliveries = await gateway.waitForStates(40, ["delivered"], { webhook_id: webhookId }, 15_000);
  // What was in flight is recorded by the process that sent it: nothing is lost, so nothing is repeated.
  expect(receiver.requests).toHaveLength(40);
  expect(sentBefore).toBeLessThan(40);
  for (const { id } of deliveries) {
    expect(await gateway.attempts(id)).toMatchObject([{ number: 1, outcome: "succeeded" }]);
  }
  await gateway.postBody(anInboundBody(aTextMessage({ id: "wamid.after" })));
  await receiver.waitForRequests(41);
}

test("SIGTERM lets attempts in flight end and records them; the next start goes on with what is pending", async () => {
  const testDatabase = await openTestDatabase();
  const gateway = await spawnGateway({ DATABASE_URL: testDatabase.url });
  const receiver = await startReceiver({ answer: { delayMs: 1_000 } });
  try {
    await stopUnderWay(gateway, receiver);
  } finally {
    await gateway.close();
    await receiver.close();
    await testDatabase.close();
  }
}, 60_000);

test("the same holds with the PostgreSQL that the gateway brings along", async () => {
  const gateway = await spawnGateway({});
  const receiver = await startReceiver({ answer: { delayMs: 1_000 } });
  try {
    await stopUnderWay(gateway, receiver);
  } finally {
    await gateway.close();
    await receiver.close();
  }
}, 90_000);

test("SIGTERM ends the process in time even while an endpoint hangs", async () => {
  const testDatabase = await openTestDatabase();
  const gateway = await spawnGateway({ DATABASE_URL: testDatabase.url });
  const receiver = await startReceiver({ answer: (_, number) => (number === 1 ? { kind: "hang" } : {}) });
  try {
    const { id: webhookId } = await gateway.createWebhook({ webhooks: receiver.url });
    await gateway.postBody(anInboundBody(aTextMessage({ id: "wamid.hangs" })));
    await receiver.waitForRequests(1);
    const startMs = Date.now();
    expect(await gateway.kill("SIGTERM")).toBe(0);
    expect(Date.now() - startMs).toBeLessThan(15_000);
    await gateway.restart();
    // The attempt ran into its time-out, was recorded as failed, and is tried again ten seconds later.
    const [delivery] = await gateway.deliveries({ webhook_id: webhookId });
    expect(await gateway.attempts(delivery!.id)).toMatchObject([
      { number: 1, outcome: "failed", error_kind: "timeout" },
    ]);
    expect(delivery!.state).toBe("pending");
  } finally {
    await gateway.close();
    await receiver.close();
    await testDatabase.close();
  }
}, 60_000);
