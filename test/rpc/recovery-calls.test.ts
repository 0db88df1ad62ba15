import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { asTenant, aWebhook, fieldsAtFault, openRpcGateway, type RpcGateway } from "./gateway.ts";
import { addDelivery, idAt } from "./log-rows.ts";

let gateway: RpcGateway;
let webhookId: number;
let offId: number;
beforeAll(async () => {
  gateway = await openRpcGateway({ tenants: ["acme", "busy"] });
  await gateway.addClient("mine", ["620000000000071"], "acme");
  await gateway.addClient("theirs", ["620000000000072"], "acme");
  webhookId = await createWebhook({ webhooks: "https://example.com/on" });
  offId = await createWebhook({ webhooks: "https://example.com/off", status: false });
});
afterAll(() => gateway.close());

async function createWebhook(fields: Record<string, unknown>, headers?: Record<string, string>) {
  return (await gateway.call("WebhookService/CreateWebhook", aWebhook(fields), headers)).body.id as number;
}

const start = (request: object, headers?: Record<string, string>) =>
  gateway.call("DeliveryService/StartRecovery", request, headers);
const get = (id: string, headers?: Record<string, string>) =>
  gateway.call("DeliveryService/GetRecovery", { id }, headers);

describe("StartRecovery", () => {
  test("tells what it is about, with its defaults, and how many there are", async () => {
    for (const [index, state] of (["failed", "canceled", "delivered", "skipped"] as const).entries()) {
      const id = idAt(`2026-03-05T11:00:0${index}Z`);
      const reason = { failed: "attempts_exhausted", canceled: "webhook_disabled" }[state as string];
      await addDelivery(gateway, {
        id,
        webhookId,
        state,
        body: Buffer.from("{}"),
        ...(reason && { reason }),
      });
    }
    await gateway.database.pool.query("UPDATE delivery SET finished_at = '2026-03-05T11:30:00Z'");
    const { body } = await start({ webhook_id: webhookId });
    expect(body.recovery).toEqual({
      id: expect.stringMatching(/^[0-9a-f-]{36}$/),
      webhook_id: webhookId,
      missed: false,
      states: ["failed", "canceled"],
      event_types: [],
      until: "2026-03-05T12:00:00.123Z",
      rate_per_second: 50,
      state: "running",
      total: 2,
      done: 0,
      under_way: 0,
      delivered: 0,
      failed: 0,
      started_at: "2026-03-05T12:00:00.123Z",
    });
    expect((await get(body.recovery.id.toUpperCase())).body).toEqual(body);
    const future = {
      until: "2030-01-01T00:00:00Z",
      since: "2026-03-05T11:00:01Z",
      states: ["delivered", "failed"],
    };
    expect((await start(future)).body.recovery).toMatchObject({
      since: "2026-03-05T11:00:01Z",
      until: "2026-03-05T12:00:00.123Z",
      states: ["delivered", "failed"],
      total: 1,
    });
    const { rows } = await gateway.database.pool.query(
      "SELECT actor, subject_id FROM audit_entry WHERE action = 'recovery.started' ORDER BY id LIMIT 1",
    );
    expect(rows).toEqual([{ actor: "operator", subject_id: body.recovery.id }]);
  });

  test.each<[string, object, string]>([
    ["a state that cannot be sent again", { states: ["pending"] }, "states[0]"],
    ["a state twice", { states: ["failed", "failed"] }, "states"],
    ["a rate of nothing", { rate_per_second: 0 }, "rate_per_second"],
    ["a rate beyond the cap", { rate_per_second: 1_001 }, "rate_per_second"],
    ["a pattern in the middle of a type", { event_types: ["message.*.x"] }, "event_types[0]"],
    ["webhook 0", { webhook_id: 0 }, "webhook_id"],
  ])("refuses %s", async (_, request, field) => {
    const answer = await start(request);
    expect([answer.status, answer.body.code]).toEqual([400, "invalid_argument"]);
    expect(fieldsAtFault(answer)).toEqual([field]);
  });

  test.each<[string, object, RegExp]>([
    ["states with missed", { missed: true, states: ["failed"] }, /^states: must be empty with missed/],
    [
      "an end before the beginning",
      { since: "2026-03-05T11:00:00Z", until: "2026-03-05T10:00:00Z" },
      /^until: must be later than since/,
    ],
  ])("refuses %s", async (_, request, message) => {
    const { body } = await start(request);
    expect(body).toMatchObject({ code: "invalid_argument", message: expect.stringMatching(message) });
  });

  test("refuses a webhook that is off, deleted, or not there", async () => {
    expect((await start({ webhook_id: offId })).body).toMatchObject({
      code: "failed_precondition",
      message: "the webhook is off: turn it on first (status: true)",
    });
    const gone = await createWebhook({ webhooks: "https://example.com/gone" });
    await gateway.call("WebhookService/DeleteWebhook", { id: gone });
    expect((await start({ webhook_id: gone })).body).toMatchObject({
      code: "failed_precondition",
      message: "the webhook is deleted: it can get nothing any more",
    });
    expect((await start({ webhook_id: 999_999 })).body).toMatchObject({
      code: "not_found",
      message: "webhook 999999 does not exist",
    });
  });

  test("lets a tenant run twenty and no more, until one is canceled", async () => {
    const busy = asTenant("busy");
    const ids: string[] = [];
    for (let count = 0; count < 20; count++) ids.push((await start({}, busy)).body.recovery.id);
    const refused = await start({}, busy);
    expect([refused.status, refused.body.code]).toEqual([429, "resource_exhausted"]);
    expect((await start({})).status).toBe(200);
    await gateway.call("DeliveryService/CancelRecovery", { id: ids[0] }, busy);
    expect((await start({}, busy)).status).toBe(200);
    const { body } = await gateway.call("DeliveryService/ListRecoveries", { page_size: 15 }, busy);
    expect(body.recoveries).toHaveLength(15);
    const page = { page_size: 15, page_token: body.next_page_token };
    const rest = (await gateway.call("DeliveryService/ListRecoveries", page, busy)).body;
    expect(rest.next_page_token).toBe("");
    const listed = [...body.recoveries, ...rest.recoveries].map(({ id }: { id: string }) => id);
    expect(listed.slice(1)).toEqual(ids.toReversed());
  });

  test("of a narrowed key is about its client's webhooks, and seen with keys of the client and the tenant", async () => {
    const acme = asTenant("acme");
    const mine = await gateway.createKey({ client_ref: "mine" }, "acme");
    const theirs = await gateway.createKey({ client_ref: "theirs" }, "acme");
    const own = await createWebhook({ webhooks: "https://example.com/mine", client_ref: "mine" }, acme);
    const other = await createWebhook({ webhooks: "https://example.com/theirs", client_ref: "theirs" }, acme);
    for (const webhook of [own, other]) {
      const row = { webhookId: webhook, tenantId: gateway.tenantIds.acme!, state: "failed" as const };
      const id = await addDelivery(gateway, {
        ...row,
        id: idAt("2026-03-05T11:00:00Z"),
        reason: "attempts_exhausted",
        body: Buffer.from("{}"),
      });
      await gateway.database.pool.query(
        "UPDATE delivery SET finished_at = '2026-03-05T11:30:00Z' WHERE id = $1",
        [id],
      );
    }
    const { recovery } = (await start({}, mine.headers)).body;
    expect(recovery.total).toBe(1);
    expect((await start({}, acme)).body.recovery.total).toBe(2);
    for (const headers of [mine.headers, acme]) expect((await get(recovery.id, headers)).status).toBe(200);
    expect((await get(recovery.id, theirs.headers)).body.code).toBe("not_found");
  });

  test("needs deliveries:write", async () => {
    const reader = await gateway.createKey({ scopes: ["deliveries:read"] });
    expect((await start({}, reader.headers)).body).toMatchObject({
      code: "permission_denied",
      message: expect.stringContaining("deliveries:write"),
    });
  });
});
