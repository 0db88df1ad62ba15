import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  aChange,
  anEnvelope,
  anInboundBody,
  aReaction,
  aStatus,
  aTextMessage,
} from "../helpers/whatsapp-bodies.ts";
import { aWebhook, fieldsAtFault, openRpcGateway, type RpcGateway } from "./gateway.ts";

let gateway: RpcGateway;
beforeAll(async () => {
  gateway = await openRpcGateway();
});
afterAll(async () => {
  await gateway.close();
});

const publish = (bodies: unknown[]) =>
  gateway.call("EventService/PublishEvents", {
    bodies: bodies.map((body) => (typeof body === "string" ? body : JSON.stringify(body))),
  });

async function countEvents(): Promise<number> {
  const found = await gateway.database.pool.query("SELECT count(*)::int FROM event");
  return found.rows[0].count;
}

describe("PublishEvents", () => {
  test("answers for each event in order, with its deliveries, and tells repeats", async () => {
    for (const path of ["a", "b"]) {
      await gateway.call(
        "WebhookService/CreateWebhook",
        aWebhook({ webhooks: `https://example.com/${path}` }),
      );
    }
    const bodies = [
      anInboundBody(aTextMessage({ id: "wamid.1" })),
      anEnvelope([
        aChange({ messages: [aReaction({ id: "wamid.2" })] }),
        aChange({ statuses: [aStatus({ id: "wamid.3" })] }),
      ]),
    ];
    const { status, body } = await publish(bodies);
    expect(status).toBe(200);
    const uuid = expect.stringMatching(
      /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
    );
    expect(body.events).toEqual([
      { body_index: 0, type: "message.received", event_id: uuid, is_duplicate: false, delivery_count: 2 },
      { body_index: 1, type: "message.reaction", event_id: uuid, is_duplicate: false, delivery_count: 0 },
      { body_index: 1, type: "message.status", event_id: uuid, is_duplicate: false, delivery_count: 0 },
    ]);
    const listed = await gateway.call("DeliveryService/ListDeliveries", {});
    expect(listed.body.deliveries).toHaveLength(2);
    expect(listed.body.deliveries[0].event_id).toBe(body.events[0].event_id);

    const again = await publish([bodies[0], bodies[1], anInboundBody(aTextMessage({ id: "wamid.4" }))]);
    expect(again.body.events.map((event: { is_duplicate: boolean }) => event.is_duplicate)).toEqual([
      true,
      true,
      true,
      false,
    ]);
    expect(again.body.events[0]).not.toHaveProperty("event_id");
    expect(again.body.events[0].delivery_count).toBe(0);
  });

  test("keeps numbers as they were written", async () => {
    const message = JSON.stringify(aTextMessage({ id: "wamid.numbers" })).replace("}", '},"weight":1.50');
    const body = JSON.stringify(anInboundBody({})).replace('"messages":[{}]', `"messages":[${message}]`);
    const { events } = (await publish([body])).body;
    const found = await gateway.database.pool.query("SELECT item FROM event WHERE id = $1", [
      events[0].event_id,
    ]);
    expect(found.rows[0].item.toString()).toContain('"weight":1.50');
  });

  test.each([
    ["no JSON", "hello", "bodies[1]: body: is not a JSON object"],
    ["another object", '{"object":"page","entry":[]}', "bodies[1]: object: is not whatsapp_business_account"],
    ["no entry", '{"object":"whatsapp_business_account"}', "bodies[1]: entry: is not a list"],
    ["no event", '{"object":"whatsapp_business_account","entry":[]}', "bodies[1]: holds no event"],
    [
      "one change that makes no sense beside another that does",
      anEnvelope([aChange({ messages: [aTextMessage({ id: "wamid.beside" })] }), {}]),
      "bodies[1]: entry[0].changes[1]: has no value",
    ],
  ])("refuses a body with %s by its path, and stores nothing of the call", async (_, body, message) => {
    const before = await countEvents();
    const answer = await publish([anInboundBody(aTextMessage({ id: "wamid.good" })), body]);
    expect(answer.status).toBe(400);
    expect(answer.body).toMatchObject({ code: "invalid_argument", message });
    expect(fieldsAtFault(answer)).toEqual(["bodies[1]"]);
    expect(await countEvents()).toBe(before);
  });

  test("takes 1 to 100 bodies", async () => {
    expect(fieldsAtFault(await publish([]))).toEqual(["bodies"]);
    const bodies = Array.from({ length: 101 }, (_, index) =>
      anInboundBody(aTextMessage({ id: `wamid.many-${index}` })),
    );
    expect(fieldsAtFault(await publish(bodies))).toEqual(["bodies"]);
    const { body } = await publish(bodies.slice(1));
    expect(body.events).toHaveLength(100);
    expect(fieldsAtFault(await publish([""]))).toEqual(["bodies[0]"]);
  });
});
