import { createHmac } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openTestDatabase, type TestDatabase } from "../helpers/database.ts";
import { startTestGateway, type TestGateway } from "../helpers/gateway.ts";
import { queryRows } from "../helpers/query-rows.ts";
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

/** Changes of one webhook after each other, each followed by an event that the other gateway acknowledges. */
async function runLane(lane: number, roundCount: number, url: string): Promise<Promised[]> {
  const phoneNumberId = `62000000000010${lane}`;
  const promised: Promised[] = [];
  /** Posts an event of the lane's number; its answer says how many deliveries it got. */
  async function publish(gateway: TestGateway, id: string): Promise<number> {
    const body = anEnvelope([
      {
        field: "messages",
        value: { metadata: { phone_number_id: phoneNumberId }, messages: [aTextMessage({ id })] },
      },
    ]);
    const { body: answer } = await gateway.call("EventService/PublishEvents", {
      bodies: [JSON.stringify(body)],
    });
    return answer.events[0].delivery_count;
  }
  await publish(gateways[0], `wamid.lane-${lane}`);

  for (let round = 0; round < roundCount; round++) {
    const [here, there] = (round + lane) % 2 === 0 ? gateways : [gateways[1], gateways[0]];
    const path = (step: number) => `${url}/${lane}/${round}/${step}`;
    const secrets: string[] = [];
    let urlStep = 0;
    let stepCount = 0;
    /** After a change: the event is published on the other gateway, or on this one if the other made the change. */
    async function expectNext(gateway: TestGateway, what: string, deliveryCount: number): Promise<void> {
      stepCount += 1;
      const id = `wamid.lane-${lane}-${round}-${stepCount}`;
      expect(await publish(gateway, id), `${what}, lane ${lane}, round ${round}`).toBe(deliveryCount);
      promised.push({ id, isAdmitted: deliveryCount > 0, urlStep, secrets, secretIndex: secrets.length - 1 });
    }
    const created = await here.createWebhook({
      webhooks: path(0),
      client_ref: phoneNumberId,
      active_signature: true,
    });
    const { id } = created;
    secrets.push(created.signature_secret);
    await expectNext(there, "created", 1);
    await here.updateWebhook(id, { incoming: false, event_types: ["whatsapp.calls"] });
    await expectNext(there, "narrowed", 0);
    await there.updateWebhook(id, { incoming: true, event_types: ["message.*"] });
    await expectNext(here, "widened", 1);
    urlStep = 1;
    await here.updateWebhook(id, { webhooks: path(urlStep) });
    await expectNext(there, "moved", 1);
    const rotated = await there.call("WebhookService/RotateWebhookSecret", { id, overlap_seconds: 0 });
    secrets.push(rotated.body.signature_secret);
    await expectNext(here, "rotated", 1);
    await here.updateWebhook(id, { status: false });
    await expectNext(there, "off", 0);
    urlStep = 2;
    await there.updateWebhook(id, { status: true, webhooks: path(urlStep) });
    await expectNext(here, "on", 1);
    await here.call("WebhookService/DeleteWebhook", { id });
    await expectNext(there, "deleted", 0);
  }
  return promised;
}

/** What must be true of every request that an event makes. */
interface Promised {
  id: string;
  isAdmitted: boolean;
  /** The URL had moved this often when the event was acknowledged. */
  urlStep: number;
  /** Of the webhook, in the order in which they were given. */
  secrets: string[];
  /** The secret that was live when the event was acknowledged. */
  secretIndex: number;
}

test("a change made on one is respected by every event that the other acknowledges afterwards", async () => {
  const receiver = await startReceiver();
  const since = new Date().toISOString();
  // For a second each time, nothing tells one gateway what the other changed.
  const query = queryRows(testDatabase.url);
  const deafening = setInterval(() => {
    void query(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'posthorn-listen' AND datname = current_database()",
    );
  }, 6_000);
  const lanes = await Promise.all(
    Array.from({ length: 6 }, (_, lane) => runLane(lane, 44, `http://127.0.0.1:${receiver.port}`)),
  );
  clearInterval(deafening);
  const promised = new Map(lanes.flat().map((one) => [one.id, one]));
  expect(promised.size).toBeGreaterThan(2_000);

  // What was still waiting when its webhook was turned off or deleted is canceled; all else has been sent.
  const admittedCount = [...promised.values()].filter(({ isAdmitted }) => isAdmitted).length;
  await gateways[0].waitForStates(admittedCount, ["delivered", "canceled"], { since }, 20_000);
  expect(receiver.requests.length).toBeGreaterThan(promised.size / 4);
  const broken = receiver.requests.filter((request) => {
    const one = promised.get(/wamid[.]lane-[0-9-]+/.exec(request.body.toString())?.[0] ?? "");
    if (!one?.isAdmitted || Number(request.path.split("/").at(-1)) < one.urlStep) return true;
    // An attempt that started after a later change has that change's secret: never an earlier one.
    const {
      "webhook-id": id,
      "webhook-timestamp": timestamp,
      "webhook-signature": signature,
    } = request.headers;
    return !one.secrets.slice(one.secretIndex).some((secret) => {
      const key = Buffer.from(secret.slice("whsec_".length), "base64");
      const signed = createHmac("sha256", key)
        .update(`${id}.${timestamp}.`)
        .update(request.body)
        .digest("base64");
      return signature === `v1,${signed}`;
    });
  });
  expect(broken.map(({ path }) => path)).toEqual([]);
  await receiver.close();
}, 90_000);

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
