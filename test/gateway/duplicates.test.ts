import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { startTestGateway, type TestGateway } from "../helpers/gateway.ts";
import { type QueryRows, queryRows } from "../helpers/query-rows.ts";
import { type Receiver, startReceiver } from "../helpers/receiver.ts";
import {
  aChange,
  anAccountChange,
  anEcho,
  anEnvelope,
  anInboundBody,
  aStatus,
  aTextMessage,
  customer,
} from "../helpers/whatsapp-bodies.ts";

const startMs = Date.parse("2026-03-05T12:00:00Z");
let nowMs = startMs;
let gateway: TestGateway;
let receiver: Receiver;
let webhookId: number;
let query: QueryRows;
beforeAll(async () => {
  gateway = await startTestGateway({
    clock: {
      now: () => new Date(nowMs),
      sleep: (ms, signal) =>
        new Promise((resolve) => {
          const timer = setTimeout(resolve, ms);
          signal?.addEventListener("abort", () => {
            clearTimeout(timer);
            resolve();
          });
        }),
    },
  });
  query = queryRows(gateway.databaseUrl);
});
afterAll(() => gateway.close());
beforeEach(async () => {
  receiver = await startReceiver();
  const fields = { webhooks: receiver.url, outgoing: true, event_types: ["message.*", "whatsapp.*"] };
  webhookId = (await gateway.createWebhook(fields)).id;
});
afterEach(async () => {
  await gateway.call("WebhookService/DeleteWebhook", { id: webhookId });
  await receiver.close();
});

/** Posts the bodies in turn; how many deliveries they made for this test's webhook. */
async function deliveriesOf(...bodies: unknown[]): Promise<number> {
  for (const body of bodies) expect(await gateway.postBody(body)).toBe(200);
  return (await gateway.deliveries({ webhook_id: webhookId })).length;
}

const statusBody = (overrides: Record<string, unknown>) =>
  anEnvelope([aChange({ statuses: [aStatus(overrides)] })]);
const received = (...ids: string[]) =>
  anEnvelope([aChange({ messages: ids.map((id) => aTextMessage({ id })) })]);

describe("a repeat makes no delivery", () => {
  test("of the same body", async () => {
    const body = anInboundBody(aTextMessage({ id: "wamid.twice" }));
    expect(await deliveriesOf(body, body, body)).toBe(1);
  });

  test("of the same message in one body, and in one request beside another", async () => {
    expect(
      await deliveriesOf(received("wamid.in-one", "wamid.in-one", "wamid.other"), received("wamid.in-one")),
    ).toBe(2);
  });

  test("of bodies that are posted at the same instant", async () => {
    const body = anInboundBody(aTextMessage({ id: "wamid.same-instant" }));
    const statuses = await Promise.all(Array.from({ length: 20 }, () => gateway.postBody(body)));
    expect(new Set(statuses)).toEqual(new Set([200]));
    expect(await deliveriesOf()).toBe(1);
  });

  test("of an echo under the other key", async () => {
    const echo = anEcho({ id: "wamid.echoed" });
    const bodies = [
      anEnvelope([aChange({ message_echoes: [echo] }, "smb_message_echoes")]),
      anEnvelope([aChange({ message_echoes: [echo] }, "message_echoes")]),
    ];
    expect(await deliveriesOf(...bodies)).toBe(1);
  });

  test("of an account-level change with the same entry time", async () => {
    const change = anAccountChange("account_update", { event: "VERIFIED_ACCOUNT" });
    const body = anEnvelope([change], { time: 1772712000 });
    expect(await deliveriesOf(body, body, anEnvelope([change], { time: 1772712001 }))).toBe(2);
  });

  test("of a timeless item within ten minutes of the first, not after", async () => {
    const body = anEnvelope([anAccountChange("account_review_update", { decision: "APPROVED" })]);
    // Shortly before a multiple of ten minutes, so that the repeats fall on both sides of it.
    nowMs = startMs + 9 * 60_000;
    expect(await deliveriesOf(body)).toBe(1);
    nowMs = startMs + 18 * 60_000 + 59_000;
    expect(await deliveriesOf(body)).toBe(1);
    nowMs = startMs + 19 * 60_000 + 1_000;
    expect(await deliveriesOf(body)).toBe(2);
  });
});

describe("what only looks like a repeat is new", () => {
  test("a status with another time, state or recipient", async () => {
    const id = "wamid.status";
    const bodies = [
      statusBody({ id }),
      statusBody({ id }),
      statusBody({ id, timestamp: "1772712001" }),
      statusBody({ id, status: "read" }),
      statusBody({ id, recipient_id: "15558880999" }),
    ];
    expect(await deliveriesOf(...bodies)).toBe(4);
  });

  test("the real message after a placeholder with its id", async () => {
    const placeholder = {
      from: customer.phone,
      id: "wamid.placeholder",
      timestamp: "1772712000",
      type: "unsupported",
    };
    const bodies = [anInboundBody(placeholder), anInboundBody(aTextMessage({ id: "wamid.placeholder" }))];
    expect(await deliveriesOf(...bodies, ...bodies)).toBe(2);
  });

  test("the same message at another business number", async () => {
    const change = aChange({ messages: [aTextMessage({ id: "wamid.two-numbers" })] }) as { value: object };
    const metadata = { display_phone_number: "15557770199", phone_number_id: "620000000000099" };
    const other = { ...change, value: { ...change.value, metadata } };
    expect(await deliveriesOf(anEnvelope([change]), anEnvelope([other]))).toBe(2);
  });
});

describe("what cannot be stored", () => {
  test("costs neither its siblings in the body nor those that share its commit", async () => {
    // Whatever gets past our own rules, the database may still refuse.
    await query("ALTER TABLE event ADD CONSTRAINT no_poison CHECK (position('poison'::bytea in item) = 0)");
    const bodies = Array.from({ length: 30 }, (_, index) => {
      const ids =
        index % 10 === 3 ? [`wamid.sibling-${index}`, `wamid.poison-${index}`] : [`wamid.neighbour-${index}`];
      return received(...ids);
    });
    const statuses = await Promise.all(bodies.map((body) => gateway.postBody(body)));
    expect(new Set(statuses)).toEqual(new Set([200]));
    expect(await deliveriesOf()).toBe(30);
    const kept = await query("SELECT convert_from(body, 'UTF8') AS body FROM malformed_body");
    expect(kept.map((row) => JSON.parse(row.body).id).sort()).toEqual([
      "wamid.poison-13",
      "wamid.poison-23",
      "wamid.poison-3",
    ]);
    await query("ALTER TABLE event DROP CONSTRAINT no_poison");
    // What was refused left no key behind: sent again, it is stored.
    expect(await deliveriesOf(received("wamid.poison-3"))).toBe(31);
  });
});

describe("a number that no client has, where clients are not made by themselves", () => {
  test("keeps its events as nobody's, without a delivery, and drops repeats all the same", async () => {
    const production = await startTestGateway({ env: { POSTHORN_AUTO_CLIENTS: "false" } });
    try {
      await production.createWebhook({ webhooks: receiver.url });
      const body = anInboundBody(aTextMessage({ id: "wamid.unrouted" }));
      expect(await production.postBody(body)).toBe(200);
      expect(await production.postBody(body)).toBe(200);
      expect(await production.deliveries()).toEqual([]);
      const rows = await queryRows(production.databaseUrl)("SELECT tenant_id, client_id, type FROM event");
      expect(rows).toEqual([{ tenant_id: 0, client_id: null, type: "message.received" }]);
    } finally {
      await production.close();
    }
    expect(receiver.requests).toEqual([]);
  });
});
