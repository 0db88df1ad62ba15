import { createHmac } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestGateway, type TestGateway } from "../helpers/gateway.ts";
import { type QueryRows, queryRows } from "../helpers/query-rows.ts";
import { type Answer, type Receiver, startReceiver } from "../helpers/receiver.ts";

let gateway: TestGateway;
let receiver: Receiver;
let query: QueryRows;
let answer: Answer = {};
beforeAll(async () => {
  receiver = await startReceiver({ answer: () => answer });
  gateway = await startTestGateway({ overrides: { delivery: { requestTimeoutMs: 2_000 } } });
  query = queryRows(gateway.databaseUrl);
});
afterAll(async () => {
  await gateway.close();
  await receiver.close();
});

let count = 0;
const create = (fields: Record<string, unknown> = {}) =>
  gateway.createWebhook({ webhooks: `${receiver.url}/${++count}`, ...fields });
const tryOut = (id: number, event_type?: string) =>
  gateway.call("WebhookService/TestWebhook", { id, event_type });
const textOf = (body: string) => Buffer.from(body, "base64").toString();

describe("TestWebhook", () => {
  test("sends a sample, signed as deliveries are, and gives the attempt as the log would show it", async () => {
    answer = { status: 201, headers: { "X-Answer": "yes" }, body: "thank you" };
    const webhook = await create({
      transformer: "intelli",
      active_signature: true,
      headers: { "X-Tenant-Key": "value" },
    });
    const before = receiver.requests.length;
    const { status, body } = await tryOut(webhook.id);
    expect(status).toBe(200);
    expect(receiver.requests).toHaveLength(before + 1);
    const request = receiver.requests.at(-1)!;
    expect(textOf(body.body)).toBe(request.body.toString());
    expect(JSON.parse(request.body.toString())).toMatchObject({
      event: "message.received",
      client_ref: "sample-client",
      message: { type: "text" },
      contact: { name: expect.any(String) },
    });
    expect(request.headers).toMatchObject({
      "webhook-id": body.webhook_id_header,
      "x-tenant-key": "value",
      "x-intelli-signature": `sha256=${createHmac("sha256", webhook.signature_secret).update(request.body).digest("hex")}`,
    });
    expect(body).toMatchObject({
      event_type: "message.received",
      content_type: "application/json",
      attempt: {
        number: 1,
        outcome: "succeeded",
        response_status: 201,
        response_headers: { "x-answer": "yes" },
        response_body: "thank you",
      },
    });
    expect(body).not.toHaveProperty("reason");
  });

  test("leaves no delivery, attempt or event behind, and retries nothing", async () => {
    answer = { status: 500 };
    const { id } = await create();
    await tryOut(id);
    const before = receiver.requests.length;
    const rows = await query(
      "SELECT (SELECT count(*)::int FROM delivery) AS d, (SELECT count(*)::int FROM attempt) AS a, (SELECT count(*)::int FROM event) AS e",
    );
    expect(rows).toEqual([{ d: 0, a: 0, e: 0 }]);
    expect((await gateway.call("DeliveryService/ListDeliveries", {})).body.deliveries).toEqual([]);
    expect(receiver.requests).toHaveLength(before);
  });

  test("works on a webhook that is off, and on one that is paused", async () => {
    answer = {};
    for (const fields of [{ status: false }, { paused: true }]) {
      const { id } = await create(fields);
      expect((await tryOut(id)).body.attempt).toMatchObject({ outcome: "succeeded" });
    }
  });

  test("uses URL, transformer, options and secret as they are now", async () => {
    answer = {};
    const { id } = await create({ transformer: "intelli", active_signature: true });
    const rotated = await gateway.call("WebhookService/RotateWebhookSecret", { id, overlap_seconds: 0 });
    await gateway.updateWebhook(id, {
      webhooks: `${receiver.url}/moved`,
      transformer: "insights",
      transformer_options: { history_size: 1 },
    });
    await tryOut(id);
    const request = receiver.requests.at(-1)!;
    expect(request.path).toMatch(/\/moved$/);
    const payload = JSON.parse(request.body.toString());
    expect(payload.last_messages).toHaveLength(1);
    expect(payload.last_message_of_bot).not.toBe("");
    const first = createHmac("sha512", rotated.body.signature_secret).update(request.body).digest();
    expect(String(request.headers["x-webhook-signature"])).toContain(
      first.toString("base64url").slice(0, 80),
    );
  });

  const failures: [string, Answer, object][] = [
    ["an error status", { status: 503 }, { error_kind: "http_status", response_status: 503 }],
    ["an endpoint that hangs", { kind: "hang" }, { error_kind: "timeout" }],
    ["a broken connection", { kind: "reset" }, { error_kind: "broken_response" }],
  ];
  test.each(failures)("tells of %s", async (_, given, attempt) => {
    answer = given;
    const { id } = await create();
    const { status, body } = await tryOut(id);
    expect(status).toBe(200);
    expect(body.attempt).toMatchObject({ outcome: "failed", ...attempt });
    expect(body.body).not.toBe("");
  });

  test("holds to the address policy", async () => {
    const production = await startTestGateway({
      env: {
        NODE_ENV: "production",
        POSTHORN_PUBLIC_URL: "https://gateway.example.com",
      },
    });
    try {
      const { id } = await production.createWebhook({ webhooks: `https://127.0.0.1:${receiver.port}/hook` });
      const { body } = await production.call("WebhookService/TestWebhook", { id });
      expect(body.attempt).toMatchObject({ outcome: "failed", error_kind: "address_not_allowed" });
    } finally {
      await production.close();
    }
  });

  test("takes any type that the transformer handles", async () => {
    answer = {};
    const { id } = await create({ transformer: "raw" });
    const types = [
      "message.received",
      "message.reaction",
      "message.status",
      "message.sent",
      "whatsapp.error",
      "whatsapp.user_action",
      "whatsapp.account_update",
      "whatsapp.calls",
      "whatsapp.something_new",
    ];
    for (const type of types) {
      const { body } = await tryOut(id, type);
      expect(body).toMatchObject({ event_type: type, attempt: { outcome: "succeeded" } });
    }
  });

  test("chooses a type that the webhook wants", async () => {
    answer = {};
    const status = await create({
      transformer: "intelli",
      active_signature: true,
      incoming: false,
      outgoing: true,
    });
    expect((await tryOut(status.id)).body.event_type).toBe("message.status");
    const named = await create({ transformer: "raw", event_types: ["whatsapp.calls"] });
    expect((await tryOut(named.id)).body.event_type).toBe("whatsapp.calls");
  });

  test("refuses types that the transformer does not handle, and those that do not exist", async () => {
    const { id } = await create({ transformer: "insights" });
    for (const type of ["message.status", "whatsapp.calls", "nonsense"]) {
      const { body } = await tryOut(id, type);
      expect(body.code).toBe("invalid_argument");
      expect(body.message).toContain("event_type");
    }
    const raw = await create({ transformer: "raw" });
    expect((await tryOut(raw.id, "message.nothing")).body.code).toBe("invalid_argument");
  });

  test("knows no webhook that is not there", async () => {
    const { id } = await create();
    await gateway.call("WebhookService/DeleteWebhook", { id });
    expect((await tryOut(id)).body.code).toBe("not_found");
  });

  test("runs no more than 32 at once, and again when they have ended", async () => {
    answer = { kind: "hang" };
    const { id } = await create();
    const before = receiver.requests.length;
    const running = Array.from({ length: 32 }, () => tryOut(id));
    await receiver.waitForRequests(before + 32);
    expect(await tryOut(id)).toMatchObject({ status: 429, body: { code: "resource_exhausted" } });
    for (const { status } of await Promise.all(running)) expect(status).toBe(200);
    answer = {};
    expect((await tryOut(id)).status).toBe(200);
  });
});
