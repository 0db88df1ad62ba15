import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestGateway, type TestGateway } from "../helpers/gateway.ts";
import { queryRows } from "../helpers/query-rows.ts";
import { openPosthorn, type Posthorn } from "./posthorn.ts";

let gateway: TestGateway;
let posthorn: Posthorn;
beforeAll(async () => {
  gateway = await startTestGateway();
  posthorn = await openPosthorn(() => gateway.url());
});
afterAll(async () => {
  await posthorn?.close();
  await gateway?.close();
});

describe("keys", () => {
  test("are made with what is asked for, work at once, and are never shown again", async () => {
    const args = ["--scope", "webhooks:read,deliveries:read", "--rate-limit", "5", "--expires", "90d"];
    const made = await posthorn.run(["keys", "create", "--name", "of tests", ...args, "--json"]);
    expect(made.code).toBe(0);
    expect(made.json).toMatchObject({
      key: expect.stringMatching(/^phk_[\w-]{43}$/),
      api_key: { name: "of tests", scopes: ["webhooks:read", "deliveries:read"], rate_limit_per_minute: 5 },
    });
    const days = (Date.parse(made.json.api_key.expires_at) - Date.now()) / 86_400_000;
    expect(days).toBeGreaterThan(89.9);
    expect(days).toBeLessThan(90.1);
    const { key } = made.json;
    expect((await posthorn.run(["webhooks", "list"], { env: { POSTHORN_KEY: key } })).code).toBe(0);
    const table = await posthorn.run(["keys", "list"]);
    expect(table.stdout).toMatch(/^\d+ +of tests +…\S{4} +live +- .*webhooks:read,deliveries:read$/m);
    const list = await posthorn.run(["keys", "list", "--json"]);
    expect(list.json[0]).toMatchObject({ id: made.json.api_key.id, name: "of tests" });
    expect(table.stdout + list.stdout).not.toContain(key);
  });

  test("for people, come with a word that they are shown this once", async () => {
    const { stdout, stderr } = await posthorn.run([
      "keys",
      "create",
      "--name",
      "n",
      "--scope",
      "events:read",
    ]);
    expect(stdout).toMatch(/^key +phk_[\w-]{43}$/m);
    expect(stderr).toBe("The key is shown this once: keep it now.\n");
  });

  test("of one client reach that client", async () => {
    await posthorn.run(["clients", "create", "narrow"]);
    const args = ["--name", "n", "--scope", "clients:read", "--client", "narrow", "--json"];
    const { json } = await posthorn.run(["keys", "create", ...args]);
    const listed = await posthorn.run(["clients", "list", "--json"], { env: { POSTHORN_KEY: json.key } });
    expect(listed.json.map((each: { client_ref: string }) => each.client_ref)).toEqual(["narrow"]);
  });

  test("work no more once they are revoked", async () => {
    const { json } = await posthorn.run([
      "keys",
      "create",
      "--name",
      "n",
      "--scope",
      "webhooks:read",
      "--json",
    ]);
    const revoked = await posthorn.run(["keys", "revoke", String(json.api_key.id), "--json"]);
    expect(revoked.code).toBe(0);
    expect(revoked.json).toMatchObject({ id: json.api_key.id, revoked_at: expect.any(String) });
    const refused = await posthorn.run(["webhooks", "list"], { env: { POSTHORN_KEY: json.key } });
    expect(refused.code).toBe(4);
    expect(refused.stderr).toMatch(/^posthorn: the key is unknown, revoked or expired: set POSTHORN_KEY/);
    expect(refused.stderr).not.toContain(json.key);
    expect((await posthorn.run(["keys", "revoke", "99999"])).code).toBe(3);
  });

  test("are for the operator alone", async () => {
    const { json } = await posthorn.run([
      "keys",
      "create",
      "--name",
      "n",
      "--scope",
      "webhooks:read",
      "--json",
    ]);
    const env = { POSTHORN_KEY: json.key };
    for (const args of [
      ["keys", "list"],
      ["tenants", "list"],
      ["audit", "list"],
    ]) {
      const { code, stderr } = await posthorn.run(args, { env });
      expect(code).toBe(4);
      expect(stderr).toContain("operator key");
    }
  });
});

describe("clients", () => {
  test("are registered, changed and shown without their secrets", async () => {
    const accessToken = "the-access-token-of-tests";
    const appSecret = "the-app-secret-of-tests";
    const args = [
      "--number",
      "1001=+49 30 1234,1002",
      "--waba",
      "2001",
      "--access-token-file",
      "-",
      "--json",
    ];
    const made = await posthorn.run(["clients", "create", "partner", ...args], { input: `${accessToken}\n` });
    expect(made.code).toBe(0);
    expect(made.json).toMatchObject({
      client_ref: "partner",
      phone_numbers: [
        { phone_number_id: "1001", display_phone_number: "+49301234" },
        { phone_number_id: "1002" },
      ],
      waba_ids: ["2001"],
      has_access_token: true,
      has_app_secret: false,
    });
    const update = ["clients", "update", "partner", "--number", "1002", "--app-secret-file", "-", "--json"];
    const changed = await posthorn.run(update, { input: appSecret });
    expect(changed.json).toMatchObject({ has_app_secret: true, waba_ids: ["2001"] });
    expect(changed.json.phone_numbers).toMatchObject([{ phone_number_id: "1002" }]);
    const cleared = await posthorn.run([
      "clients",
      "update",
      "partner",
      "--clear",
      "waba_ids,access_token",
      "--json",
    ]);
    expect(cleared.json).toMatchObject({ waba_ids: [], has_access_token: false, has_app_secret: true });
    const shown = await Promise.all([
      posthorn.run(["clients", "get", "partner"]),
      posthorn.run(["clients", "list"]),
      posthorn.run(["audit", "list", "--json"]),
    ]);
    expect(shown[1].stdout).toMatch(/^partner +1002 +- +no +yes$/m);
    for (const { stdout, stderr } of [made, changed, ...shown]) {
      expect(stdout + stderr).not.toContain(accessToken);
      expect(stdout + stderr).not.toContain(appSecret);
    }
  });

  test("that webhooks name go only by force, and say what went with them", async () => {
    await posthorn.run(["clients", "create", "busy"]);
    await posthorn.run(["webhooks", "create", "https://example.com/busy", "--client", "busy"]);
    const refused = await posthorn.run(["clients", "delete", "busy"]);
    expect(refused.code).toBe(6);
    expect(refused.stderr).toMatch(/^posthorn: .*1 webhook/);
    const forced = await posthorn.run(["clients", "delete", "busy", "--force", "--json"]);
    expect(forced.json).toEqual({
      client_ref: "busy",
      deleted: true,
      deleted_webhook_count: 1,
      canceled_delivery_count: 0,
    });
    expect((await posthorn.run(["clients", "get", "busy"])).code).toBe(3);
  });
});

describe("tenants", () => {
  test("are added, spoken of by --tenant, and deleted", async () => {
    const made = await posthorn.run(["tenants", "create", "acme", "--json"]);
    expect(made.json).toMatchObject({ name: "acme", id: expect.any(Number) });
    expect((await posthorn.run(["tenants", "create", "acme"])).code).toBe(6);
    await posthorn.run(["webhooks", "create", "https://example.com/acme", "--tenant", "acme"]);
    const own = (await posthorn.run(["webhooks", "list", "--tenant", "acme", "--json"])).json;
    expect(own.map((each: { webhooks: string }) => each.webhooks)).toEqual(["https://example.com/acme"]);
    const refused = await posthorn.run(["tenants", "delete", "acme"]);
    expect(refused.code).toBe(6);
    const forced = await posthorn.run(["tenants", "delete", "acme", "--force", "--json"]);
    expect(forced.json).toEqual({ name: "acme", deleted: true });
    const gone = await posthorn.run(["webhooks", "list", "--tenant", "acme"]);
    expect(gone.code).toBe(3);
  });

  test("of more than a page are all listed", async () => {
    await queryRows(gateway.databaseUrl)(
      "INSERT INTO tenant (name, version, created_at) SELECT 'many-' || n, 1, now() FROM generate_series(1, 1100) AS n",
    );
    const { json } = await posthorn.run(["tenants", "list", "--json"]);
    const names: string[] = json.map((each: { name: string }) => each.name);
    expect(names.filter((name) => name.startsWith("many-"))).toHaveLength(1_100);
    expect(new Set(names).size).toBe(names.length);
    const limited = await posthorn.run(["tenants", "list", "--json", "--limit", "501"]);
    expect(limited.json).toHaveLength(501);
  });
});

test("audit tells who changed what, of one tenant or of all", async () => {
  await posthorn.run(["tenants", "create", "audited"]);
  await posthorn.run(["webhooks", "create", "https://example.com/audited", "--tenant", "audited"]);
  const own = (await posthorn.run(["audit", "list", "--tenant", "audited", "--json"])).json;
  expect(own[0]).toMatchObject({ tenant: "audited", actor: "operator", action: "webhook.created" });
  const table = await posthorn.run(["audit", "list", "--all-tenants", "--limit", "3"]);
  expect(table.stdout).toMatch(/^20\S+ +audited +operator +webhook\.created +\d+ +\{/m);
  const all = (await posthorn.run(["audit", "list", "--all-tenants", "--json"])).json;
  expect(new Set(all.map((entry: { tenant: string }) => entry.tenant))).toContain("audited");
});
