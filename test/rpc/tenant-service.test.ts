import { randomFillSync } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createIdSource } from "../../server/domain/ids.ts";
import { changeConfiguration } from "../../server/store/configuration.ts";
import { waitFor } from "../helpers/wait.ts";
import { asTenant, aWebhook, fieldsAtFault, openRpcGateway, type RpcGateway } from "./gateway.ts";

let gateway: RpcGateway;
beforeAll(async () => {
  gateway = await openRpcGateway();
});
afterAll(async () => {
  await gateway.close();
});

const create = (name: unknown) => gateway.call("TenantService/CreateTenant", { name });
const remove = (name: string, force?: boolean) => gateway.call("TenantService/DeleteTenant", { name, force });

describe("CreateTenant", () => {
  test("adds a tenant that calls can name at once", async () => {
    const { status, body } = await create("acme");
    expect(status).toBe(200);
    expect(body.tenant).toEqual({
      id: expect.any(Number),
      name: "acme",
      created_at: gateway.clock.at.getTime(),
    });
    expect((await gateway.call("TenantService/GetTenant", { name: "acme" })).body).toEqual(body);
    expect((await gateway.call("WebhookService/ListWebhooks", {}, asTenant("acme"))).status).toBe(200);
  });

  test("refuses a name that is taken, also when two ask at once", async () => {
    const answers = await Promise.all([create("twice"), create("twice"), create("default")]);
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 409, 409]);
  });

  test.each([undefined, "", "Acme", "-acme", "_acme", "a b", "ä", "x".repeat(65), "a\u0000"])(
    "refuses the name %j",
    async (name) => {
      const answer = await create(name);
      expect(answer.status).toBe(400);
      expect(fieldsAtFault(answer)).toEqual(["name"]);
    },
  );

  test.each(["a", "0", "a-b_c", "x".repeat(64)])("takes the name %j", async (name) => {
    expect((await create(name)).status).toBe(200);
  });
});

describe("ListTenants", () => {
  test("gives pages, newest first, without deleted ones", async () => {
    for (const name of ["p1", "p2", "p3"]) await create(name);
    await remove("p2");
    const first = (await gateway.get("TenantService/ListTenants", { page_size: 2 })).body;
    expect(first.tenants.map((one: { name: string }) => one.name)).toEqual(["p3", "p1"]);
    const rest = (
      await gateway.get("TenantService/ListTenants", { page_size: 500, page_token: first.next_page_token })
    ).body;
    expect(rest.tenants.at(-1)).toMatchObject({ name: "default" });
  });
});

describe("DeleteTenant", () => {
  test("never deletes default", async () => {
    for (const force of [false, true]) {
      const answer = await remove("default", force);
      expect(answer.body).toMatchObject({
        code: "failed_precondition",
        message: "tenant default cannot be deleted",
      });
    }
  });

  test("knows no tenant that is not there, or was deleted", async () => {
    await create("gone");
    expect((await remove("gone")).status).toBe(200);
    for (const name of ["gone", "never"]) expect((await remove(name, true)).status).toBe(404);
  });

  test("refuses with counts while there are webhooks or work, unless forced, which cancels it all", async () => {
    await create("busy");
    await gateway.addClient("busy-client", ["620000000000900"], "busy");
    const key = await gateway.createKey({}, "busy");
    const webhook = (
      await gateway.call(
        "WebhookService/CreateWebhook",
        aWebhook({ active_signature: true, headers: { "X-Key": "value" }, idempotency_key: "once" }),
        asTenant("busy"),
      )
    ).body;
    const tenantId = gateway.directory.current.tenantIds.get("busy")!;
    const deliveryIds = await addPending(webhook.id, tenantId, 3);

    const refused = await remove("busy");
    expect(refused.body.code).toBe("failed_precondition");
    expect(refused.body.message).toContain("1 webhooks and 3 pending deliveries");
    expect((await gateway.call("WebhookService/ListWebhooks", {}, key.headers)).body.webhooks).toHaveLength(
      1,
    );

    expect((await remove("busy", true)).status).toBe(200);
    expect((await gateway.call("WebhookService/ListWebhooks", {}, key.headers)).status).toBe(401);
    expect((await gateway.call("WebhookService/ListWebhooks", {}, asTenant("busy"))).status).toBe(404);
    const { rows } = await gateway.database.pool.query(
      "SELECT state, reason, due_at FROM delivery WHERE id = ANY($1)",
      [deliveryIds],
    );
    expect(rows).toEqual(
      deliveryIds.map(() => ({ state: "canceled", reason: "webhook_deleted", due_at: null })),
    );
    const left = await gateway.database.pool.query(
      `SELECT (SELECT count(*)::int FROM webhook_secret WHERE webhook_id = $1) AS secrets,
         (SELECT count(*)::int FROM webhook WHERE id = $1 AND headers_sealed IS NOT NULL) AS headers,
         (SELECT count(*)::int FROM idempotency_key WHERE tenant_id = $2) AS answers,
         (SELECT client_id FROM phone_number WHERE phone_number_id = '620000000000900') AS client_id`,
      [webhook.id, tenantId],
    );
    expect(left.rows).toEqual([{ secrets: 0, headers: 0, answers: 0, client_id: null }]);
    expect(gateway.directory.current.numbers.has("620000000000900")).toBe(false);
    expect(gateway.directory.current.webhooks.has(webhook.id)).toBe(false);
  });

  test("counts work that a deleted webhook's last attempt still is", async () => {
    await create("leased");
    const webhook = (await gateway.call("WebhookService/CreateWebhook", aWebhook(), asTenant("leased"))).body;
    const tenantId = gateway.directory.current.tenantIds.get("leased")!;
    await gateway.call("WebhookService/DeleteWebhook", { id: webhook.id }, asTenant("leased"));
    await addPending(webhook.id, tenantId, 1);
    expect((await remove("leased")).body.message).toContain("0 webhooks and 1 pending deliveries");
  });

  test("leaves nothing behind that a call made meanwhile", async () => {
    await create("ended");
    const headers = asTenant("ended");
    const held = Promise.withResolvers<void>();
    const holding = Promise.withResolvers<void>();
    const holder = changeConfiguration(gateway.database, () => {
      held.resolve();
      return holding.promise;
    });
    await held.promise;
    const waiting = async (count: number) => {
      const ask = async () =>
        (
          await gateway.database.pool.query(
            `SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
          )
        ).rowCount;
      await waitFor(`${count} calls that wait for the lock`, ask, (found) => found === count, 5_000);
    };
    const removal = remove("ended", true);
    await waiting(1);
    // All were let in while the tenant was there.
    const late = [
      gateway.call("ApiKeyService/CreateApiKey", { name: "late", scopes: ["webhooks:read"] }, headers),
      gateway.call("WebhookService/CreateWebhook", aWebhook(), headers),
      gateway.call("ClientService/CreateClient", { client_ref: "late" }, headers),
    ];
    await waiting(4);
    holding.resolve();
    await holder;
    expect((await removal).status).toBe(200);
    for (const answer of await Promise.all(late)) {
      expect(answer.status).toBe(404);
      expect(answer.body.message).toBe("the tenant does not exist any more");
    }
  });

  test("gives the name to a new tenant, which sees nothing of the old one", async () => {
    await create("again");
    const old = await gateway.createKey({}, "again");
    await gateway.call("WebhookService/CreateWebhook", aWebhook(), asTenant("again"));
    await remove("again", true);
    expect((await create("again")).status).toBe(200);
    expect((await gateway.call("WebhookService/ListWebhooks", {}, old.headers)).status).toBe(401);
    const { body } = await gateway.call("WebhookService/ListWebhooks", {}, asTenant("again"));
    expect(body.webhooks).toEqual([]);
    expect((await gateway.call("ApiKeyService/ListApiKeys", {}, asTenant("again"))).body.api_keys).toEqual(
      [],
    );
  });
});

async function addPending(webhookId: number, tenantId: number, count: number): Promise<string[]> {
  const ids = createIdSource(
    () => gateway.clock.at.getTime(),
    (bytes) => randomFillSync(bytes),
  );
  await gateway.partitions.ensureDay(gateway.clock.at);
  const made = Array.from({ length: count }, () => ids.next());
  for (const id of made) {
    await gateway.database.pool.query(
      `INSERT INTO delivery (webhook_id, id, tenant_id, event_id, event_type, state, due_at)
       VALUES ($1, $2, $3, $2, 'message.received', 'pending', $4)`,
      [webhookId, id, tenantId, gateway.clock.at],
    );
  }
  return made;
}
