import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { openTestDatabase, type TestDatabase } from "../helpers/database.ts";
import { startTestGateway, type TestGateway } from "../helpers/gateway.ts";
import { startReceiver } from "../helpers/receiver.ts";
import { openPosthorn, type Posthorn } from "./posthorn.ts";

const oldKey = Buffer.alloc(32, 7).toString("base64");
const newKey = Buffer.alloc(32, 8).toString("base64");

let database: TestDatabase;
let posthorn: Posthorn;
beforeAll(async () => {
  posthorn = await openPosthorn(() => "http://127.0.0.1:1");
});
afterAll(() => posthorn?.close());
beforeEach(async () => {
  database = await openTestDatabase();
});
afterEach(() => database.close());

function startGateway(masterKeys: string): Promise<TestGateway> {
  return startTestGateway({ databaseUrl: database.url, env: { POSTHORN_MASTER_KEY: masterKeys } });
}

function reencrypt(masterKeys: string, ...args: string[]) {
  const env = { DATABASE_URL: database.url, POSTHORN_MASTER_KEY: masterKeys, POSTHORN_KEY: "" };
  return posthorn.run(["secrets", "reencrypt", ...args], { env });
}

describe("secrets reencrypt", () => {
  test("lets the old key go: beside a running gateway first, and then without it", async () => {
    const receiver = await startReceiver();
    const first = await startGateway(`${newKey},${oldKey}`);
    const before = await startGateway(oldKey);
    const { id } = await before.createWebhook({
      webhooks: receiver.url,
      active_signature: true,
      headers: { "X-Of-Ours": "hidden-value" },
    });
    await before.close();

    const { code, stdout, stderr } = await reencrypt(`${newKey},${oldKey}`);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^webhook_secret\.secret_sealed +1 +0$/m);
    expect(stdout).toMatch(/^webhook\.headers_sealed +1 +0$/m);
    expect(stdout).toMatch(/^[0-9a-f]{8} +1 +2$/m);
    expect(stdout).toMatch(/^[0-9a-f]{8} +2 +0$/m);
    expect(stderr).toMatch(
      /^Key [0-9a-f]{8} \(place 2\) encrypts nothing any more\. Take it out of POSTHORN_MASTER_KEY/,
    );
    for (const secret of [oldKey, newKey, "hidden-value", "whsec_"])
      expect(stdout + stderr).not.toContain(secret);
    expect((await first.call("WebhookService/TestWebhook", { id })).body.attempt.outcome).toBe("succeeded");
    await first.close();

    const after = await startGateway(newKey);
    const tested = await after.call("WebhookService/TestWebhook", { id });
    expect(tested.body.attempt.outcome).toBe("succeeded");
    const requests = await receiver.waitForRequests(2);
    expect(requests[1]!.headers).toMatchObject({ "x-of-ours": "hidden-value" });
    expect(requests[1]!.headers["webhook-signature"]).toMatch(/^v1,/);
    await after.close();
    await receiver.close();
  });

  test("prints one JSON document for scripts, and finds nothing to do the second time", async () => {
    const gateway = await startGateway(oldKey);
    await gateway.createWebhook({ webhooks: "https://example.com/", active_signature: true });
    await gateway.close();
    await reencrypt(`${newKey},${oldKey}`);
    const { code, json } = await reencrypt(`${newKey},${oldKey}`, "--json");
    expect(code).toBe(0);
    expect(json).toEqual({
      columns: [
        { name: "webhook_secret.secret_sealed", resealed_count: 0, unopened_count: 0 },
        { name: "webhook.headers_sealed", resealed_count: 0, unopened_count: 0 },
        { name: "client.access_token_sealed", resealed_count: 0, unopened_count: 0 },
        { name: "client.app_secret_sealed", resealed_count: 0, unopened_count: 0 },
      ],
      keys: [
        { key_id: expect.any(String), place: 1, secret_count: 1, may_be_removed: false },
        { key_id: expect.any(String), place: 2, secret_count: 0, may_be_removed: true },
      ],
    });
  });

  test("ends with 1 and leaves everything as it is if the key of a secret is missing", async () => {
    const gateway = await startGateway(oldKey);
    await gateway.createWebhook({ webhooks: "https://example.com/", active_signature: true });
    await gateway.close();
    const { code, stdout, stderr } = await reencrypt(newKey);
    expect(code).toBe(1);
    expect(stdout).toMatch(/^webhook_secret\.secret_sealed +0 +1$/m);
    expect(stderr).toMatch(/is missing in POSTHORN_MASTER_KEY: add it behind the first/);
    expect((await reencrypt(oldKey)).code).toBe(0);
  });

  test("needs the master key, a database that answers, and settings without fault", async () => {
    const withoutKey = await reencrypt("");
    expect(withoutKey.code).toBe(2);
    expect(withoutKey.stderr).toMatch(/^posthorn: POSTHORN_MASTER_KEY is not set[^\n]*\n$/);
    const withoutDatabase = await posthorn.run(["secrets", "reencrypt"], {
      env: { POSTHORN_MASTER_KEY: newKey },
    });
    expect(withoutDatabase.code).toBe(2);
    expect(withoutDatabase.stderr).toMatch(/^posthorn: there is no database: set DATABASE_URL[^\n]*\n$/);
    const env = { POSTHORN_MASTER_KEY: newKey, DATABASE_URL: "postgres://nobody:hidden@127.0.0.1:1/x" };
    const away = await posthorn.run(["secrets", "reencrypt"], { env });
    expect(away.code).toBe(5);
    expect(away.stderr).toMatch(/^posthorn: PostgreSQL cannot be reached[^\n]*\n$/);
    expect(away.stderr).not.toContain("hidden");
    const faulty = await reencrypt("too-short");
    expect(faulty.code).toBe(78);
    expect(faulty.stderr).toContain("POSTHORN_MASTER_KEY");
  });
});
