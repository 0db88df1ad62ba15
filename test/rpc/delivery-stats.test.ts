import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { waitFor } from "../helpers/wait.ts";
import { asTenant, aWebhook, fieldsAtFault, openRpcGateway, type RpcGateway } from "./gateway.ts";
import { addAttempt, addDelivery, idAt } from "./log-rows.ts";

let gateway: RpcGateway;
let first: number;
let second: number;
beforeAll(async () => {
  gateway = await openRpcGateway({ tenants: ["acme"] });
  first = await createWebhook("https://example.com/first");
  second = await createWebhook("https://example.com/second");
});
afterAll(() => gateway.close());

async function createWebhook(webhooks: string): Promise<number> {
  return (await gateway.call("WebhookService/CreateWebhook", aWebhook({ webhooks }))).body.id;
}

const stats = (request: object, headers?: Record<string, string>) =>
  gateway.call("DeliveryService/GetDeliveryStats", request, headers);

/** A delivery made at `at` of an event received a moment before, which ended so many milliseconds after the event. */
async function log(
  webhookId: number,
  at: string,
  state: "delivered" | "failed" | "pending",
  attempts: ("succeeded" | "failed" | "lost")[],
  latencyMs = 100,
): Promise<void> {
  const id = idAt(at);
  await addDelivery(gateway, {
    id,
    webhookId,
    state,
    ...(state === "failed" && { reason: "attempts_exhausted" }),
  });
  await gateway.database.pool.query(
    `UPDATE delivery SET event_id = $2, finished_at = CASE WHEN state <> 'pending' THEN $3::timestamptz END WHERE id = $1`,
    [id, idAt(at), new Date(Date.parse(at) + latencyMs)],
  );
  for (const [index, outcome] of attempts.entries()) {
    await addAttempt(gateway, {
      deliveryId: id,
      number: index + 1,
      outcome,
      ...(outcome === "succeeded" && { status: 200 }),
      ...(outcome === "failed" && {
        errorKind: index % 2 === 0 ? "timeout" : "http_status",
        errorMessage: "no",
      }),
    });
  }
}

test("an empty log gives zeros, and nothing where there is nothing to tell", async () => {
  const { status, body } = await stats({});
  expect(status).toBe(200);
  expect(body).toEqual({
    since: "2026-03-04T12:00:00.123Z",
    until: "2026-03-05T12:00:00.123Z",
    deliveries_by_state: { pending: 0, delivering: 0, delivered: 0, failed: 0, canceled: 0, skipped: 0 },
    attempts_by_outcome: { succeeded: 0, failed: 0, lost: 0 },
    failures_by_kind: {},
  });
});

test("counts what was made in the range, by state, outcome and error, with the times that it took", async () => {
  for (let index = 0; index < 99; index++) {
    await log(first, "2026-03-05T10:00:00Z", "delivered", ["succeeded"], 100 + index);
  }
  await log(first, "2026-03-04T23:59:59Z", "delivered", ["failed", "lost", "succeeded"], 70_000);
  await log(second, "2026-03-05T11:00:00Z", "failed", ["failed", "failed", "failed", "failed"]);
  await log(second, "2026-03-05T11:00:00Z", "pending", []);
  // The day before yesterday.
  await log(first, "2026-03-03T11:00:00Z", "failed", ["failed"]);
  await gateway.database.pool.query("UPDATE attempt SET duration_ms = 5_000 WHERE outcome = 'failed'");
  const { body } = await stats({});
  expect(body.deliveries_by_state).toMatchObject({ delivered: 100, failed: 1, pending: 1, skipped: 0 });
  expect(body.attempts_by_outcome).toEqual({ succeeded: 100, failed: 5, lost: 1 });
  expect(body.failures_by_kind).toEqual({ timeout: 3, http_status: 2 });
  expect(body.success_rate).toBeCloseTo(100 / 101, 10);
  // All that succeeded took 750 ms, as the builder makes them.
  expect(body.attempt_duration).toEqual({ p50_ms: 750, p90_ms: 750, p99_ms: 750 });
  expect(body.delivery_latency).toEqual({ p50_ms: 149, p90_ms: 189, p99_ms: 198 });

  const ofSecond = (await stats({ webhook_id: second })).body;
  expect(ofSecond.deliveries_by_state).toMatchObject({ delivered: 0, failed: 1, pending: 1 });
  expect(ofSecond.success_rate).toBe(0);
  expect(ofSecond).not.toHaveProperty("attempt_duration");
  const range = { since: "2026-03-04T00:00:00Z", until: "2026-03-05T00:00:00Z" };
  expect((await stats(range)).body).toMatchObject({ ...range, success_rate: 1 });
  expect((await stats({}, asTenant("acme"))).body.deliveries_by_state.delivered).toBe(0);
});

test.each<[string, object, string]>([
  ["more than 31 days", { since: "2026-02-01T00:00:00Z", until: "2026-03-05T00:00:00Z" }, "since"],
  ["a beginning in the future", { since: "2026-03-06T00:00:00Z" }, "since"],
])("refuses %s", async (_, request, field) => {
  const answer = await stats(request);
  expect([answer.status, answer.body.code]).toEqual([400, "invalid_argument"]);
  expect(fieldsAtFault(answer)).toEqual([field]);
});

test("says that a webhook is not there", async () => {
  expect((await stats({ webhook_id: first }, asTenant("acme"))).body).toMatchObject({
    code: "not_found",
    message: `webhook ${first} does not exist`,
  });
});

test("two are counted for at once, and a third is told when to come again", async () => {
  const client = new pg.Client({ connectionString: gateway.databaseUrl });
  await client.connect();
  await client.query("BEGIN; LOCK TABLE webhook IN ACCESS EXCLUSIVE MODE");
  const counting = [stats({}), stats({})];
  const refused = await waitFor(
    "refusal",
    () => Promise.race([stats({}), ...counting.map((one) => one.then(() => null))]),
    (answer) => answer?.status === 429,
  );
  expect(refused?.body.code).toBe("resource_exhausted");
  expect(refused?.headers.get("Retry-After")).toBe("2");
  await client.end();
  expect((await Promise.all(counting)).map(({ status }) => status)).toEqual([200, 200]);
});
