import { createHmac } from "node:crypto";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { startTestGateway, type TestGateway } from "../helpers/gateway.ts";
import { type QueryRows, queryRows } from "../helpers/query-rows.ts";
import { type Answer, type Receiver, startReceiver } from "../helpers/receiver.ts";
import { waitFor } from "../helpers/wait.ts";
import { anInboundBody, aTextMessage } from "../helpers/whatsapp-bodies.ts";

let gateway: TestGateway;
let query: QueryRows;
let failing: Receiver;
let listening: Receiver;
/** What the listening endpoint answers. */
let answer: Answer = {};
beforeAll(async () => {
  gateway = await startTestGateway({
    overrides: { delivery: { retryScheduleMs: [10] }, gatewayEvents: { pollMs: 50 } },
  });
  query = queryRows(gateway.databaseUrl);
});
beforeEach(async () => {
  answer = {};
  failing = await startReceiver({ answer: { status: 503, body: "away" } });
  listening = await startReceiver({ answer: () => answer });
});
afterEach(async () => {
  for (const { id } of (await gateway.call("WebhookService/ListWebhooks", {})).body.webhooks) {
    await gateway.call("WebhookService/DeleteWebhook", { id });
  }
  await failing.close();
  await listening.close();
});
afterAll(() => gateway.close());

let messageCount = 0;
const post = () => gateway.postBody(anInboundBody(aTextMessage({ id: `wamid.told-${++messageCount}` })));

/** A webhook that is sent what the gateway tells of itself, and nothing else. */
const listen = (fields: Record<string, unknown> = {}) =>
  gateway.createWebhook({
    webhooks: listening.url,
    incoming: false,
    event_types: ["posthorn.*"],
    ...fields,
  });

const eventsOf = (type: string) =>
  query(
    "SELECT id, client_id, convert_from(item, 'UTF8')::json AS item FROM event WHERE type = $1 ORDER BY id",
    [type],
  );
const failedType = "posthorn.delivery.failed";
const noticesGone = () =>
  waitFor(
    "end of all notices",
    () => query("SELECT id FROM gateway_notice"),
    (rows) => rows.length === 0,
  );

describe("a delivery that fails for good", () => {
  test("is told of to a webhook that names it, after its last attempt", async () => {
    const { id: listenerId, signature_secret: secret } = await listen({ active_signature: true });
    const { id: webhookId } = await gateway.createWebhook({ webhooks: failing.url });
    await post();
    const [request] = await listening.waitForRequests(1);
    const [delivery] = await gateway.waitForStates(1, ["failed"], { webhook_id: webhookId });
    expect(JSON.parse(request!.body.toString())).toEqual({
      type: failedType,
      occurred_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
      webhook: { id: webhookId, url: failing.url, client_ref: null },
      delivery: {
        id: delivery!.id,
        event_id: delivery!.event_id,
        event_type: "message.received",
        reason: "attempts_exhausted",
        reason_detail: null,
        attempt_count: 2,
        last_attempt: {
          number: 2,
          outcome: "failed",
          error_kind: "http_status",
          error_message: expect.any(String),
          response_status: 503,
        },
      },
    });
    const signed = `${request!.headers["webhook-id"]}.${request!.headers["webhook-timestamp"]}.${request!.body}`;
    const key = Buffer.from(secret.slice("whsec_".length), "base64");
    expect(request!.headers["webhook-signature"]).toBe(
      `v1,${createHmac("sha256", key).update(signed).digest("base64")}`,
    );
    const [told] = await gateway.waitForStates(1, ["delivered"], { webhook_id: listenerId });
    expect(told).toMatchObject({ event_type: failedType });
    await noticesGone();
    expect(failing.requests).toHaveLength(2);
  });

  test("is told of anew when a second round fails", async () => {
    await listen();
    const { id: webhookId } = await gateway.createWebhook({ webhooks: failing.url });
    await post();
    await listening.waitForRequests(1);
    const [delivery] = await gateway.waitForStates(1, ["failed"], { webhook_id: webhookId });
    await gateway.call("DeliveryService/RetryDelivery", { id: delivery!.id });
    const requests = await listening.waitForRequests(2);
    const told = requests.map(({ body }) => JSON.parse(body.toString()).delivery);
    expect(told).toMatchObject([
      { id: delivery!.id, attempt_count: 2 },
      { id: delivery!.id, attempt_count: 4 },
    ]);
  });

  test("makes no further event when it is one that tells of a failure", async () => {
    answer = { status: 500 };
    const { id: listenerId } = await listen();
    await gateway.createWebhook({ webhooks: failing.url });
    const before = (await eventsOf(failedType)).length;
    await post();
    await gateway.waitForStates(1, ["failed"], { webhook_id: listenerId });
    await noticesGone();
    expect(await eventsOf(failedType)).toHaveLength(before + 1);
  });

  test("is told of to nobody, and stored nowhere, if no webhook names it", async () => {
    const before = (await eventsOf(failedType)).length;
    // It covers everything that has a trigger; types about the gateway have to be named.
    await gateway.createWebhook({ webhooks: listening.url });
    await listen({ webhooks: `${listening.url}/other`, event_types: ["posthorn.webhook.disabled"] });
    const { id: webhookId } = await gateway.createWebhook({ webhooks: failing.url });
    await post();
    await gateway.waitForStates(1, ["failed"], { webhook_id: webhookId });
    await noticesGone();
    expect(await eventsOf(failedType)).toHaveLength(before);
    expect(listening.requests.every(({ path }) => !path.endsWith("/other"))).toBe(true);
  });

  test("is no business of a client's webhook, unless it was one of that client's webhooks that failed", async () => {
    await gateway.call("ClientService/CreateClient", { client_ref: "nosy" });
    await listen({ client_ref: "nosy" });
    await listen({ webhooks: `${listening.url}/all` });
    const { id: webhookId } = await gateway.createWebhook({ webhooks: failing.url });
    await post();
    await gateway.waitForStates(1, ["failed"], { webhook_id: webhookId });
    await listening.waitForRequests(1);
    await noticesGone();
    await gateway.waitForStates(1, ["delivered"], {
      event_type: failedType,
      states: ["delivered"],
      webhook_id: await idOf("/all"),
    });
    expect(listening.requests.map(({ path }) => path)).toEqual(["/hook/all"]);
  });

  test("is told of once, though the gateway died between telling and noting that it was told", async () => {
    const { id: listenerId } = await listen();
    const { id: webhookId } = await gateway.createWebhook({ webhooks: failing.url });
    // As a process leaves it that dies with the notice in hand, seen twice.
    const id = 9_000_000;
    const insert = () =>
      query(
        `INSERT INTO gateway_notice (id, type, tenant_id, webhook_id, occurred_at, details, leased_until)
         OVERRIDING SYSTEM VALUE VALUES ($1, $2, 1, $3, $4, $5, $6)`,
        [
          id,
          failedType,
          webhookId,
          "2026-03-05T12:00:00.123Z",
          {
            deliveryId: "0199c0de-0000-7000-8000-000000000001",
            eventId: "0199c0de-0000-7000-8000-000000000002",
            eventType: "message.received",
            reason: "expired",
            reasonDetail: null,
            attemptCount: 0,
          },
          new Date(Date.now() - 1),
        ],
      );
    await insert();
    await noticesGone();
    await listening.waitForRequests(1);
    await insert();
    await noticesGone();
    await gateway.waitForStates(1, ["delivered"], { webhook_id: listenerId });
    expect(listening.requests).toHaveLength(1);
    expect(JSON.parse(listening.requests[0]!.body.toString()).delivery).toMatchObject({
      reason: "expired",
      last_attempt: null,
    });
  });
});

describe("TestWebhook", () => {
  test.each(["posthorn.delivery.failed", "posthorn.webhook.disabled"])(
    "sends a sample of %s",
    async (type) => {
      const { id } = await listen();
      const { status, body } = await gateway.call("WebhookService/TestWebhook", { id, event_type: type });
      expect({ status, type: body.event_type, outcome: body.attempt?.outcome }).toEqual({
        status: 200,
        type,
        outcome: "succeeded",
      });
      expect(JSON.parse(listening.requests[0]!.body.toString())).toMatchObject({
        type,
        webhook: { id: expect.any(Number), url: expect.any(String) },
      });
    },
  );

  test("chooses such a sample for a webhook that wants nothing else", async () => {
    const { id } = await listen();
    const { body } = await gateway.call("WebhookService/TestWebhook", { id });
    expect(body.event_type).toMatch(/^posthorn\./);
  });
});

test("a webhook whose transformer makes nothing of such events cannot name them alone", async () => {
  const answered = await gateway.call("WebhookService/CreateWebhook", {
    webhooks: listening.url,
    status: true,
    incoming: true,
    schedule_activity: false,
    waiting_duration: 0,
    active_signature: false,
    transformer: "insights",
    event_types: ["posthorn.*"],
  });
  expect(answered).toMatchObject({ status: 400, body: { code: "invalid_argument" } });
});

async function idOf(pathEnd: string): Promise<number> {
  const { webhooks } = (await gateway.call("WebhookService/ListWebhooks", {})).body;
  return webhooks.find((one: { webhooks: string }) => one.webhooks.endsWith(pathEnd)).id;
}
