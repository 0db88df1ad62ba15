import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestGateway, type TestGateway } from "../helpers/gateway.ts";
import { type QueryRows, queryRows } from "../helpers/query-rows.ts";
import { type Receiver, startReceiver } from "../helpers/receiver.ts";
import { anInboundBody, aTextMessage } from "../helpers/whatsapp-bodies.ts";

let gateway: TestGateway;
let query: QueryRows;
let receiver: Receiver;
beforeAll(async () => {
  receiver = await startReceiver();
  gateway = await startTestGateway();
  query = queryRows(gateway.databaseUrl);
});
afterAll(async () => {
  await gateway.close();
  await receiver.close();
});

test("a delivery whose event is gone fails as expired, holds up no other, and cannot be asked for again", async () => {
  const { id: webhookId } = await gateway.createWebhook({ webhooks: receiver.url, paused: true });
  for (const id of ["wamid.gone", "wamid.kept"]) await gateway.postBody(anInboundBody(aTextMessage({ id })));
  const [gone, kept] = await gateway.waitForStates(2, ["pending"], { webhook_id: webhookId });
  await query("DELETE FROM event WHERE id = $1", [gone!.event_id]);
  await gateway.updateWebhook(webhookId, { paused: false });
  await gateway.waitForStates(2, ["delivered", "failed"], { webhook_id: webhookId });

  const { delivery, attempts } = (await gateway.call("DeliveryService/GetDelivery", { id: gone!.id })).body;
  expect(delivery).toMatchObject({ state: "failed", reason: "expired", attempt_count: 0 });
  expect(attempts).toEqual([]);
  const [request] = await receiver.waitForRequests(1);
  expect(request!.headers["webhook-id"]).toBe(kept!.id);
  expect(await query("SELECT sum(count)::int AS count FROM expired_delivery_count")).toEqual([{ count: 1 }]);

  const retried = await gateway.call("DeliveryService/RetryDelivery", { id: gone!.id });
  expect(retried).toMatchObject({ status: 400, body: { code: "failed_precondition" } });
  expect(retried.body.message).toMatch(/retention has dropped its event/);
});

test("a delivery whose payload was made is sent again without its event", async () => {
  const { id: webhookId } = await gateway.createWebhook({ webhooks: `${receiver.url}/made` });
  await gateway.postBody(anInboundBody(aTextMessage({ id: "wamid.made" })));
  const [delivery] = await gateway.waitForStates(1, ["delivered"], { webhook_id: webhookId });
  await query("DELETE FROM event WHERE id = $1", [delivery!.event_id]);
  const before = receiver.requests.length;
  expect((await gateway.call("DeliveryService/RetryDelivery", { id: delivery!.id })).status).toBe(200);
  const requests = await receiver.waitForRequests(before + 1);
  const [first, again] = requests.filter(({ path }) => path.endsWith("/made"));
  expect(again!.body).toEqual(first!.body);
});
