import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createHousekeeper } from "../../server/store/housekeeping.ts";
import { anInboundBody, aTextMessage } from "../helpers/whatsapp-bodies.ts";
import { asTenant, aWebhook, fieldsAtFault, openRpcGateway, type RpcGateway } from "./gateway.ts";

const dayMs = 24 * 60 * 60 * 1000;

let gateway: RpcGateway;
beforeAll(async () => {
  gateway = await openRpcGateway({ tenants: ["acme"] });
});
afterAll(async () => {
  await gateway.close();
});

let count = 0;
const freshKey = () => `key-${++count}`;
const freshUrl = () => `https://example.com/${++count}`;
const create = (fields: Record<string, unknown>, headers?: Record<string, string>) =>
  gateway.call("WebhookService/CreateWebhook", aWebhook(fields), headers);

describe("CreateWebhook with an idempotency key", () => {
  test("gives the same answer again, but for the secret, and makes one webhook", async () => {
    const request = { webhooks: freshUrl(), active_signature: true, idempotency_key: freshKey() };
    const first = await create(request);
    const { signature_secret, ...rest } = first.body;
    expect(signature_secret).toMatch(/^whsec_/);
    for (let repeat = 0; repeat < 2; repeat++) {
      const again = await create(request);
      expect(again.status).toBe(200);
      expect(again.body).toEqual(rest);
    }
  });

  test("is the same request however its maps are ordered", async () => {
    const request = { webhooks: freshUrl(), idempotency_key: freshKey() };
    const first = await create({ ...request, headers: { "X-A": "1", "X-B": "2" } });
    const again = await create({ ...request, headers: { "X-B": "2", "X-A": "1" } });
    expect(again.body.id).toBe(first.body.id);
  });

  test("refuses the key with another request", async () => {
    const request = { webhooks: freshUrl(), idempotency_key: freshKey() };
    await create(request);
    for (const other of [
      { webhooks: freshUrl() },
      { incoming: false, outgoing: true },
      { description: "" },
    ]) {
      const answer = await create({ ...request, ...other });
      expect(answer.status).toBe(400);
      expect(answer.body.message).toContain("was used with another request");
      expect(fieldsAtFault(answer)).toEqual(["idempotency_key"]);
    }
  });

  test("runs once when many ask at once, and all get the answer", async () => {
    const request = { webhooks: freshUrl(), idempotency_key: freshKey(), active_signature: true };
    const answers = await Promise.all(Array.from({ length: 12 }, () => create(request)));
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
    expect(new Set(answers.map(({ body }) => body.id)).size).toBe(1);
    expect(answers.filter(({ body }) => body.signature_secret !== undefined)).toHaveLength(1);
  });

  test("frees the key when the call fails", async () => {
    const idempotency_key = freshKey();
    const taken = freshUrl();
    await create({ webhooks: taken });
    expect((await create({ webhooks: taken, idempotency_key })).status).toBe(409);
    expect((await create({ webhooks: taken, idempotency_key })).status).toBe(409);
    expect((await create({ webhooks: "http:///", idempotency_key })).status).toBe(400);
    expect((await create({ webhooks: freshUrl(), idempotency_key })).status).toBe(200);
  });

  test("keeps the keys of tenants apart", async () => {
    const request = { webhooks: freshUrl(), idempotency_key: freshKey() };
    const [mine, theirs] = [await create(request), await create(request, asTenant("acme"))];
    expect(theirs.status).toBe(200);
    expect(theirs.body.id).not.toBe(mine.body.id);
  });

  test("does not give a narrowed key the answer of a wider one", async () => {
    await gateway.addClient("narrow");
    const { headers } = await gateway.createKey({ client_ref: "narrow" });
    const request = { webhooks: freshUrl(), idempotency_key: freshKey(), client_ref: "narrow" };
    await create(request);
    expect((await create(request, headers)).body.message).toContain("another request");
  });

  test("keeps the key for 24 hours", async () => {
    const request = { webhooks: freshUrl(), idempotency_key: freshKey() };
    const { id } = (await create(request)).body;
    gateway.clock.at = new Date(gateway.clock.at.getTime() + dayMs - 1);
    expect((await create(request)).body.id).toBe(id);
    gateway.clock.at = new Date(gateway.clock.at.getTime() + 1);
    // It is a new call, which finds the URL taken.
    expect((await create(request)).status).toBe(409);
  });

  test("frees the key of a call whose process died, after a minute", async () => {
    const request = { webhooks: freshUrl(), idempotency_key: freshKey() };
    const { id } = (await create(request)).body;
    await gateway.call("WebhookService/DeleteWebhook", { id });
    await gateway.database.pool.query("UPDATE idempotency_key SET response = NULL WHERE key = $1", [
      request.idempotency_key,
    ]);
    expect(await create(request)).toMatchObject({ status: 503, body: { code: "unavailable" } });
    gateway.clock.at = new Date(gateway.clock.at.getTime() + 60_000);
    expect((await create(request)).body.id).toBeGreaterThan(id);
  });

  test.each(["", " ", "a b", "ü", "x".repeat(201)])("refuses the key %j", async (idempotency_key) => {
    expect(fieldsAtFault(await create({ webhooks: freshUrl(), idempotency_key }))).toEqual([
      "idempotency_key",
    ]);
  });
});

describe("PublishEvents with an idempotency key", () => {
  const publish = (id: string, idempotency_key?: string) =>
    gateway.call("EventService/PublishEvents", {
      bodies: [JSON.stringify(anInboundBody(aTextMessage({ id })))],
      idempotency_key,
    });

  test("gives the first answer again, where the events alone would be told as repeats", async () => {
    const key = freshKey();
    const first = await publish("wamid.once", key);
    expect(first.body.events[0]).toMatchObject({ is_duplicate: false, event_id: expect.any(String) });
    expect((await publish("wamid.once", key)).text).toBe(first.text);
    expect((await publish("wamid.once")).body.events[0]).toMatchObject({ is_duplicate: true });
  });

  test("gives all who ask at once the same answer", async () => {
    const key = freshKey();
    const answers = await Promise.all(Array.from({ length: 8 }, () => publish("wamid.many", key)));
    expect(new Set(answers.map(({ text }) => text)).size).toBe(1);
    expect(answers[0]!.body.events[0].is_duplicate).toBe(false);
  });

  test("is a key of its own, apart from that of another call", async () => {
    const key = freshKey();
    await create({ webhooks: freshUrl(), idempotency_key: key });
    expect((await publish("wamid.apart", key)).status).toBe(200);
  });
});

describe("housekeeping", () => {
  test("deletes keys that are older than a day, and leaves the others", async () => {
    await gateway.database.pool.query("TRUNCATE idempotency_key");
    const now = gateway.clock.at.getTime();
    await gateway.database.pool.query(
      `INSERT INTO idempotency_key (tenant_id, rpc, key, request_digest, created_at)
       SELECT 1, 'test', 'old-' || n, sha256('x'), $1 FROM generate_series(1, 2500) AS n`,
      [new Date(now - dayMs)],
    );
    await gateway.database.pool.query(
      `INSERT INTO idempotency_key (tenant_id, rpc, key, request_digest, created_at)
       VALUES (1, 'test', 'young', sha256('x'), $1)`,
      [new Date(now - dayMs + 1)],
    );
    const housekeeper = createHousekeeper(
      {
        database: gateway.database,
        clock: { now: () => new Date(now), sleep: async () => undefined },
        log: {} as never,
      },
      { logDays: 30, conversationDays: 0, auditDays: 400 },
    );
    await housekeeper.sweep();
    await housekeeper.close();
    const { rows } = await gateway.database.pool.query("SELECT key FROM idempotency_key");
    expect(rows).toEqual([{ key: "young" }]);
  });
});
