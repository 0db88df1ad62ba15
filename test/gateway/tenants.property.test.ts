/**
 * Three tenants do whatever they like, one step after another; a small model knows which webhook may get which message.
 * Every step goes through the public API with the tenant's own key.
 */

import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { operatorKey, startTestGateway, type TestGateway } from "../helpers/gateway.ts";
import { type Receiver, startReceiver } from "../helpers/receiver.ts";
import { waitFor } from "../helpers/wait.ts";
import { anEnvelope, aTextMessage } from "../helpers/whatsapp-bodies.ts";

const tenantNames = ["alder", "birch", "cedar"] as const;
type TenantName = (typeof tenantNames)[number];

const scopes = [
  "webhooks:read",
  "webhooks:write",
  "deliveries:read",
  "deliveries:write",
  "events:read",
  "events:write",
];

let gateway: TestGateway;
let receiver: Receiver;
let keys: Record<TenantName, string>;
let runCount = 0;

beforeAll(async () => {
  gateway = await startTestGateway();
  receiver = await startReceiver();
  const made = await Promise.all(tenantNames.map(async (name) => [name, await makeTenant(name)] as const));
  keys = Object.fromEntries(made) as Record<TenantName, string>;
});
afterAll(async () => {
  await gateway.close();
  await receiver.close();
});

/** A tenant with one client and one number; gives a key for it. */
async function makeTenant(name: TenantName): Promise<string> {
  await call(operatorKey, "TenantService/CreateTenant", { name });
  const client = { client_ref: `${name}-shop`, phone_numbers: [{ phone_number_id: numberOf(name) }] };
  await call(operatorKey, "ClientService/CreateClient", client, name);
  const asked = { name: "all", scopes, rate_limit_per_minute: 0 };
  return (await call(operatorKey, "ApiKeyService/CreateApiKey", asked, name)).key;
}

const numberOf = (name: TenantName) => `6200000000${tenantNames.indexOf(name)}`;

// biome-ignore lint/suspicious/noExplicitAny: the steps look at whatever JSON came
async function call(key: string, method: string, body: unknown, tenant?: string): Promise<any> {
  const response = await fetch(`${gateway.url()}/posthorn.v1.${method}`, {
    method: "POST",
    headers: {
      "Content-Type": "application/json",
      Authorization: `Bearer ${key}`,
      ...(tenant !== undefined && { "Posthorn-Tenant": tenant }),
    },
    body: JSON.stringify(body),
  });
  const answer = await response.json();
  if (response.status !== 200) throw new Error(`${method}: ${response.status} ${JSON.stringify(answer)}`);
  return answer;
}

interface ModelWebhook {
  id: number;
  tenant: TenantName;
  path: string;
  isOn: boolean;
  /** Messages published while it was on. */
  allowed: Set<string>;
}

const tenant = fc.constantFrom(...tenantNames);
const which = fc.nat({ max: 20 });
const step = fc.oneof(
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("create" as const), tenant, isOn: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("turn" as const), which, isOn: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("rotate" as const), which }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("delete" as const), which }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("publish" as const), tenant }) },
);

type Step = typeof step extends fc.Arbitrary<infer S> ? S : never;

async function play(steps: Step[]) {
  const run = ++runCount;
  const webhooks: ModelWebhook[] = [];
  const gone: ModelWebhook[] = [];
  let messageCount = 0;
  for (const one of steps) {
    const chosen = "which" in one && webhooks.length > 0 ? webhooks[one.which % webhooks.length] : undefined;
    switch (one.kind) {
      case "create": {
        const path = `/${one.tenant}/${run}-${webhooks.length + gone.length}`;
        const { id } = await call(keys[one.tenant], "WebhookService/CreateWebhook", {
          webhooks: `http://127.0.0.1:${receiver.port}${path}`,
          status: one.isOn,
          incoming: true,
          schedule_activity: false,
          waiting_duration: 0,
          active_signature: true,
          transformer: "raw",
        });
        webhooks.push({ id, tenant: one.tenant, path, isOn: one.isOn, allowed: new Set() });
        break;
      }
      case "turn":
        if (!chosen) break;
        await call(keys[chosen.tenant], "WebhookService/UpdateWebhook", { id: chosen.id, status: one.isOn });
        chosen.isOn = one.isOn;
        break;
      case "rotate":
        if (chosen) await call(keys[chosen.tenant], "WebhookService/RotateWebhookSecret", { id: chosen.id });
        break;
      case "delete":
        if (!chosen) break;
        await call(keys[chosen.tenant], "WebhookService/DeleteWebhook", { id: chosen.id });
        gone.push(...webhooks.splice(webhooks.indexOf(chosen), 1));
        break;
      case "publish": {
        const id = `wamid.${one.tenant}-${run}-${++messageCount}`;
        await call(keys[one.tenant], "EventService/PublishEvents", { bodies: [bodyOf(one.tenant, id)] });
        for (const webhook of webhooks) {
          if (webhook.tenant === one.tenant && webhook.isOn) webhook.allowed.add(id);
        }
        break;
      }
    }
  }
  await expectWhatTheModelSays(run, webhooks, gone);
}

async function expectWhatTheModelSays(run: number, webhooks: ModelWebhook[], gone: ModelWebhook[]) {
  for (const name of tenantNames) {
    const own = webhooks.filter((webhook) => webhook.tenant === name);
    const listed = await call(keys[name], "WebhookService/ListWebhooks", { page_size: 500 });
    expect(listed.webhooks.map(({ id }: { id: number }) => id).sort()).toEqual(
      own.map(({ id }) => id).sort(),
    );
    const { deliveries } = await waitFor(
      "settled deliveries",
      () => call(keys[name], "DeliveryService/ListDeliveries", { page_size: 500 }),
      (seen) => seen.deliveries.every(({ state }: { state: string }) => isSettled(state)),
    );
    const strangers = [...webhooks, ...gone].filter((webhook) => webhook.tenant !== name).map(({ id }) => id);
    for (const delivery of deliveries) expect(strangers).not.toContain(delivery.webhook_id);
  }
  for (const webhook of [...webhooks, ...gone]) {
    for (const request of receiver.requests.filter(({ path }) => path === webhook.path)) {
      expect(webhook.allowed, webhook.path).toContain(JSON.parse(request.body.toString()).id);
    }
  }
  // What was on from its message to the end has got it: nothing is refused to its owner either.
  for (const webhook of webhooks.filter(({ isOn }) => isOn)) {
    const answer = await call(keys[webhook.tenant], "DeliveryService/ListDeliveries", {
      webhook_id: webhook.id,
    });
    expect(answer.deliveries.length, `run ${run} ${webhook.path}`).toBe(webhook.allowed.size);
  }
  for (const webhook of webhooks)
    await call(keys[webhook.tenant], "WebhookService/DeleteWebhook", { id: webhook.id });
}

function isSettled(state: string): boolean {
  return state === "delivered" || state === "canceled";
}

function bodyOf(name: TenantName, id: string): string {
  const metadata = { display_phone_number: "15557770100", phone_number_id: numberOf(name) };
  const value = { messaging_product: "whatsapp", metadata, messages: [aTextMessage({ id })] };
  return JSON.stringify(anEnvelope([{ field: "messages", value }]));
}

test("whatever three tenants do, none sees another's data, and nothing goes to a webhook that is off or gone", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), (steps) => play(steps)),
    { numRuns: 25 },
  );
}, 120_000);

test("a tenant can publish for its own numbers only", async () => {
  const own = bodyOf("alder", "wamid.own-1");
  const foreign = bodyOf("birch", "wamid.foreign-1");
  await expect(call(keys.alder, "EventService/PublishEvents", { bodies: [own, foreign] })).rejects.toThrow(
    "403",
  );
  const { events } = await call(keys.alder, "EventService/PublishEvents", { bodies: [own] });
  expect(events).toMatchObject([{ is_duplicate: false }]);
});
