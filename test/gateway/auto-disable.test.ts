import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestGateway, type TestGateway } from "../helpers/gateway.ts";
import { type Answer, type Receiver, startReceiver } from "../helpers/receiver.ts";
import { waitFor } from "../helpers/wait.ts";
import { anInboundBody, aTextMessage } from "../helpers/whatsapp-bodies.ts";

const afterMs = 300;

let gateway: TestGateway;
let receiver: Receiver;
let answer: Answer = {};
beforeAll(async () => {
  receiver = await startReceiver({ answer: (request) => (request.path.endsWith("/told") ? {} : answer) });
  gateway = await startTestGateway({
    overrides: {
      delivery: { retryScheduleMs: [] },
      autoDisable: { afterMs, flushMs: 20, confirmMs: 40 },
      gatewayEvents: { pollMs: 50 },
    },
  });
});
afterAll(async () => {
  await gateway.close();
  await receiver.close();
});

let messageCount = 0;
const post = () => gateway.postBody(anInboundBody(aTextMessage({ id: `wamid.off-${++messageCount}` })));
const get = async (id: number) => (await gateway.call("WebhookService/GetWebhook", { id })).body.webhook;

/** Events one after another, until the webhook is off. */
function postUntilOff(id: number) {
  return waitFor(
    "webhook that is off",
    async () => {
      await post();
      return await get(id);
    },
    ({ status }) => status === false,
    30_000,
  );
}

test("an endpoint that does nothing but fail is turned off, with its reason, a log line and an event", async () => {
  const listener = await gateway.createWebhook({
    webhooks: `${receiver.url}/told`,
    event_types: ["posthorn.webhook.disabled"],
  });
  answer = { status: 500 };
  const { id } = await gateway.createWebhook({ webhooks: receiver.url });
  expect(await get(id)).toMatchObject({ status: true });
  // It fails by its own doing, and tests of it do not count.
  for (let count = 0; count < 3; count++) await gateway.call("WebhookService/TestWebhook", { id });
  const webhook = await postUntilOff(id);
  const [, failedCount] = /^none of its (\d+) attempts from .* to .* succeeded/.exec(
    webhook.disabled_reason,
  )!;
  expect(Number(failedCount)).toBeGreaterThanOrEqual(20);
  expect(Date.parse(webhook.disabled_at)).toBeGreaterThan(Date.now() - 60_000);
  expect(gateway.logged.filter(({ webhookId, level }) => webhookId === id && level === 40)).toMatchObject([
    { reason: webhook.disabled_reason },
  ]);
  const told = await waitFor(
    "event that tells of it",
    () => receiver.requests.filter(({ path }) => path.endsWith("/told")),
    (requests) => requests.length > 0,
  );
  expect(JSON.parse(told[0]!.body.toString())).toMatchObject({
    type: "posthorn.webhook.disabled",
    webhook: { id, url: receiver.url },
    reason: webhook.disabled_reason,
    failed_count: Number(failedCount),
  });

  // From here on it gets nothing, and it can be turned on again.
  const before = (await gateway.deliveries({ webhook_id: id })).length;
  expect(await post()).toBe(200);
  expect(await gateway.deliveries({ webhook_id: id })).toHaveLength(before);
  answer = {};
  await gateway.updateWebhook(id, { status: true });
  const mended = await get(id);
  expect(mended).toMatchObject({ status: true });
  expect(mended).not.toHaveProperty("disabled_reason");
  expect(mended).not.toHaveProperty("disabled_at");
  await post();
  await gateway.waitForStates(1, ["delivered"], { webhook_id: id, states: ["delivered"] });
  await gateway.call("WebhookService/DeleteWebhook", { id });
  await gateway.call("WebhookService/DeleteWebhook", { id: listener.id });
}, 60_000);

test("an endpoint that answers once in a while stays on, however often it fails", async () => {
  let requestCount = 0;
  const moody = await startReceiver({ answer: () => ({ status: ++requestCount % 10 === 0 ? 200 : 500 }) });
  const { id } = await gateway.createWebhook({ webhooks: moody.url, max_in_flight: 1 });
  // It gets the same events and does nothing but fail: by the time that it is off, the other would be, too.
  answer = { status: 500 };
  const { id: otherId } = await gateway.createWebhook({ webhooks: receiver.url });
  try {
    await postUntilOff(otherId);
    const failed = await waitFor(
      "failures of the one that answers once in a while",
      async () => {
        await post();
        return await gateway.deliveries({ webhook_id: id, states: ["failed"] });
      },
      (deliveries) => deliveries.length >= 40,
      30_000,
    );
    const madeMs = failed.map(({ created_at }) => created_at);
    expect(Math.max(...madeMs) - Math.min(...madeMs)).toBeGreaterThan(afterMs);
    expect(await get(id)).toMatchObject({ status: true });
  } finally {
    await moody.close();
  }
}, 60_000);
