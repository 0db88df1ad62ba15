import { afterAll, beforeAll, expect, test } from "vitest";
import { openTestDatabase, type TestDatabase } from "../helpers/database.ts";
import { startTestGateway, type TestGateway } from "../helpers/gateway.ts";
import { startReceiver } from "../helpers/receiver.ts";
import { aChange, anEnvelope, anInboundBody, aTextMessage } from "../helpers/whatsapp-bodies.ts";

let testDatabase: TestDatabase;
let gateways: [TestGateway, TestGateway];
beforeAll(async () => {
  testDatabase = await openTestDatabase();
  const start = () =>
    startTestGateway({
      databaseUrl: testDatabase.url,
      overrides: { delivery: { retryScheduleMs: [50, 100, 150] } },
    });
  gateways = await Promise.all([start(), start()]);
  // The client of the number that the bodies come from.
  await gateways[0].postBody(anInboundBody(aTextMessage({ id: "wamid.first" })));
});
afterAll(async () => {
  await Promise.all(gateways.map((gateway) => gateway.close()));
  await testDatabase.close();
});

test("two gateways share a backlog, and each delivery is sent once", async () => {
  const [first, second] = gateways;
  let open = 0;
  let openMax = 0;
  const receiver = await startReceiver({
    answer: () => {
      open += 1;
      openMax = Math.max(openMax, open);
      // Shorter than the answer takes, so that no request is counted when its place is free again.
      setTimeout(() => {
        open -= 1;
      }, 15);
      return { delayMs: 20 };
    },
  });
  const { id } = await first.createWebhook({ webhooks: receiver.url, max_in_flight: 8, paused: true });
  const messages = Array.from({ length: 1_000 }, (_, index) =>
    aTextMessage({ id: `wamid.backlog-${index}` }),
  );
  expect(await second.postBody(anEnvelope([aChange({ messages })]))).toBe(200);
  await first.updateWebhook(id, { paused: false });
  const delivered = await first.waitForStates(1_000, ["delivered"], { webhook_id: id }, 20_000);
  expect(receiver.requests).toHaveLength(1_000);
  expect(new Set(receiver.requests.map((request) => request.headers["webhook-id"]))).toEqual(
    new Set(delivered.map((delivery) => delivery.id)),
  );
  // One process alone could not have had more than eight requests on the way at once.
  expect(openMax).toBeGreaterThan(8);
  expect(openMax).toBeLessThanOrEqual(16);
  await first.call("WebhookService/DeleteWebhook", { id });
  await receiver.close();
});

test("a change made on one is respected by every event that the other acknowledges afterwards", async () => {
  const receiver = await startReceiver();
  const unrelated = await gateways[0].createWebhook({ webhooks: `${receiver.url}/other` });
  let messageCount = 0;
  /** Posts to one gateway and counts the deliveries that its event got for the webhook. */
  async function deliveriesOfNew(gateway: TestGateway, webhookId: number): Promise<number> {
    const body = JSON.stringify(anInboundBody(aTextMessage({ id: `wamid.change-${++messageCount}` })));
    const { body: answer } = await gateway.call("EventService/PublishEvents", { bodies: [body] });
    const eventId = answer.events[0].event_id;
    expect(answer.events[0].delivery_count).toBeGreaterThanOrEqual(1);
    const deliveries = await gateway.deliveries({ webhook_id: webhookId });
    return deliveries.filter((delivery) => delivery.event_id === eventId).length;
  }

  for (let round = 0; round < 40; round++) {
    const [here, there] = round % 2 === 0 ? gateways : [gateways[1], gateways[0]];
    const { id } = await here.createWebhook({ webhooks: `${receiver.url}/${round}` });
    expect(await deliveriesOfNew(there, id), "created").toBe(1);
    await here.updateWebhook(id, { incoming: false, event_types: ["whatsapp.calls"] });
    expect(await deliveriesOfNew(there, id), "narrowed").toBe(0);
    await there.updateWebhook(id, { incoming: true, event_types: ["message.*"] });
    expect(await deliveriesOfNew(here, id), "widened").toBe(1);
    await here.updateWebhook(id, { status: false });
    expect(await deliveriesOfNew(there, id), "off").toBe(0);
    await there.updateWebhook(id, { status: true });
    expect(await deliveriesOfNew(here, id), "on").toBe(1);
    await there.call("WebhookService/DeleteWebhook", { id });
    expect(await deliveriesOfNew(here, id), "deleted").toBe(0);
  }
  await gateways[0].call("WebhookService/DeleteWebhook", { id: unrelated.id });
  await receiver.close();
}, 40_000);

test("a delivery made after a webhook was turned on again is never canceled by a process that has not heard of it", async () => {
  const receiver = await startReceiver();
  const { id } = await gateways[0].createWebhook({ webhooks: receiver.url });
  for (let round = 0; round < 40; round++) {
    const [here, there] = round % 2 === 0 ? gateways : [gateways[1], gateways[0]];
    await here.updateWebhook(id, { status: false });
    await here.updateWebhook(id, { status: true });
    await there.postBody(anInboundBody(aTextMessage({ id: `wamid.again-${round}` })));
  }
  await gateways[0].waitForStates(40, ["delivered"], { webhook_id: id });
  await receiver.close();
});

test("no attempt starts on one after the other has turned the webhook off, given it another URL, or deleted it", async () => {
  const late: string[] = [];
  for (let round = 0; round < 12; round++) {
    const change = ["off", "moved", "deleted"][round % 3]!;
    const former = await startReceiver({ answer: { delayMs: 20 } });
    const next = await startReceiver();
    const [here, there] = round % 2 === 0 ? gateways : [gateways[1], gateways[0]];
    const { id } = await here.createWebhook({ webhooks: former.url, max_in_flight: 2 });
    const messages = Array.from({ length: 100 }, (_, index) =>
      aTextMessage({ id: `wamid.late-${round}-${index}` }),
    );
    await there.postBody(anEnvelope([aChange({ messages })]));
    await former.waitForRequests(10);
    if (change === "off") await here.updateWebhook(id, { status: false });
    if (change === "moved") await here.updateWebhook(id, { webhooks: next.url });
    if (change === "deleted") await here.call("WebhookService/DeleteWebhook", { id });
    const returnedAt = Date.now();
    if (change === "moved") await here.waitForStates(100, ["delivered"], { webhook_id: id });
    else await here.waitForStates(100, ["delivered", "canceled"], { webhook_id: id });
    for (const request of former.requests) {
      // What was on its way when the change returned arrives a moment later. The whole backlog would take a second.
      const afterMs = request.receivedAt.getTime() - returnedAt;
      if (afterMs > 200) late.push(`${change}: ${afterMs} ms after`);
    }
    await here.call("WebhookService/DeleteWebhook", { id });
    await former.close();
    await next.close();
  }
  expect(late).toEqual([]);
}, 40_000);
