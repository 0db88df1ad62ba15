import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { startTestGateway, type TestGateway } from "../helpers/gateway.ts";
import { type Answer, type Receiver, startReceiver } from "../helpers/receiver.ts";
import { anInboundBody, aTextMessage } from "../helpers/whatsapp-bodies.ts";

const waitsMs = [50, 100, 150];
/** What the contract allows an attempt to be late, and the machine some more. */
const lateMaxMs = 1_500;

let gateway: TestGateway;
const receivers: Receiver[] = [];
beforeAll(async () => {
  gateway = await startTestGateway({
    overrides: { delivery: { retryScheduleMs: waitsMs, requestTimeoutMs: 400 } },
  });
});
afterEach(async () => {
  for (const { id } of (await gateway.call("WebhookService/ListWebhooks", {})).body.webhooks) {
    await gateway.call("WebhookService/DeleteWebhook", { id });
  }
  for (const receiver of receivers.splice(0)) await receiver.close();
});
afterAll(() => gateway.close());

let messageCount = 0;

/** One message to a new webhook whose endpoint answers as told. */
async function deliverOne(answer: (number: number) => Answer) {
  const receiver = await startReceiver({ answer: (_, number) => answer(number) });
  receivers.push(receiver);
  const { id: webhookId } = await gateway.createWebhook({ webhooks: receiver.url });
  await gateway.postBody(anInboundBody(aTextMessage({ id: `wamid.retry-${++messageCount}` })));
  const [request] = await receiver.waitForRequests(1);
  return { receiver, webhookId, deliveryId: String(request!.headers["webhook-id"]) };
}

async function settled(webhookId: number, state: string) {
  const [delivery] = await gateway.waitForStates(1, [state], { webhook_id: webhookId });
  return { delivery: delivery!, attempts: await gateway.attempts(delivery!.id) };
}

const retry = (id: string) => gateway.call("DeliveryService/RetryDelivery", { id });

function expectSameRequests(receiver: Receiver, count: number): void {
  expect(receiver.requests).toHaveLength(count);
  const [first] = receiver.requests;
  for (const request of receiver.requests) {
    expect(request.headers["webhook-id"]).toBe(first!.headers["webhook-id"]);
    expect(request.body).toEqual(first!.body);
  }
}

describe("an endpoint that fails", () => {
  test.for([
    ["answers 500", { status: 500 }, "http_status", 500],
    [
      "answers 301, which is never followed",
      { status: 301, headers: { location: "/hook" } },
      "http_status",
      301,
    ],
    ["answers 410, which counts like any other", { status: 410 }, "http_status", 410],
    ["drops the connection", { kind: "close" }, "broken_response", undefined],
    ["hangs", { kind: "hang" }, "timeout", undefined],
  ] satisfies [string, Answer, string, number | undefined][])(
    "and %s gets exactly four attempts of the same bytes, each wait counted from the end of the one before",
    async ([, answer, errorKind, status]) => {
      const { receiver, webhookId } = await deliverOne(() => answer);
      const { delivery, attempts } = await settled(webhookId, "failed");
      expect(delivery).toMatchObject({ reason: "attempts_exhausted", attempt_count: 4 });
      expectSameRequests(receiver, 4);
      expect(attempts).toMatchObject(
        [1, 2, 3, 4].map((number) => ({ number, outcome: "failed", error_kind: errorKind })),
      );
      for (const attempt of attempts) expect(attempt.response_status).toBe(status);
      for (const [index, waitMs] of waitsMs.entries()) {
        const endedMs = Date.parse(attempts[index]!.started_at) + attempts[index]!.duration_ms;
        const waitedMs = Date.parse(attempts[index + 1]!.started_at) - endedMs;
        expect(waitedMs).toBeGreaterThanOrEqual(waitMs);
        expect(waitedMs).toBeLessThan(waitMs + lateMaxMs);
      }
    },
  );

  test.for([1, 2, 3])(
    "%i times and then succeeds is delivered by the attempt after",
    async (failureCount) => {
      const { receiver, webhookId } = await deliverOne((number) => ({
        status: number <= failureCount ? 502 : 204,
      }));
      const { delivery, attempts } = await settled(webhookId, "delivered");
      expect(delivery.attempt_count).toBe(failureCount + 1);
      expect(delivery).not.toHaveProperty("reason");
      expect(attempts.map(({ outcome }) => outcome)).toEqual([
        ...Array(failureCount).fill("failed"),
        "succeeded",
      ]);
      expect(attempts.map(({ number }) => number)).toEqual(attempts.map((_, index) => index + 1));
      expectSameRequests(receiver, failureCount + 1);
    },
  );

  test("may ask for a longer wait by Retry-After on 429 and 503, and is not heard on other statuses", async () => {
    const asking = (status: number) => (number: number) =>
      number === 1 ? { status, headers: { "retry-after": "1" } } : {};
    for (const [status, waitMinMs, waitMaxMs] of [
      [429, 1_000, 1_000 + lateMaxMs],
      [503, 1_000, 1_000 + lateMaxMs],
      [500, 50, 900],
    ] as const) {
      const { webhookId } = await deliverOne(asking(status));
      const { attempts } = await settled(webhookId, "delivered");
      const [first, second] = attempts;
      const waitedMs = Date.parse(second!.started_at) - Date.parse(first!.started_at) - first!.duration_ms;
      expect(waitedMs).toBeGreaterThanOrEqual(waitMinMs);
      expect(waitedMs).toBeLessThan(waitMaxMs);
    }
  });
});

describe("RetryDelivery", () => {
  test("from failed starts a new round of four whose numbers go on, with the same id and bytes", async () => {
    const { receiver, webhookId, deliveryId } = await deliverOne(() => ({ status: 500 }));
    await settled(webhookId, "failed");
    const answer = await retry(deliveryId);
    expect(answer.body.delivery).toMatchObject({ id: deliveryId });
    await receiver.waitForRequests(8);
    const { delivery, attempts } = await settled(webhookId, "failed");
    expect(delivery).toMatchObject({ reason: "attempts_exhausted", attempt_count: 8 });
    expect(attempts.map(({ number }) => number)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    expectSameRequests(receiver, 8);
  });

  test("from failed ends at the first success", async () => {
    const { webhookId, deliveryId } = await deliverOne((number) => ({ status: number <= 5 ? 500 : 200 }));
    await settled(webhookId, "failed");
    await retry(deliveryId);
    const { delivery, attempts } = await settled(webhookId, "delivered");
    expect(delivery).not.toHaveProperty("reason");
    expect(attempts.map(({ outcome }) => outcome)).toEqual([...Array(5).fill("failed"), "succeeded"]);
  });

  test.for([500, 200])(
    "from delivered makes one attempt and leaves the state, answered %i",
    async (status) => {
      const { receiver, webhookId, deliveryId } = await deliverOne((number) =>
        number === 1 ? {} : { status },
      );
      const before = await settled(webhookId, "delivered");
      expect((await retry(deliveryId)).status).toBe(200);
      await receiver.waitForRequests(2);
      const after = await settled(webhookId, "delivered");
      expect(after.delivery.finished_at).toBe(before.delivery.finished_at);
      // Asked for again at once: refused while the one before is not recorded, taken after.
      let third = await retry(deliveryId);
      while (third.status !== 200) {
        expect(third.body.code).toBe("failed_precondition");
        third = await retry(deliveryId);
      }
      await receiver.waitForRequests(3);
      expectSameRequests(receiver, 3);
    },
  );

  test("of what is pending, under way or skipped is refused, and says why", async () => {
    const { receiver, deliveryId } = await deliverOne((number) =>
      number === 1 ? { kind: "hang" } : { status: 503, headers: { "retry-after": "60" } },
    );
    const underWay = await retry(deliveryId);
    expect(underWay.body).toMatchObject({
      code: "failed_precondition",
      message: expect.stringMatching(/deliver/),
    });
    await receiver.waitForRequests(2);
    const pending = await retry(deliveryId);
    expect(pending.body.code).toBe("failed_precondition");
    const unknown = await retry("0199c0de-0000-7000-8000-000000000001");
    expect(unknown.body.code).toBe("not_found");
  });

  test("of a delivery whose webhook is off is refused, and taken once it is on again", async () => {
    const { receiver, webhookId, deliveryId } = await deliverOne((number) => ({
      status: number <= 4 ? 500 : 200,
    }));
    await settled(webhookId, "failed");
    await gateway.updateWebhook(webhookId, { status: false });
    expect((await retry(deliveryId)).body).toMatchObject({
      code: "failed_precondition",
      message: expect.stringMatching(/status: true/),
    });
    await gateway.updateWebhook(webhookId, { status: true });
    expect((await retry(deliveryId)).status).toBe(200);
    await settled(webhookId, "delivered");
    expectSameRequests(receiver, 5);
  });
});
