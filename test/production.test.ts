/** The strict rules, held by the real process that runs as an operator would run it. */

import { spawn } from "node:child_process";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { openTestDatabase, type TestDatabase } from "./helpers/database.ts";
import { type SpawnedGateway, spawnGateway } from "./helpers/gateway.ts";
import { startReceiver } from "./helpers/receiver.ts";
import { aChange, anEnvelope, anInboundBody, aTextMessage, business } from "./helpers/whatsapp-bodies.ts";

const production = {
  NODE_ENV: "production",
  POSTHORN_PUBLIC_URL: "https://gateway.example.com",
  POSTHORN_RETRY_SECONDS: "none",
};

describe("what is unsafe", () => {
  let directory: string;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "posthorn-production-"));
  });
  afterEach(() => rm(directory, { recursive: true }));

  /** Runs the program as users do, with no environment but `env`, to its end. */
  async function run(env: Record<string, string>) {
    const entry = fileURLToPath(new URL("../server/entry.js", import.meta.url));
    const child = spawn(process.execPath, [entry], { cwd: directory, env, timeout: 15_000 });
    const output = { stdout: "", stderr: "" };
    child.stdout.on("data", (chunk) => {
      output.stdout += chunk;
    });
    child.stderr.on("data", (chunk) => {
      output.stderr += chunk;
    });
    const code = await new Promise((resolve) => child.once("close", resolve));
    return { code, ...output };
  }

  test("keeps it from starting: one list names everything that is missing, and nothing is made", async () => {
    const { code, stdout, stderr } = await run({ NODE_ENV: "production" });
    expect(code).toBe(78);
    expect(stdout).toBe("");
    const [title, ...faults] = stderr.trimEnd().split("\n");
    expect(title).toBe("Posthorn cannot start with these settings:");
    expect(faults).toEqual([
      expect.stringMatching(
        /^ {2}POSTHORN_MASTER_KEY is required in production: write base64 of 32 random bytes/,
      ),
      expect.stringMatching(/^ {2}POSTHORN_OPERATOR_KEY is required in production: write one key/),
      expect.stringMatching(/^ {2}POSTHORN_PUBLIC_URL is required in production: write a URL/),
      "--help shows all settings.",
    ]);
    expect(await readdir(directory)).toEqual([]);
  });

  test("is told together with what is wrong, and no secret is repeated", async () => {
    const { code, stderr } = await run({
      NODE_ENV: "production",
      POSTHORN_MASTER_KEY: "bm90IDMyIGJ5dGVz",
      POSTHORN_OPERATOR_KEY: "hidden-and-too-short",
      PORT: "http",
    });
    expect(code).toBe(78);
    expect(stderr).toMatch(/POSTHORN_MASTER_KEY has 12 bytes/);
    expect(stderr).toMatch(/POSTHORN_OPERATOR_KEY has 20 characters/);
    expect(stderr).toMatch(/POSTHORN_PUBLIC_URL is required in production/);
    expect(stderr).toMatch(/PORT "http" is no whole number/);
    expect(stderr).not.toMatch(/bm90IDMy|hidden-and/);
  });
});

describe("a gateway in production", () => {
  let database: TestDatabase;
  let gateway: SpawnedGateway;
  beforeAll(async () => {
    database = await openTestDatabase();
    gateway = await spawnGateway({ ...production, DATABASE_URL: database.url });
  });
  afterAll(async () => {
    await gateway?.close();
    await database?.close();
  });

  test("starts with keys and public URL given, and prints no key", () => {
    expect(gateway.lines.some((line) => line.includes('"mode":"production"'))).toBe(true);
    expect(gateway.lines.join("\n")).not.toContain("Operator key");
  });

  test("refuses a webhook that is not https, when it is made and when it is changed", async () => {
    const fields = {
      status: true,
      incoming: true,
      schedule_activity: false,
      waiting_duration: 0,
      active_signature: false,
    };
    const create = (webhooks: string) =>
      gateway.call("WebhookService/CreateWebhook", { ...fields, webhooks });
    const refused = await create("http://example.com/hook");
    expect(refused.status).toBe(400);
    expect(refused.body).toMatchObject({
      code: "invalid_argument",
      message: "webhooks: must start with https://",
    });
    const { body } = await create("https://example.com/hook");
    const changed = await gateway.call("WebhookService/UpdateWebhook", {
      id: body.id,
      webhooks: "http://example.com/hook",
    });
    expect(changed.status).toBe(400);
    await gateway.call("WebhookService/DeleteWebhook", { id: body.id });
  });

  test("makes no client by itself: events of an unknown number are kept and go nowhere", async () => {
    const { id } = await gateway.createWebhook({ webhooks: "https://example.com/unknown" });
    const metadata = { display_phone_number: "15557770199", phone_number_id: "number-of-nobody" };
    const body = anEnvelope([aChange({ metadata, messages: [aTextMessage({ id: "wamid.of-nobody" })] })]);
    expect(await gateway.postBody(body)).toBe(200);
    expect((await gateway.call("ClientService/ListClients", {})).body.clients).toEqual([]);
    expect(await gateway.deliveries()).toEqual([]);
    const unrouted = await gateway.call("ClientService/ListUnroutedNumbers", {});
    expect(unrouted.body.unrouted_numbers).toMatchObject([
      { phone_number_id: "number-of-nobody", event_count: 1 },
    ]);
    await gateway.call("WebhookService/DeleteWebhook", { id });
  });

  test("connects to no address that is not public: the attempt is in the log, and nothing arrives", async () => {
    const receiver = await startReceiver();
    const { status } = await gateway.call("ClientService/CreateClient", {
      client_ref: "partner",
      phone_numbers: [{ phone_number_id: business.phoneNumberId }],
    });
    expect(status).toBe(200);
    const addresses = [
      `https://127.0.0.1:${receiver.port}/`,
      `https://[::1]:${receiver.port}/`,
      "https://10.0.0.1/",
    ];
    const webhookIds = [];
    for (const webhooks of addresses) webhookIds.push((await gateway.createWebhook({ webhooks })).id);

    expect(await gateway.postBody(anInboundBody())).toBe(200);

    for (const webhook_id of webhookIds) {
      const [failed] = await gateway.waitForStates(1, ["failed"], { webhook_id });
      const attempts = await gateway.attempts(failed!.id);
      expect(attempts).toMatchObject([{ number: 1, outcome: "failed", error_kind: "address_not_allowed" }]);
    }
    expect(receiver.connectionCount()).toBe(0);
    await receiver.close();
  });
});

test("without an app secret the gateway runs, warns, and takes no WhatsApp event from anybody", async () => {
  const database = await openTestDatabase();
  const gateway = await spawnGateway({ ...production, WHATSAPP_APP_SECRET: "", DATABASE_URL: database.url });
  try {
    const answer = await fetch(`${gateway.url()}/whatsapp/webhook`, {
      method: "POST",
      headers: { "X-Hub-Signature-256": `sha256=${"0".repeat(64)}` },
      body: JSON.stringify(anInboundBody()),
    });
    expect(answer.status).toBe(403);
    expect(await answer.json()).toMatchObject({
      code: "permission_denied",
      message: expect.stringContaining("WHATSAPP_APP_SECRET"),
    });
    expect((await fetch(`${gateway.url()}/readyz`)).status).toBe(200);
    expect(gateway.lines.some((line) => line.includes("WHATSAPP_APP_SECRET is not set"))).toBe(true);
  } finally {
    await gateway.close();
    await database.close();
  }
});
