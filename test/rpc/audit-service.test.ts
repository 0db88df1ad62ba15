import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { asTenant, aWebhook, openRpcGateway, type RpcGateway } from "./gateway.ts";

interface Entry {
  occurred_at: string;
  tenant: string;
  actor: string;
  action: string;
  subject_id: string;
  changes: Record<string, unknown>;
}

let gateway: RpcGateway;
beforeAll(async () => {
  gateway = await openRpcGateway({ tenants: ["acme"] });
});
afterAll(async () => {
  await gateway.close();
});
beforeEach(async () => {
  await gateway.database.pool.query("TRUNCATE audit_entry");
});

let count = 0;
const url = () => `https://example.com/${++count}`;
const entries = async (tenant = "default", request: object = {}): Promise<Entry[]> =>
  (await gateway.call("AuditService/ListAuditEntries", request, asTenant(tenant))).body.entries;
const create = async (fields: Record<string, unknown> = {}, headers?: Record<string, string>) =>
  (await gateway.call("WebhookService/CreateWebhook", aWebhook({ webhooks: url(), ...fields }), headers))
    .body;

describe("a change of a webhook", () => {
  test("is noted when it is made: who, when, and the values, but no secret and no header", async () => {
    const headers = { Authorization: "Bearer header-value-to-hide" };
    const made = await create({ active_signature: true, headers, transformer_options: { history_size: 4 } });
    const [entry, ...rest] = await entries();
    expect(rest).toEqual([]);
    expect(entry).toEqual({
      occurred_at: gateway.clock.at.toISOString(),
      tenant: "default",
      actor: "operator",
      action: "webhook.created",
      subject_id: String(made.id),
      changes: {
        webhooks: made.webhooks,
        status: true,
        incoming: true,
        outgoing: false,
        schedule_activity: false,
        waiting_duration: 0,
        active_signature: true,
        transformer: "insights",
        transformer_options: { history_size: 4 },
        event_types: [],
        client_ref: null,
        max_in_flight: 64,
        paused: false,
        description: "",
        signature_secret: "set",
        headers: "set",
      },
    });
  });

  test("is noted with what changed and nothing else", async () => {
    const { id } = await create({ active_signature: true, headers: { "X-A": "1" } });
    const changes: [Record<string, unknown>, Record<string, unknown>][] = [
      [{ description: "new", status: true }, { description: "new" }],
      [
        { status: false, max_in_flight: 2 },
        { status: false, max_in_flight: 2 },
      ],
      [{ headers: { "X-A": "2" } }, { headers: "set" }],
      [{ update_mask: "headers" }, { headers: "removed" }],
      [{ active_signature: false }, { active_signature: false, signature_secret: "removed" }],
    ];
    for (const [change, noted] of changes) {
      await gateway.call("WebhookService/UpdateWebhook", { id, ...change });
      const [entry] = await entries();
      expect(entry).toMatchObject({ action: "webhook.updated", subject_id: String(id) });
      expect(entry?.changes).toEqual(noted);
    }
    expect(await entries()).toHaveLength(1 + changes.length);
  });

  test("is noted when the secret is rotated, and when it is deleted, with the key that did it", async () => {
    const key = await gateway.createKey({}, "acme");
    const { id } = await create({}, key.headers);
    await gateway.call("WebhookService/RotateWebhookSecret", { id, overlap_seconds: 60 }, key.headers);
    await gateway.call("WebhookService/DeleteWebhook", { id }, key.headers);
    const [deleted, rotated, created] = await entries("acme");
    expect(
      [created, rotated, deleted].map((entry) => [entry!.action, entry!.actor, entry!.subject_id]),
    ).toEqual([
      ["webhook.created", `key:${key.id}`, String(id)],
      ["webhook.secret_rotated", `key:${key.id}`, String(id)],
      ["webhook.deleted", `key:${key.id}`, String(id)],
    ]);
    expect(rotated?.changes).toEqual({
      signature_secret: "set",
      overlap_seconds: 60,
      active_signature: true,
    });
  });
});

describe("a change of a key or a tenant", () => {
  test("is noted with the tenant that it is about", async () => {
    await gateway.call("TenantService/CreateTenant", { name: "brief" });
    const { id } = await gateway.createKey({ name: "ci", scopes: ["events:read"] }, "brief");
    await gateway.call("ApiKeyService/RevokeApiKey", { id }, asTenant("brief"));
    await gateway.call("ApiKeyService/RevokeApiKey", { id }, asTenant("brief"));
    await create({}, asTenant("brief"));
    await gateway.call("TenantService/DeleteTenant", { name: "brief", force: true });
    const found = (await entries("default", { all_tenants: true })).reverse();
    expect(found.map(({ tenant, actor, action, subject_id }) => [tenant, actor, action, subject_id])).toEqual(
      [
        ["brief", "operator", "tenant.created", "brief"],
        ["brief", "operator", "api_key.created", String(id)],
        ["brief", "operator", "api_key.revoked", String(id)],
        ["brief", "operator", "webhook.created", expect.any(String)],
        ["brief", "operator", "webhook.deleted", found[3]?.subject_id],
        ["brief", "operator", "tenant.deleted", "brief"],
      ],
    );
    expect(found[1]?.changes).toEqual({
      name: "ci",
      scopes: ["events:read"],
      client_ref: null,
      rate_limit_per_minute: 0,
      expires_at: null,
    });
    expect(found[5]?.changes).toEqual({ webhooks: 1, clients: 0, api_keys: 0 });
    expect(await entries()).toEqual([]);
  });
});

test("what goes with a client or a tenant is noted, each thing by itself", async () => {
  await gateway.call("TenantService/CreateTenant", { name: "whole" });
  const headers = asTenant("whole");
  for (const client_ref of ["one", "two"]) {
    await gateway.call("ClientService/CreateClient", { client_ref }, headers);
  }
  const scopes = ["events:read"];
  const keyOf = async (fields: object) =>
    (await gateway.call("ApiKeyService/CreateApiKey", { name: "n", scopes, ...fields }, headers)).body
      .api_key;
  const narrowed = await keyOf({ client_ref: "one" });
  const revoked = await keyOf({ client_ref: "one" });
  const wide = await keyOf({});
  await gateway.call("ApiKeyService/RevokeApiKey", { id: revoked.id }, headers);
  await gateway.database.pool.query("TRUNCATE audit_entry");

  await gateway.call("ClientService/DeleteClient", { client_ref: "one" }, headers);
  await gateway.call("TenantService/DeleteTenant", { name: "whole", force: true });
  const found = (await entries("default", { all_tenants: true })).reverse();
  expect(found.map(({ tenant, action, subject_id }) => [tenant, action, subject_id])).toEqual([
    ["whole", "api_key.revoked", String(narrowed.id)],
    ["whole", "client.deleted", "one"],
    ["whole", "client.deleted", "two"],
    ["whole", "api_key.revoked", String(wide.id)],
    ["whole", "tenant.deleted", "whole"],
  ]);
});

describe("what is refused", () => {
  test("is not noted", async () => {
    const { id, webhooks } = await create();
    const reader = await gateway.createKey({ scopes: ["webhooks:read"] });
    const busy = await create({}, asTenant("acme"));
    await gateway.database.pool.query("TRUNCATE audit_entry");
    const refusals: [string, unknown, Record<string, string>?][] = [
      ["WebhookService/CreateWebhook", aWebhook({ webhooks })],
      ["WebhookService/CreateWebhook", aWebhook({ webhooks: url(), client_ref: "nobody" })],
      ["WebhookService/CreateWebhook", aWebhook({ webhooks: url() }), reader.headers],
      ["WebhookService/CreateWebhook", aWebhook({ webhooks: url() }), {}],
      ["WebhookService/UpdateWebhook", { id, active_signature: true }],
      ["WebhookService/UpdateWebhook", { id: busy.id, status: false }],
      ["WebhookService/UpdateWebhook", { id, client_ref: "nobody" }],
      ["WebhookService/DeleteWebhook", { id: 999_999 }],
      ["WebhookService/RotateWebhookSecret", { id: 999_999 }],
      ["ApiKeyService/CreateApiKey", { name: "x", scopes: ["webhooks:read"], client_ref: "nobody" }],
      ["ApiKeyService/CreateApiKey", { name: "x", scopes: ["webhooks:read"] }, reader.headers],
      ["ApiKeyService/RevokeApiKey", { id: 999_999 }],
      ["TenantService/CreateTenant", { name: "acme" }],
      ["TenantService/DeleteTenant", { name: "acme" }],
      ["TenantService/DeleteTenant", { name: "default", force: true }],
    ];
    for (const [method, request, headers] of refusals) {
      expect((await gateway.call(method, request, headers)).status, method).toBeGreaterThanOrEqual(400);
    }
    const { rows } = await gateway.database.pool.query("SELECT * FROM audit_entry");
    expect(rows).toEqual([]);
  });
});

describe("ListAuditEntries", () => {
  test("gives pages, newest first", async () => {
    const ids: string[] = [];
    for (let made = 0; made < 5; made++) ids.push(String((await create({}, asTenant("acme"))).id));
    const seen: string[] = [];
    let page_token = "";
    do {
      const { body } = await gateway.get(
        "AuditService/ListAuditEntries",
        { page_size: 2, page_token },
        asTenant("acme"),
      );
      seen.push(...body.entries.map((entry: Entry) => entry.subject_id));
      page_token = body.next_page_token;
    } while (page_token !== "");
    expect(seen).toEqual(ids.reverse());
  });
});
