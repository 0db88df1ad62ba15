import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { aChange, anEnvelope, aTextMessage } from "../helpers/whatsapp-bodies.ts";
import { asTenant, aWebhook, type CreatedKey, openRpcGateway, type RpcGateway } from "./gateway.ts";
import { addDelivery, idAt } from "./log-rows.ts";

let gateway: RpcGateway;
let key: CreatedKey;
beforeAll(async () => {
  gateway = await openRpcGateway({ tenants: ["acme"] });
  await gateway.addClient("mine", ["620000000000011"], "acme");
  await gateway.addClient("theirs", ["620000000000022"], "acme");
  key = await gateway.createKey({ client_ref: "mine" }, "acme");
});
afterAll(async () => {
  await gateway.close();
});

let urlCount = 0;
const url = () => `https://example.com/${++urlCount}`;
const create = (fields: Record<string, unknown>, headers = key.headers) =>
  gateway.call("WebhookService/CreateWebhook", aWebhook({ webhooks: url(), ...fields }), headers);
const update = (id: number, change: Record<string, unknown>) =>
  gateway.call("WebhookService/UpdateWebhook", { id, ...change }, key.headers);

describe("a key that is narrowed to a client", () => {
  test("makes webhooks of this client, said or not", async () => {
    for (const fields of [{}, { client_ref: "mine" }]) {
      const { status, body } = await create(fields);
      expect(status).toBe(200);
      expect(body.client_ref).toBe("mine");
    }
  });

  test("makes none of another client, known or not", async () => {
    for (const client_ref of ["theirs", "nobody"]) {
      const { status, body } = await create({ client_ref });
      expect(status).toBe(403);
      expect(body.message).toBe("the key is for webhooks of client mine only");
    }
  });

  test("cannot move a webhook out of its client", async () => {
    const { id } = (await create({})).body;
    const moves = [{ client_ref: "theirs" }, { client_ref: "nobody" }, { update_mask: "clientRef" }];
    for (const move of moves) expect((await update(id, move)).status).toBe(403);
    expect((await update(id, { client_ref: "mine", description: "same" })).body.webhook).toMatchObject({
      client_ref: "mine",
      description: "same",
    });
  });

  test("sees webhooks and deliveries of its client only", async () => {
    const mine = (await create({})).body.id;
    const tenants = (await create({}, asTenant("acme"))).body.id;
    const theirs = (await create({ client_ref: "theirs" }, asTenant("acme"))).body.id;
    const tenantId = gateway.tenantIds.acme!;
    const deliveries = new Map<number, string>();
    for (const [index, webhookId] of [mine, tenants, theirs].entries()) {
      const id = idAt(`2026-03-05T12:00:0${index}Z`);
      deliveries.set(
        webhookId,
        await addDelivery(gateway, { id, webhookId, tenantId, body: Buffer.from("{}") }),
      );
    }
    const { body } = await gateway.call("WebhookService/ListWebhooks", { page_size: 500 }, key.headers);
    const seen: number[] = body.webhooks.map((one: { id: number }) => one.id);
    expect(seen).toContain(mine);
    expect(seen).not.toContain(tenants);
    expect(seen).not.toContain(theirs);
    const listed = await gateway.call("DeliveryService/ListDeliveries", {}, key.headers);
    expect(listed.body.deliveries.map((one: { id: string }) => one.id)).toEqual([deliveries.get(mine)]);
    for (const webhookId of [tenants, theirs]) {
      const asked = { webhook_id: webhookId };
      expect((await gateway.call("DeliveryService/ListDeliveries", asked, key.headers)).status).toBe(404);
      const id = { id: deliveries.get(webhookId) };
      expect((await gateway.call("DeliveryService/GetDelivery", id, key.headers)).status).toBe(404);
      expect((await gateway.call("DeliveryService/RetryDelivery", id, key.headers)).status).toBe(404);
      expect((await gateway.call("WebhookService/GetWebhook", { id: webhookId }, key.headers)).status).toBe(
        404,
      );
    }
    const own = { id: deliveries.get(mine) };
    expect((await gateway.call("DeliveryService/RetryDelivery", own, key.headers)).status).toBe(200);
  });

  test("publishes events of its client's numbers only, all or nothing", async () => {
    const publish = (numbers: string[]) =>
      gateway.call(
        "EventService/PublishEvents",
        { bodies: numbers.map((number) => JSON.stringify(bodyOf(number))) },
        key.headers,
      );
    const mixed = await publish(["620000000000011", "620000000000022"]);
    expect(mixed.status).toBe(403);
    expect(mixed.body.message).toContain("bodies[1]");
    const own = await publish(["620000000000011"]);
    expect(own.body.events).toMatchObject([{ is_duplicate: false }]);
    expect((await publish(["620000000000022"])).status).toBe(403);
    expect((await publish(["620000000000099"])).status).toBe(403);
  });

  test("dies with its client", async () => {
    await gateway.addClient("short-lived", [], "acme");
    const dying = await gateway.createKey({ client_ref: "short-lived" }, "acme");
    const status = async () => (await gateway.call("WebhookService/ListWebhooks", {}, dying.headers)).status;
    expect(await status()).toBe(200);
    const gone = { client_ref: "short-lived" };
    expect((await gateway.call("ClientService/DeleteClient", gone, asTenant("acme"))).status).toBe(200);
    expect(await status()).toBe(401);
  });
});

function bodyOf(phoneNumberId: string) {
  const change = aChange({ messages: [aTextMessage({ id: `wamid.of-${phoneNumberId}` })] });
  (change.value as { metadata: { phone_number_id: string } }).metadata.phone_number_id = phoneNumberId;
  return anEnvelope([change]);
}
