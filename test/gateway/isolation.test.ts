import pg from "pg";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { startTestGateway, type TestGateway } from "../helpers/gateway.ts";
import { queryRows } from "../helpers/query-rows.ts";
import { type Answer, type ReceivedRequest, type Receiver, startReceiver } from "../helpers/receiver.ts";
import { waitFor } from "../helpers/wait.ts";
import { aChange, anEnvelope, aTextMessage } from "../helpers/whatsapp-bodies.ts";

let gateway: TestGateway;
const receivers: Receiver[] = [];
beforeAll(async () => {
  gateway = await startTestGateway({
    overrides: { delivery: { retryScheduleMs: [50, 100, 150], inFlightMax: 24, requestTimeoutMs: 8_000 } },
  });
});
afterEach(async () => {
  for (const { id } of (await gateway.call("WebhookService/ListWebhooks", {})).body.webhooks) {
    await gateway.call("WebhookService/DeleteWebhook", { id });
  }
  for (const receiver of receivers.splice(0)) await receiver.close();
});
afterAll(() => gateway.close());

async function receive(answer: Answer | ((request: ReceivedRequest, number: number) => Answer)) {
  const receiver = await startReceiver({ answer });
  receivers.push(receiver);
  return receiver;
}

let messageCount = 0;
const messages = (count: number) =>
  anEnvelope([
    aChange({
      messages: Array.from({ length: count }, () =>
        aTextMessage({ id: `wamid.isolation-${++messageCount}` }),
      ),
    }),
  ]);

describe("a webhook that hangs", () => {
  test("does not delay another, even when hanging ones could take every place in flight", async () => {
    const hanging = await Promise.all([1, 2, 3].map(() => receive({ kind: "hang" })));
    for (const { url } of hanging) await gateway.createWebhook({ webhooks: url, max_in_flight: 64 });
    await gateway.postBody(messages(200));
    const inFlight = () => hanging.reduce((sum, { requests }) => sum + requests.length, 0);
    await waitFor("hanging requests that fill the places", inFlight, (count) => count >= 22);
    // More events for the hanging ones, so that whatever place gets free is asked for.
    for (let round = 0; round < 5; round++) await gateway.postBody(messages(5));

    const healthy = await receive({});
    await gateway.createWebhook({ webhooks: healthy.url });
    const startMs = Date.now();
    for (let round = 0; round < 5; round++) await gateway.postBody(messages(1));
    await healthy.waitForRequests(5, 3_000);
    expect(Date.now() - startMs).toBeLessThan(3_000);
    // None of the hanging ones was given up meanwhile: their places were really taken.
    expect(
      hanging.every(
        ({ requests }) => new Set(requests.map((one) => one.headers["webhook-id"])).size === requests.length,
      ),
    ).toBe(true);
  });

  test("does not delay another that waits in the table behind it", async () => {
    const hanging = await receive({ kind: "hang" });
    const healthy = await receive({});
    const first = await gateway.createWebhook({ webhooks: hanging.url, max_in_flight: 2, paused: true });
    const second = await gateway.createWebhook({ webhooks: healthy.url, paused: true });
    await gateway.postBody(messages(100));
    await gateway.updateWebhook(first.id, { paused: false });
    await hanging.waitForRequests(2);
    await gateway.updateWebhook(second.id, { paused: false });
    await healthy.waitForRequests(100, 3_000);
    expect(hanging.requests).toHaveLength(2);
  });
});

describe("while a transaction holds up the database at one place", () => {
  let client: pg.Client;
  beforeEach(async () => {
    client = new pg.Client({ connectionString: gateway.databaseUrl });
    await client.connect();
    await client.query("BEGIN");
  });
  // Ends the transaction, if a failed test has left it open.
  afterEach(() => client.end());

  test("the canceling of one webhook's deliveries does not delay another's", async () => {
    const off = await gateway.createWebhook({ webhooks: (await receive({})).url, paused: true });
    await gateway.postBody(messages(1));
    await client.query("SELECT FROM delivery WHERE webhook_id = $1 FOR UPDATE", [off.id]);
    const update = gateway.updateWebhook(off.id, { status: false });
    await waitForLock();
    const other = await receive((_, number) => ({ status: number === 1 ? 500 : 200 }));
    await gateway.createWebhook({ webhooks: other.url });
    await gateway.postBody(messages(1));
    await other.waitForRequests(2, 3_000);
    await client.query("COMMIT");
    await update;
  });

  test("a change of a webhook holds for attempts that wait for their conversations", async () => {
    const [former, later] = [await receive({}), await receive({})];
    const options = { transformer: "insights", paused: true };
    const moved = await gateway.createWebhook({ webhooks: former.url, ...options });
    await gateway.postBody(messages(3));
    await client.query("LOCK TABLE message IN ACCESS EXCLUSIVE MODE");
    await gateway.updateWebhook(moved.id, { paused: false });
    await waitForLock();
    await gateway.updateWebhook(moved.id, { webhooks: later.url });
    await client.query("COMMIT");
    await later.waitForRequests(3);
    expect(former.requests).toEqual([]);
  });

  async function waitForLock(): Promise<void> {
    const query = queryRows(gateway.databaseUrl);
    await waitFor(
      "a statement that waits",
      () =>
        query("SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"),
      (rows) => rows.length > 0,
    );
  }
});

test("max_in_flight is never exceeded, and reached", async () => {
  let open = 0;
  let openMax = 0;
  const receiver = await receive(() => {
    open += 1;
    openMax = Math.max(openMax, open);
    // The receiver answers after the delay; a request counts as open a little less long than it is.
    setTimeout(() => {
      open -= 1;
    }, 9);
    return { delayMs: 10 };
  });
  await gateway.createWebhook({ webhooks: receiver.url, max_in_flight: 3 });
  await Promise.all(Array.from({ length: 10 }, () => gateway.postBody(messages(12))));
  await receiver.waitForRequests(120);
  expect(openMax).toBe(3);
});

describe("a pause", () => {
  test("holds what comes and what waits for a retry; the end of it sends everything, once", async () => {
    const receiver = await receive((_, number) => ({ status: number <= 10 ? 500 : 200 }));
    const { id } = await gateway.createWebhook({ webhooks: receiver.url, max_in_flight: 10 });
    await gateway.postBody(messages(10));
    await receiver.waitForRequests(10);
    await gateway.updateWebhook(id, { paused: true });
    await gateway.postBody(messages(20));
    const held = await gateway.waitForStates(30, ["pending", "delivered"], { webhook_id: id });
    expect(held.slice(10).map(({ state, attempt_count }) => [state, attempt_count])).toEqual(
      Array(20).fill(["pending", 0]),
    );
    // Another webhook's delivery, made later, shows that the dispatcher had its chance to send the held ones.
    const other = await receive({});
    await gateway.createWebhook({ webhooks: other.url });
    await gateway.postBody(messages(1));
    await other.waitForRequests(1);
    const sentCount = receiver.requests.length;
    await gateway.updateWebhook(id, { paused: false });
    await gateway.waitForStates(31, ["delivered"], { webhook_id: id });
    const ids = receiver.requests.slice(sentCount).map((request) => request.headers["webhook-id"]);
    expect(new Set(ids).size).toBe(ids.length);
    expect(receiver.requests).toHaveLength(41);
  });
});

describe("turning a webhook off", () => {
  test("cancels what waits, says why, and sends nothing of it when it is on again", async () => {
    const receiver = await receive({});
    const { id } = await gateway.createWebhook({ webhooks: receiver.url, paused: true });
    await gateway.postBody(messages(30));
    await gateway.updateWebhook(id, { status: false });
    const canceled = await gateway.deliveries({ webhook_id: id });
    expect(canceled.map(({ state, reason }) => [state, reason])).toEqual(
      Array(30).fill(["canceled", "webhook_disabled"]),
    );
    // While it is off it gets no deliveries at all.
    await gateway.postBody(messages(3));
    await gateway.updateWebhook(id, { status: true, paused: false });
    await gateway.postBody(messages(1));
    await receiver.waitForRequests(1);
    const all = await gateway.waitForStates(31, ["canceled", "delivered"], { webhook_id: id });
    expect(all.filter(({ state }) => state === "delivered")).toHaveLength(1);
    expect(receiver.requests).toHaveLength(1);
    expect(receiver.requests[0]!.headers["webhook-id"]).toBe(all.at(-1)!.id);
  });

  test("lets attempts in flight end: a success gives delivered, a failure stays canceled without a retry", async () => {
    const receiver = await receive((_, number) => ({ delayMs: 600, status: number <= 2 ? 200 : 500 }));
    const { id } = await gateway.createWebhook({ webhooks: receiver.url });
    await gateway.postBody(messages(4));
    await receiver.waitForRequests(4);
    await gateway.updateWebhook(id, { status: false });
    const whileUnderWay = await gateway.deliveries({ webhook_id: id });
    expect(whileUnderWay.map(({ state }) => state)).toEqual(Array(4).fill("canceled"));
    const ended = await waitFor(
      "two deliveries and two cancellations with an attempt each",
      async () => {
        // State and attempts in one answer: an attempt that ends between two would be seen without its state.
        const answers = await Promise.all(
          whileUnderWay.map((delivery) => gateway.call("DeliveryService/GetDelivery", { id: delivery.id })),
        );
        return answers.map(({ body: { delivery, attempts } }) => ({
          state: delivery.state,
          reason: delivery.reason,
          outcomes: attempts.map(({ outcome }: { outcome: string }) => outcome),
        }));
      },
      (seen) => seen.every(({ outcomes }) => outcomes.length === 1),
    );
    const byState = Object.groupBy(ended, ({ state }) => state);
    expect(byState.delivered).toEqual(
      Array(2).fill({ state: "delivered", reason: undefined, outcomes: ["succeeded"] }),
    );
    expect(byState.canceled).toEqual(
      Array(2).fill({ state: "canceled", reason: "webhook_disabled", outcomes: ["failed"] }),
    );
    expect(receiver.requests).toHaveLength(4);
  });

  test("for good, by deleting it, cancels what waits and keeps the log", async () => {
    const receiver = await receive({});
    const { id } = await gateway.createWebhook({ webhooks: receiver.url, paused: true });
    await gateway.postBody(messages(3));
    await gateway.call("WebhookService/DeleteWebhook", { id });
    const log = await gateway.deliveries({ webhook_id: id });
    expect(log.map(({ state, reason }) => [state, reason])).toEqual(
      Array(3).fill(["canceled", "webhook_deleted"]),
    );
    expect(receiver.requests).toEqual([]);
  });
});
