import { hash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { scopes } from "../../server/rpc/auth.ts";
import { createKeyUsage } from "../../server/rpc/key-usage.ts";
import { openDirectory } from "../../server/store/directory.ts";
import { openDatabase } from "../../server/store/orm.ts";
import { waitFor } from "../helpers/wait.ts";
import { asTenant, aWebhook, fieldsAtFault, openRpcGateway, type RpcGateway } from "./gateway.ts";

let gateway: RpcGateway;
beforeAll(async () => {
  gateway = await openRpcGateway({ tenants: ["acme", "many"] });
});
afterAll(async () => {
  await gateway.close();
});

const create = (fields: Record<string, unknown>, headers?: Record<string, string>) =>
  gateway.call("ApiKeyService/CreateApiKey", { name: "ci", scopes: ["webhooks:read"], ...fields }, headers);
const list = async (tenant = "default") =>
  (await gateway.call("ApiKeyService/ListApiKeys", { page_size: 500 }, asTenant(tenant))).body.api_keys;

describe("CreateApiKey", () => {
  test("shows the key once, and what is known of it", async () => {
    await gateway.addClient("partner-1");
    const fields = {
      name: "Night shift",
      scopes: ["webhooks:read", "events:write"],
      client_ref: "partner-1",
      expires_at: "2027-01-01T00:00:00Z",
      rate_limit_per_minute: 5,
    };
    const { status, body } = await create(fields);
    expect(status).toBe(200);
    expect(body.key).toMatch(/^phk_[A-Za-z0-9_-]{43}$/);
    expect(body.api_key).toEqual({
      ...fields,
      id: expect.any(Number),
      hint: body.key.slice(-4),
      created_at: gateway.clock.at.getTime(),
    });
    expect(await list()).toContainEqual(body.api_key);
  });

  test("has 300 calls a minute unless told otherwise; 0 means no limit", async () => {
    expect((await create({})).body.api_key.rate_limit_per_minute).toBe(300);
    expect((await create({ rate_limit_per_minute: 0 })).body.api_key.rate_limit_per_minute).toBe(0);
  });

  test("gives another key each time", async () => {
    const keys = await Promise.all(Array.from({ length: 5 }, async () => (await create({})).body.key));
    expect(new Set(keys).size).toBe(5);
  });

  test("stores the key's SHA-256 and nothing else of it", async () => {
    const { body } = await create({ name: "stored" });
    const { rows } = await gateway.database.pool.query(
      "SELECT digest, k::text AS all FROM api_key k WHERE id = $1",
      [body.api_key.id],
    );
    expect(rows[0].digest).toEqual(hash("sha256", body.key, "buffer"));
    expect(rows[0].all).not.toContain(body.key.slice(4, 30));
  });

  const wrong: [string, Record<string, unknown>, string][] = [
    ["no name", { name: undefined }, "name"],
    ["an empty name", { name: "" }, "name"],
    ["a name of 101 characters", { name: "x".repeat(101) }, "name"],
    ["no scope", { scopes: [] }, "scopes"],
    ["a scope that does not exist", { scopes: ["webhooks:admin"] }, "scopes[0]"],
    ["the operator's rights", { scopes: ["operator"] }, "scopes[0]"],
    ["a scope twice", { scopes: ["webhooks:read", "webhooks:read"] }, "scopes"],
    ["a client that does not exist", { client_ref: "nobody" }, "client_ref"],
    ["an end that has come", { expires_at: "2026-03-05T12:00:00.123Z" }, "expires_at"],
    ["a limit above the greatest", { rate_limit_per_minute: 1_000_001 }, "rate_limit_per_minute"],
  ];
  test.each(wrong)("refuses %s and makes nothing", async (_, fields, field) => {
    const before = (await list()).length;
    const answer = await create(fields);
    expect(answer.status).toBe(400);
    expect(fieldsAtFault(answer)).toEqual([field]);
    expect(await list()).toHaveLength(before);
  });

  test("cannot be called with a tenant's key of every scope", async () => {
    const { headers } = await gateway.createKey();
    expect((await create({}, headers)).body.code).toBe("permission_denied");
  });
});

describe("a tenant's key", () => {
  test.each(scopes)("may be given %s", async (scope) => {
    expect((await create({ scopes: [scope] })).body.api_key.scopes).toEqual([scope]);
  });

  test("works in its own tenant, and sees that only", async () => {
    await gateway.call("WebhookService/CreateWebhook", aWebhook({ webhooks: "https://a.example/" }));
    const { headers } = await gateway.createKey({}, "acme");
    const made = await gateway.call("WebhookService/CreateWebhook", aWebhook(), headers);
    expect(made.status).toBe(200);
    const { body } = await gateway.call("WebhookService/ListWebhooks", {}, headers);
    expect(body.webhooks.map((one: { id: number }) => one.id)).toEqual([made.body.id]);
  });

  test("ends at its expiry, to the millisecond", async () => {
    const endMs = gateway.clock.at.getTime() + 1_000;
    const { headers } = await gateway.createKey({ expires_at: new Date(endMs).toISOString() });
    const status = async () => (await gateway.call("WebhookService/ListWebhooks", {}, headers)).status;
    gateway.clock.at = new Date(endMs - 1);
    expect(await status()).toBe(200);
    gateway.clock.at = new Date(endMs);
    expect(await status()).toBe(401);
  });
});

describe("RevokeApiKey", () => {
  test("ends a key at once, keeps it in the list, and may be repeated", async () => {
    const { id, headers } = await gateway.createKey();
    const first = await gateway.call("ApiKeyService/RevokeApiKey", { id });
    expect(first.body.api_key).toMatchObject({ id, revoked_at: gateway.clock.at.toISOString() });
    expect((await gateway.call("WebhookService/ListWebhooks", {}, headers)).status).toBe(401);
    gateway.clock.at = new Date(gateway.clock.at.getTime() + 1_000);
    const second = await gateway.call("ApiKeyService/RevokeApiKey", { id });
    expect(second.body).toEqual(first.body);
    expect(await list()).toContainEqual(first.body.api_key);
  });

  test("knows no key of another tenant", async () => {
    const { id, headers } = await gateway.createKey({}, "acme");
    expect((await gateway.call("ApiKeyService/RevokeApiKey", { id })).status).toBe(404);
    expect((await gateway.call("WebhookService/ListWebhooks", {}, headers)).status).toBe(200);
  });

  test("is followed by a process that is told nothing within a second", async () => {
    const { id, key } = await gateway.createKey();
    const digest = hash("sha256", key, "hex");
    const database = await openDatabase(gateway.databaseUrl, { onConnectionError: () => undefined });
    const other = await openDirectory(database, gateway.databaseUrl, gateway.sealer, {} as never);
    try {
      expect(other.current.apiKeys.get(digest)).toMatchObject({ id });
      // Without the word that would tell the others.
      const announce = gateway.announce.run;
      gateway.announce.run = async () => undefined;
      await gateway.call("ApiKeyService/RevokeApiKey", { id });
      gateway.announce.run = announce;
      await waitFor(
        "end of the key",
        () => other.current.apiKeys.has(digest),
        (isThere) => !isThere,
        1_000,
      );
    } finally {
      await other.close();
      await database.close();
    }
  });
});

describe("ListApiKeys", () => {
  test("gives pages, newest first, of one tenant", async () => {
    const made: number[] = [];
    for (let count = 0; count < 5; count++) made.push((await gateway.createKey({}, "many")).id);
    const seen: number[] = [];
    let page_token = "";
    do {
      const { body } = await gateway.get(
        "ApiKeyService/ListApiKeys",
        { page_size: 2, page_token },
        asTenant("many"),
      );
      seen.push(...body.api_keys.map((one: { id: number }) => one.id));
      page_token = body.next_page_token;
    } while (page_token !== "");
    expect(seen).toEqual(made.reverse());
  });
});

describe("the last use of a key", () => {
  test("is written at the end, and never set back", async () => {
    const { id } = await gateway.createKey();
    const clock = { now: () => new Date("2026-03-05T13:00:00Z"), sleep: async () => undefined };
    const parts = { database: gateway.database, clock, log: {} as never };
    for (const at of ["2026-03-05T13:00:00Z", "2026-03-05T12:00:00Z"]) {
      const usage = createKeyUsage({ ...parts, clock: { ...clock, now: () => new Date(at) } });
      usage.note(id);
      await usage.close();
    }
    const found = (await list()).find((one: { id: number }) => one.id === id);
    expect(found.last_used_at).toBe("2026-03-05T13:00:00Z");
  });

  test("is written at once the first time, and then once a minute at most", async () => {
    const { id } = await gateway.createKey();
    let at = new Date("2026-03-05T14:00:00Z");
    const clock = { now: () => at, sleep: async () => undefined };
    const usage = createKeyUsage({ database: gateway.database, clock, log: {} as never });
    const seen = async () => {
      await usage.write();
      return (await list()).find((one: { id: number }) => one.id === id).last_used_at;
    };
    usage.note(id);
    expect(await seen()).toBe("2026-03-05T14:00:00Z");
    at = new Date("2026-03-05T14:00:59Z");
    usage.note(id);
    expect(await seen()).toBe("2026-03-05T14:00:00Z");
    at = new Date("2026-03-05T14:01:00Z");
    expect(await seen()).toBe("2026-03-05T14:00:59Z");
    await usage.close();
  });

  test("is absent for a key that was never used", async () => {
    const { id } = await gateway.createKey();
    const found = (await list()).find((one: { id: number }) => one.id === id);
    expect(found).not.toHaveProperty("last_used_at");
  });
});
