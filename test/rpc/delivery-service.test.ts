import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { asTenant, aWebhook, fieldsAtFault, openRpcGateway, type RpcGateway } from "./gateway.ts";
import { addAttempt, addDelivery, eventId, idAt } from "./log-rows.ts";

let gateway: RpcGateway;
let first: number;
let second: number;
let foreign: number;

beforeAll(async () => {
  gateway = await openRpcGateway({ tenants: ["acme"] });
  first = await createWebhook("https://example.com/first");
  second = await createWebhook("https://example.com/second");
  foreign = await createWebhook("https://example.com/foreign", asTenant("acme"));
});
afterAll(async () => {
  await gateway.close();
});
beforeEach(async () => {
  await gateway.database.pool.query("TRUNCATE delivery, attempt");
});

async function createWebhook(webhooks: string, headers?: Record<string, string>): Promise<number> {
  return (await gateway.call("WebhookService/CreateWebhook", aWebhook({ webhooks }), headers)).body.id;
}
const list = (request: object, headers?: Record<string, string>) =>
  gateway.call("DeliveryService/ListDeliveries", request, headers);
const get = (id: string, headers?: Record<string, string>) =>
  gateway.call("DeliveryService/GetDelivery", { id }, headers);
const retry = (id: string, headers?: Record<string, string>) =>
  gateway.call("DeliveryService/RetryDelivery", { id }, headers);
async function listIds(request: object): Promise<string[]> {
  const { body } = await list(request);
  expect(body.message).toBeUndefined();
  return body.deliveries.map((delivery: { id: string }) => delivery.id);
}

describe("GetDelivery", () => {
  test("gives the delivery, its attempts in order and the exact body sent", async () => {
    const id = idAt("2026-03-05T11:59:59.999Z");
    const body = Buffer.from('{"name":"Zoë"}');
    await addDelivery(gateway, { id, webhookId: first, attemptNumber: 3, body });
    await addAttempt(gateway, { deliveryId: id, number: 2, outcome: "lost" });
    await addAttempt(gateway, {
      deliveryId: id,
      number: 1,
      outcome: "failed",
      errorKind: "http_status",
      errorMessage: "answered 503",
      status: 503,
      headers: { "retry-after": "5" },
      body: Buffer.concat([Buffer.from("later, "), Buffer.from([0xff]), Buffer.from("é").subarray(0, 1)]),
    });
    await addAttempt(gateway, { deliveryId: id, number: 3, outcome: "succeeded", status: 204 });
    const answer = await get(id.toUpperCase());
    expect(answer.body).toEqual({
      delivery: {
        id,
        webhook_id: first,
        event_id: eventId,
        event_type: "message.received",
        state: "delivered",
        attempt_count: 3,
        created_at: Date.parse("2026-03-05T11:59:59.999Z"),
        finished_at: "2026-03-05T12:00:01.250Z",
        transformer: "insights",
        transformer_version: "1.0.0",
      },
      attempts: [
        {
          number: 1,
          started_at: "2026-03-05T12:00:00.500Z",
          duration_ms: 750,
          outcome: "failed",
          error_kind: "http_status",
          error_message: "answered 503",
          response_status: 503,
          response_headers: { "retry-after": "5" },
          response_body: "later, \uFFFD\uFFFD",
        },
        {
          number: 2,
          started_at: "2026-03-05T12:00:00.500Z",
          duration_ms: 750,
          outcome: "lost",
          response_headers: {},
        },
        {
          number: 3,
          started_at: "2026-03-05T12:00:00.500Z",
          duration_ms: 750,
          outcome: "succeeded",
          response_status: 204,
          response_headers: {},
          response_body: "",
        },
      ],
      content_type: "application/json",
      body: body.toString("base64"),
    });
  });

  test("says when the next attempt is due, and why a delivery was given up", async () => {
    const pending = await addDelivery(gateway, {
      id: idAt("2026-03-05T12:00:00Z"),
      webhookId: first,
      state: "pending",
    });
    const failed = await addDelivery(gateway, {
      id: idAt("2026-03-05T12:00:00Z"),
      webhookId: first,
      state: "failed",
      reason: "attempts_exhausted",
      attemptNumber: 4,
    });
    const { delivery } = (await get(pending)).body;
    expect(delivery).toMatchObject({
      state: "pending",
      attempt_count: 0,
      next_attempt_at: "2026-03-05T12:00:10.500Z",
    });
    for (const absent of ["finished_at", "reason", "transformer"])
      expect(delivery).not.toHaveProperty(absent);
    expect((await get(failed)).body.delivery).toMatchObject({
      state: "failed",
      reason: "attempts_exhausted",
    });
  });

  test("gives the latest 500 attempts of more", async () => {
    const id = await addDelivery(gateway, {
      id: idAt("2026-03-05T12:00:00Z"),
      webhookId: first,
      attemptNumber: 502,
    });
    await gateway.database.pool.query(
      `INSERT INTO attempt (delivery_id, number, started_at, duration_ms, outcome)
       SELECT $1, n, now(), 1, 'lost' FROM generate_series(1, 502) n`,
      [id],
    );
    const numbers = (await get(id)).body.attempts.map((attempt: { number: number }) => attempt.number);
    expect([numbers.length, numbers[0], numbers.at(-1)]).toEqual([500, 3, 502]);
  });

  test("does not find another tenant's, or one that is nowhere", async () => {
    const id = await addDelivery(gateway, {
      id: idAt("2026-03-05T12:00:00Z"),
      webhookId: foreign,
      tenantId: gateway.tenantIds.acme!,
    });
    expect((await get(id, asTenant("acme"))).status).toBe(200);
    for (const unknown of [id, idAt("2026-03-05T12:00:00Z"), idAt("2001-01-01T00:00:00Z")]) {
      const answer = await get(unknown);
      expect(answer.status).toBe(404);
      expect(answer.body).toEqual({ code: "not_found", message: `delivery ${unknown} does not exist` });
    }
  });

  test("refuses what is no UUID", async () => {
    expect(fieldsAtFault(await get("1"))).toEqual(["id"]);
    expect(fieldsAtFault(await gateway.call("DeliveryService/GetDelivery", {}))).toEqual(["id"]);
  });
});

describe("ListDeliveries", () => {
  test("gives the newest first over all webhooks and days, without other tenants'", async () => {
    const times = [
      "2026-03-03T10:00:00Z",
      "2026-03-04T23:59:59.999Z",
      "2026-03-05T00:00:00Z",
      "2026-03-05T11:00:00Z",
    ];
    const ids = times.map(idAt);
    await addDelivery(gateway, { id: ids[2]!, webhookId: first });
    await addDelivery(gateway, { id: ids[0]!, webhookId: second });
    await addDelivery(gateway, { id: ids[3]!, webhookId: second });
    await addDelivery(gateway, { id: ids[1]!, webhookId: first });
    await addDelivery(gateway, {
      id: idAt(times[3]!),
      webhookId: foreign,
      tenantId: gateway.tenantIds.acme!,
    });
    expect(await listIds({})).toEqual(ids.toReversed());
    expect(await listIds({ webhook_id: first })).toEqual([ids[2], ids[1]]);
  });

  test("narrows by state, event type and time: since counts, until does not", async () => {
    const at = [
      "2026-03-04T10:00:00Z",
      "2026-03-05T10:00:00Z",
      "2026-03-05T10:00:00.001Z",
      "2026-03-05T11:00:00Z",
    ];
    const ids = at.map(idAt);
    await addDelivery(gateway, { id: ids[0]!, webhookId: first, state: "failed", reason: "expired" });
    await addDelivery(gateway, { id: ids[1]!, webhookId: first, eventType: "message.status" });
    await addDelivery(gateway, { id: ids[2]!, webhookId: second, state: "pending" });
    await addDelivery(gateway, { id: ids[3]!, webhookId: second, state: "skipped" });
    expect(await listIds({ states: ["failed"] })).toEqual([ids[0]]);
    expect(await listIds({ states: ["pending", "skipped"] })).toEqual([ids[3], ids[2]]);
    expect(await listIds({ event_type: "message.status" })).toEqual([ids[1]]);
    expect(await listIds({ since: at[1], until: at[3] })).toEqual([ids[2], ids[1]]);
    expect(await listIds({ since: "2026-03-05T10:00:00.000000001Z" })).toEqual([ids[3], ids[2]]);
    expect(await listIds({ until: "2026-03-05T10:00:00.000000001Z" })).toEqual([ids[1], ids[0]]);
    expect(await listIds({ since: at[1], states: ["delivered"], webhook_id: first })).toEqual([ids[1]]);
    expect(await listIds({ since: "0001-01-01T00:00:00Z", until: "9999-12-31T23:59:59Z" })).toHaveLength(4);
  });

  test("pages through all of them once, while new ones come", async () => {
    const ids: string[] = [];
    for (let minute = 10; minute < 17; minute++) {
      const id = idAt(`2026-03-05T11:${minute}:00Z`);
      ids.unshift(await addDelivery(gateway, { id, webhookId: minute % 2 === 0 ? first : second }));
    }
    const seen: string[] = [];
    let token = "";
    do {
      const { body } = await list({ page_size: 3, page_token: token });
      seen.push(...body.deliveries.map((delivery: { id: string }) => delivery.id));
      token = body.next_page_token;
      await addDelivery(gateway, { id: idAt("2026-03-05T11:59:00Z"), webhookId: first });
    } while (token !== "");
    expect(seen).toEqual(ids);
  });

  test("ends with a full page without a token", async () => {
    for (const minute of [10, 11]) {
      await addDelivery(gateway, { id: idAt(`2026-03-05T11:${minute}:00Z`), webhookId: first });
    }
    expect((await list({ page_size: 2 })).body).toMatchObject({ next_page_token: "" });
  });

  test("refuses a token of a list with other filters, and takes it whatever the page size", async () => {
    for (const minute of [10, 11, 12]) {
      await addDelivery(gateway, { id: idAt(`2026-03-05T11:${minute}:00Z`), webhookId: first });
    }
    const states = ["delivered", "failed"];
    const { next_page_token: page_token } = (await list({ page_size: 1, states })).body;
    expect(
      (await list({ page_size: 2, states: states.toReversed(), page_token })).body.deliveries,
    ).toHaveLength(2);
    for (const other of [
      {},
      { states: ["failed"] },
      { states, webhook_id: first },
      { states, since: "2026-01-01T00:00:00Z" },
    ]) {
      expect(fieldsAtFault(await list({ ...other, page_token }))).toEqual(["page_token"]);
    }
  });

  test("still shows what went to a webhook that was deleted", async () => {
    const gone = await createWebhook("https://example.com/gone");
    const id = await addDelivery(gateway, { id: idAt("2026-03-05T11:00:00Z"), webhookId: gone });
    await gateway.call("WebhookService/DeleteWebhook", { id: gone });
    expect(await listIds({})).toEqual([id]);
    expect(await listIds({ webhook_id: gone })).toEqual([id]);
    expect((await get(id)).body.delivery.webhook_id).toBe(gone);
  });

  test.each([
    ["an unknown state", { states: ["done"] }, "states[0]"],
    ["a state twice", { states: ["failed", "failed"] }, "states"],
    ["a pattern for a type", { event_type: "message.*" }, "event_type"],
    ["no webhook's id", { webhook_id: 0 }, "webhook_id"],
  ])("refuses %s", async (_, request, field) => {
    const answer = await list(request);
    expect(answer.body.code).toBe("invalid_argument");
    expect(fieldsAtFault(answer)).toEqual([field]);
  });

  test("refuses a time range that ends before it starts", async () => {
    const answer = await list({ since: "2026-03-05T11:00:00Z", until: "2026-03-05T11:00:00Z" });
    expect(answer.body.message).toBe("until: must be later than since [until.after_since]");
  });

  test("does not find another tenant's webhook", async () => {
    const answer = await list({ webhook_id: foreign });
    expect(answer.status).toBe(404);
    expect(answer.body.message).toBe(`webhook ${foreign} does not exist`);
  });
});

describe("RetryDelivery", () => {
  test("makes a failed delivery due at once and wakes the dispatcher", async () => {
    const id = await addDelivery(gateway, {
      id: idAt("2026-03-05T11:00:00Z"),
      webhookId: first,
      state: "failed",
      reason: "attempts_exhausted",
      attemptNumber: 4,
      body: Buffer.from("{}"),
    });
    const wakeUpsBefore = gateway.wakeUps.count;
    const { body } = await retry(id.toUpperCase());
    expect(body.delivery).toMatchObject({ id, state: "pending", attempt_count: 4 });
    expect(Date.parse(body.delivery.next_attempt_at)).toBe(gateway.clock.at.getTime());
    expect(body.delivery).not.toHaveProperty("reason");
    expect(gateway.wakeUps.count).toBe(wakeUpsBefore + 1);
    expect((await get(id)).body.delivery).toEqual(body.delivery);
  });

  test("leaves a delivered one delivered", async () => {
    const id = await addDelivery(gateway, {
      id: idAt("2026-03-05T11:00:00Z"),
      webhookId: first,
      body: Buffer.from("{}"),
    });
    expect((await retry(id)).body.delivery).toMatchObject({ state: "delivered" });
  });

  test.each(["pending", "delivering", "skipped"] as const)("refuses one that is %s", async (state) => {
    const id = await addDelivery(gateway, { id: idAt("2026-03-05T11:00:00Z"), webhookId: first, state });
    const answer = await retry(id);
    expect(answer.status).toBe(400);
    expect(answer.body.code).toBe("failed_precondition");
    expect(answer.body.message).toContain(state);
  });

  test("does not find another tenant's", async () => {
    const id = await addDelivery(gateway, {
      id: idAt("2026-03-05T11:00:00Z"),
      webhookId: foreign,
      tenantId: gateway.tenantIds.acme!,
    });
    expect((await retry(id)).status).toBe(404);
  });
});
