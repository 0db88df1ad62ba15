import { randomFillSync } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { GatewayError } from "../../server/domain/errors.ts";
import { createIdSource } from "../../server/domain/ids.ts";
import type { Webhook } from "../../server/domain/webhook.ts";
import type { WebhookSettings } from "../../server/domain/webhook-rules.ts";
import { type Database, openDatabase } from "../../server/store/orm.ts";
import { createPartitions } from "../../server/store/partitions.ts";
import { createSealer } from "../../server/store/sealer.ts";
import {
  createWebhook,
  deleteWebhook,
  getWebhook,
  listWebhooks,
  updateWebhook,
} from "../../server/store/webhooks.ts";
import { openTestDatabase, type TestDatabase } from "../helpers/database.ts";

const now = new Date("2026-03-05T12:00:00.123Z");
const later = new Date("2026-03-05T13:00:00Z");
const access = { tenantId: 1, clientId: null, actor: "operator" } as const;
const sealer = createSealer([new Uint8Array(32).fill(7)]);
const ids = createIdSource(
  () => now.getTime(),
  (bytes) => randomFillSync(bytes),
);

let testDatabase: TestDatabase;
let database: Database;
beforeAll(async () => {
  testDatabase = await openTestDatabase();
  database = await openDatabase(testDatabase.url, { onConnectionError: () => undefined });
  await createPartitions(database.pool).ensureDay(now);
});
afterAll(async () => {
  await database.close();
  await testDatabase.close();
});
beforeEach(async () => {
  await database.pool.query("TRUNCATE webhook, client, delivery CASCADE");
});

function someSettings(changes: Partial<WebhookSettings> = {}): WebhookSettings {
  return {
    url: "https://example.com/hook",
    isEnabled: true,
    isPaused: false,
    incoming: true,
    outgoing: false,
    scheduleActivity: false,
    waitingDurationSeconds: 0,
    isSigned: true,
    transformer: "insights",
    transformerOptions: null,
    eventTypes: [],
    clientRef: null,
    maxInFlight: 64,
    description: "",
    ...changes,
  };
}

function create(
  changes: Partial<WebhookSettings> = {},
  headers: Record<string, string> = {},
): Promise<Webhook> {
  return createWebhook(
    database,
    sealer,
    access,
    { settings: someSettings(changes), secret: "whsec_secret", headers },
    now,
  );
}

function update(id: number, changes: Partial<WebhookSettings>): Promise<Webhook> {
  const change = { apply: (before: Webhook) => ({ ...before, ...changes }) };
  return updateWebhook(database, sealer, access, id, change, later);
}

async function readVersion(): Promise<bigint> {
  const found = await database.pool.query("SELECT version FROM configuration");
  return BigInt(found.rows[0].version);
}

async function addDelivery(
  webhookId: number,
  state: "pending" | "delivering" | "delivered",
): Promise<string> {
  const id = ids.next();
  await database.pool.query(
    `INSERT INTO delivery (webhook_id, id, tenant_id, event_id, event_type, state, attempt_number, due_at,
       leased_until, finished_at)
     VALUES ($1, $2, 1, $2, 'message.received', $3::text, 1, CASE $3::text WHEN 'pending' THEN $4::timestamptz END,
       CASE $3::text WHEN 'delivering' THEN $4::timestamptz END, CASE $3::text WHEN 'delivered' THEN $4::timestamptz END)`,
    [webhookId, id, state, now],
  );
  return id;
}

async function readDelivery(id: string): Promise<{ state: string; reason: string | null }> {
  const found = await database.pool.query("SELECT state, reason FROM delivery WHERE id = $1", [id]);
  return found.rows[0];
}

describe("a URL", () => {
  test("is taken once, however many ask for it at the same time", async () => {
    const outcomes = await Promise.allSettled(Array.from({ length: 12 }, () => create()));
    expect(outcomes.filter((outcome) => outcome.status === "fulfilled")).toHaveLength(1);
    for (const outcome of outcomes) {
      if (outcome.status === "fulfilled") continue;
      expect(outcome.reason).toBeInstanceOf(GatewayError);
      expect(outcome.reason).toMatchObject({ kind: "already_exists", message: "Same webhook exist" });
    }
    const left = await database.pool.query(
      "SELECT (SELECT count(*)::int FROM webhook) AS webhooks, (SELECT count(*)::int FROM webhook_secret) AS secrets",
    );
    expect(left.rows).toEqual([{ webhooks: 1, secrets: 1 }]);
  });

  test("is refused by the index itself, without the lock that keeps changes apart", async () => {
    const { id } = await create({ url: "https://example.com/other" });
    await create();
    const taken = await database.pool.query("SELECT url_digest FROM webhook WHERE id <> $1", [id]);
    await expect(
      database.pool.query("UPDATE webhook SET url_digest = $1 WHERE id = $2", [taken.rows[0].url_digest, id]),
    ).rejects.toMatchObject({ code: "23505", constraint: "webhook_url_key" });
  });
});

describe("a change", () => {
  test("stamps the webhook with a new version of the configuration", async () => {
    const before = await readVersion();
    const { id } = await create();
    await update(id, { description: "x" });
    await deleteWebhook(database, access, id, later);
    expect(await readVersion()).toBe(before + 3n);
    const found = await database.pool.query("SELECT version FROM webhook WHERE id = $1", [id]);
    expect(BigInt(found.rows[0].version)).toBe(before + 3n);
  });

  test("that is refused changes nothing, the version included", async () => {
    const { id } = await create();
    const before = await readVersion();
    const refusing = {
      apply: (): WebhookSettings => {
        throw new GatewayError("invalid_input", "no");
      },
    };
    await expect(updateWebhook(database, sealer, access, id, refusing, later)).rejects.toThrow("no");
    await expect(update(id, { clientRef: "nobody" })).rejects.toMatchObject({ field: "client_ref" });
    await expect(create({ clientRef: "nobody", url: "https://x.example" })).rejects.toMatchObject({
      kind: "invalid_input",
      field: "client_ref",
    });
    expect(await readVersion()).toBe(before);
    expect(await listWebhooks(database, access, { limit: 10, beforeId: null })).toHaveLength(1);
  });

  test("sees what another one did just before", async () => {
    const { id } = await create({ maxInFlight: 1 });
    const countUp = { apply: (before: Webhook) => ({ ...before, maxInFlight: before.maxInFlight + 1 }) };
    await Promise.all(
      Array.from({ length: 10 }, () => updateWebhook(database, sealer, access, id, countUp, later)),
    );
    expect((await getWebhook(database, access, id)).maxInFlight).toBe(11);
  });

  test("keeps a webhook on its client after the client's row was given up", async () => {
    await database.pool.query(
      "INSERT INTO client (tenant_id, client_ref, version, created_at) VALUES (1, 'partner-1', 1, now())",
    );
    const { id } = await create({ clientRef: "partner-1" });
    await database.pool.query("UPDATE client SET deleted_at = now()");
    expect(await update(id, { description: "x" })).toMatchObject({
      clientRef: "partner-1",
      description: "x",
    });
  });
});

describe("turning a webhook off", () => {
  test.each([
    ["UpdateWebhook", (id: number) => update(id, { isEnabled: false }), "webhook_disabled"],
    ["DeleteWebhook", (id: number) => deleteWebhook(database, access, id, later), "webhook_deleted"],
  ] as const)("by %s cancels what is not finished, and says why", async (_, turnOff, reason) => {
    const { id } = await create();
    const { id: other } = await create({ url: "https://example.com/other" });
    const pending = await addDelivery(id, "pending");
    const inFlight = await addDelivery(id, "delivering");
    const delivered = await addDelivery(id, "delivered");
    const untouched = await addDelivery(other, "pending");
    await turnOff(id);
    expect(await readDelivery(pending)).toEqual({ state: "canceled", reason });
    expect(await readDelivery(inFlight)).toEqual({ state: "canceled", reason });
    expect(await readDelivery(delivered)).toEqual({ state: "delivered", reason: null });
    expect(await readDelivery(untouched)).toEqual({ state: "pending", reason: null });
  });

  test("and on again sends nothing that a crash left pending", async () => {
    const { id } = await create();
    await update(id, { isEnabled: false });
    const left = await addDelivery(id, "pending");
    await update(id, { isEnabled: true });
    expect(await readDelivery(left)).toEqual({ state: "canceled", reason: "webhook_disabled" });
    const made = await addDelivery(id, "pending");
    await update(id, { isPaused: true });
    expect(await readDelivery(made)).toEqual({ state: "pending", reason: null });
  });
});
