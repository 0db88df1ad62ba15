import pg from "pg";
import { afterEach, describe, expect, test } from "vitest";
import { systemClock } from "../../server/clock.ts";
import { loadConfig } from "../../server/config.ts";
import { openTestDatabase } from "../helpers/database.ts";
import {
  type GatewayClient,
  spawnGateway,
  startTestGateway,
  type TestGateway,
  type TestGatewayOptions,
} from "../helpers/gateway.ts";
import { queryRows } from "../helpers/query-rows.ts";
import { type Answer, type Receiver, startReceiver } from "../helpers/receiver.ts";
import { waitFor } from "../helpers/wait.ts";
import {
  aChange,
  anEnvelope,
  anInboundBody,
  aStatus,
  aTextMessage,
  business,
  customer,
} from "../helpers/whatsapp-bodies.ts";

interface RecoveryShown {
  id: string;
  state: string;
  total?: number;
  done: number;
  under_way: number;
  delivered: number;
  failed: number;
  finished_at?: string;
}

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

function closing<T extends { close(): Promise<unknown> }>(part: T): T {
  closers.push(() => part.close());
  return part;
}

/** One attempt a round, so that what is refused has failed at once. */
const oneAttempt = { POSTHORN_RETRY_SECONDS: "none" };

async function startGateway(options: TestGatewayOptions = {}): Promise<TestGateway> {
  return closing(await startTestGateway({ ...options, env: { ...oneAttempt, ...options.env } }));
}

/** An endpoint whose answer can be changed. */
async function startEndpoint(answer: Answer = { status: 500 }): Promise<Receiver & { answer: Answer }> {
  const now = { answer };
  const receiver = closing(await startReceiver({ answer: () => now.answer }));
  return Object.defineProperty(receiver as Receiver & { answer: Answer }, "answer", {
    get: () => now.answer,
    set: (next: Answer) => {
      now.answer = next;
    },
  });
}

async function post(gateway: GatewayClient, from: number, to: number): Promise<void> {
  const messages = Array.from({ length: to - from }, (_, index) =>
    aTextMessage({ id: `wamid.${from + index}`, body: `message ${from + index}` }),
  );
  expect(await gateway.postBody(anEnvelope([aChange({ messages })]))).toBe(200);
}

async function start(gateway: GatewayClient, fields: Record<string, unknown>): Promise<RecoveryShown> {
  const { status, body } = await gateway.call("DeliveryService/StartRecovery", fields);
  expect([status, body.message]).toEqual([200, undefined]);
  return body.recovery;
}

async function show(gateway: GatewayClient, id: string): Promise<RecoveryShown> {
  return (await gateway.call("DeliveryService/GetRecovery", { id })).body.recovery;
}

function untilDone(gateway: GatewayClient, id: string, boundMs = 20_000): Promise<RecoveryShown> {
  return waitFor(
    "recovery that is done",
    () => show(gateway, id),
    (recovery) => recovery.state === "done",
    boundMs,
  );
}

const wamidsOf = (receiver: Receiver) =>
  receiver.requests.map((request) => JSON.parse(request.body.toString()).id as string);

describe("a recovery of what failed", () => {
  test("sends each again with its id and bytes, goes on with the numbers, and counts what came of it", async () => {
    const gateway = await startGateway();
    const endpoint = await startEndpoint();
    const { id: webhook_id } = await gateway.createWebhook({ webhooks: endpoint.url });
    await post(gateway, 0, 30);
    const failed = await gateway.waitForStates(30, ["failed"]);
    const sentFirst = new Map(endpoint.requests.map(({ headers, body }) => [headers["webhook-id"], body]));
    endpoint.answer = { status: 200 };
    const before = endpoint.requests.length;
    const started = await start(gateway, { webhook_id, rate_per_second: 1_000 });
    expect(started).toMatchObject({
      webhook_id,
      missed: false,
      states: ["failed", "canceled"],
      state: "running",
      total: 30,
      done: 0,
      rate_per_second: 1_000,
    });
    const done = await untilDone(gateway, started.id);
    expect(done).toMatchObject({ total: 30, done: 30, under_way: 0, delivered: 30, failed: 0 });
    expect(Date.parse(done.finished_at!)).toBeGreaterThan(0);
    const again = endpoint.requests.slice(before);
    expect(again.map(({ headers }) => headers["webhook-id"]).sort()).toEqual(
      failed.map(({ id }) => id).sort(),
    );
    for (const { headers, body } of again) {
      expect(body.equals(sentFirst.get(headers["webhook-id"])!)).toBe(true);
    }
    for (const { id } of failed.slice(0, 3)) {
      expect((await gateway.attempts(id)).map(({ number, outcome }) => [number, outcome])).toEqual([
        [1, "failed"],
        [2, "succeeded"],
      ]);
    }
    const { body } = await gateway.call("DeliveryService/ListRecoveries", {});
    expect(body.recoveries.map(({ id }: RecoveryShown) => id)).toEqual([started.id]);
  });

  test("gives each a whole new round, and counts those that fail again as failed", async () => {
    const gateway = await startGateway({ env: { POSTHORN_RETRY_SECONDS: "0.05,0.05,0.05" } });
    const endpoint = await startEndpoint();
    const { id: webhook_id } = await gateway.createWebhook({ webhooks: endpoint.url });
    await post(gateway, 0, 3);
    await gateway.waitForStates(3, ["failed"]);
    const { id } = await start(gateway, { webhook_id, states: ["failed"] });
    expect(await untilDone(gateway, id)).toMatchObject({ total: 3, done: 3, delivered: 0, failed: 3 });
    for (const delivery of await gateway.waitForStates(3, ["failed"])) {
      expect(delivery).toMatchObject({ attempt_count: 8, reason: "attempts_exhausted" });
    }
  });

  test("takes what its filters name, and nothing that came after it was started", async () => {
    const gateway = await startGateway();
    const endpoint = await startEndpoint();
    const other = await startEndpoint();
    const { id: webhook_id } = await gateway.createWebhook({ webhooks: endpoint.url, outgoing: true });
    await gateway.createWebhook({ webhooks: other.url });
    await post(gateway, 0, 2);
    expect(await gateway.postBody(anEnvelope([aChange({ statuses: [aStatus()] })]))).toBe(200);
    await gateway.waitForStates(5, ["failed"]);
    const middle = new Date(Date.now() + 1);
    await waitFor(
      "next millisecond",
      () => Date.now(),
      (now) => now > middle.getTime(),
    );
    await post(gateway, 2, 4);
    await gateway.waitForStates(9, ["failed"]);
    for (const receiver of [endpoint, other]) receiver.answer = {};
    const requestsBefore = endpoint.requests.length;
    const asked = { webhook_id, until: middle.toISOString(), event_types: ["message.rec*"] };
    expect(await untilDone(gateway, (await start(gateway, asked)).id)).toMatchObject({
      total: 2,
      delivered: 2,
    });
    const sent = wamidsOf(endpoint).slice(requestsBefore).sort();
    expect(sent).toEqual(["wamid.0", "wamid.1"]);
    const later = { since: middle.toISOString(), states: ["failed"] };
    expect(await untilDone(gateway, (await start(gateway, later)).id)).toMatchObject({
      total: 4,
      delivered: 4,
    });
    // What is left: the status, and the two of the other webhook from before.
    expect(await gateway.deliveries({ states: ["failed"] })).toHaveLength(3);
    expect(await untilDone(gateway, (await start(gateway, {})).id)).toMatchObject({ total: 3, delivered: 3 });
    expect(await untilDone(gateway, (await start(gateway, {})).id)).toMatchObject({ total: 0, done: 0 });
  });

  test("of what was delivered makes one attempt, leaves the state alone and schedules no replies", async () => {
    const gateway = await startGateway();
    const replies = JSON.stringify({ messages: [{ text: "hello", delay: 60_000 }] });
    const endpoint = await startEndpoint({ status: 200, body: "" });
    const { id: webhook_id } = await gateway.createWebhook({
      webhooks: endpoint.url,
      schedule_activity: true,
      waiting_duration: 3_600,
    });
    await post(gateway, 0, 4);
    const [first] = await gateway.waitForStates(4, ["delivered"]);
    endpoint.answer = { status: 200, body: replies };
    const { id } = await start(gateway, { webhook_id, states: ["delivered"] });
    expect(await untilDone(gateway, id)).toMatchObject({ total: 4, done: 4, delivered: 4, failed: 0 });
    endpoint.answer = { status: 503 };
    const again = await start(gateway, { webhook_id, states: ["delivered"] });
    expect(await untilDone(gateway, again.id)).toMatchObject({ total: 4, done: 4, delivered: 0, failed: 4 });
    for (const delivery of await gateway.waitForStates(4, ["delivered"])) {
      expect(delivery).toMatchObject({ attempt_count: 3, finished_at: expect.any(String) });
    }
    expect((await gateway.attempts(first!.id)).map(({ outcome }) => outcome)).toEqual([
      "succeeded",
      "succeeded",
      "failed",
    ]);
    const { body } = await gateway.call("MessageService/ListScheduledMessages", {});
    expect(body.messages).toEqual([]);
  });

  test("leaves out what a deleted contact left", async () => {
    const gateway = await startGateway();
    const endpoint = await startEndpoint();
    const { id: webhook_id } = await gateway.createWebhook({ webhooks: endpoint.url });
    await post(gateway, 0, 2);
    const other = aTextMessage({ id: "wamid.other", from: "15558880299" });
    expect(await gateway.postBody(anEnvelope([aChange({ messages: [other] })]))).toBe(200);
    await gateway.waitForStates(3, ["failed"]);
    const asked = { phone: customer.phone };
    const { contacts } = (await gateway.call("ContactService/ListContacts", asked)).body;
    expect(contacts).toHaveLength(1);
    await gateway.call("ContactService/DeleteContact", { user_id: contacts[0].user_id });
    endpoint.answer = {};
    const before = endpoint.requests.length;
    const { id } = await start(gateway, { webhook_id });
    expect(await untilDone(gateway, id)).toMatchObject({ total: 1, done: 1, delivered: 1 });
    // A webhook that was there all the time, and got none of the three.
    const late = await startEndpoint({});
    const { id: lateId } = await gateway.createWebhook({ webhooks: late.url });
    const rows = queryRows(gateway.databaseUrl);
    await rows(
      `UPDATE webhook SET created_at = created_at - interval '1 hour', version = version + 1 WHERE id = ${lateId}`,
    );
    await rows("UPDATE configuration SET version = (SELECT max(version) FROM webhook)");
    const missed = await start(gateway, { webhook_id: lateId, missed: true });
    expect(await untilDone(gateway, missed.id)).toMatchObject({ total: 1, done: 1, delivered: 1 });
    expect(wamidsOf(endpoint).slice(before)).toEqual(["wamid.other"]);
    expect(wamidsOf(late)).toEqual(["wamid.other"]);
  });

  test("stops at once when it is canceled; what it took up goes on and is counted", async () => {
    const gateway = await startGateway();
    const endpoint = await startEndpoint();
    const { id: webhook_id } = await gateway.createWebhook({ webhooks: endpoint.url });
    await post(gateway, 0, 60);
    await gateway.waitForStates(60, ["failed"]);
    endpoint.answer = { delayMs: 300 };
    const before = endpoint.requests.length;
    const { id } = await start(gateway, { webhook_id, rate_per_second: 10 });
    await endpoint.waitForRequests(before + 4);
    const canceled = (await gateway.call("DeliveryService/CancelRecovery", { id })).body
      .recovery as RecoveryShown;
    expect(canceled.state).toBe("canceled");
    expect(canceled.done).toBeGreaterThanOrEqual(4);
    expect(canceled.done).toBeLessThan(60);
    const ended = await waitFor(
      "end of what was under way",
      () => show(gateway, id),
      ({ under_way }) => under_way === 0,
    );
    expect(ended).toMatchObject({
      state: "canceled",
      done: canceled.done,
      delivered: canceled.done,
      failed: 0,
    });
    expect(ended.finished_at).toBe(canceled.finished_at);
    expect(endpoint.requests).toHaveLength(before + canceled.done);
    expect(await gateway.deliveries({ states: ["failed"] })).toHaveLength(60 - canceled.done);
    // Once more changes nothing; and one that is done has nothing to cancel.
    const again = await gateway.call("DeliveryService/CancelRecovery", { id });
    expect(again.body.recovery).toEqual(ended);
    endpoint.answer = {};
    const next = await start(gateway, { webhook_id, rate_per_second: 1_000 });
    await untilDone(gateway, next.id);
    const refused = await gateway.call("DeliveryService/CancelRecovery", { id: next.id });
    expect([refused.status, refused.body.code]).toEqual([400, "failed_precondition"]);
  });

  test("passes over webhooks that are off, and leaves the rest alone when its own is turned off", async () => {
    const gateway = await startGateway();
    const [off, on] = [await startEndpoint(), await startEndpoint()];
    const { id: offId } = await gateway.createWebhook({ webhooks: off.url });
    const { id: onId } = await gateway.createWebhook({ webhooks: on.url });
    await post(gateway, 0, 20);
    await gateway.waitForStates(40, ["failed"]);
    await gateway.updateWebhook(offId, { status: false });
    on.answer = {};
    const { id } = await start(gateway, { rate_per_second: 1_000 });
    expect(await untilDone(gateway, id)).toMatchObject({ total: 20, delivered: 20 });
    expect(await gateway.deliveries({ webhook_id: offId, states: ["failed"] })).toHaveLength(20);
    const refused = await gateway.call("DeliveryService/StartRecovery", { webhook_id: offId });
    expect([refused.body.code, refused.body.message]).toEqual([
      "failed_precondition",
      "the webhook is off: turn it on first (status: true)",
    ]);

    const slow = await start(gateway, { webhook_id: onId, states: ["delivered"], rate_per_second: 5 });
    await on.waitForRequests(20 + 20 + 2);
    await gateway.updateWebhook(onId, { status: false });
    const ended = await untilDone(gateway, slow.id);
    expect(ended.done).toBeLessThan(20);
    expect(ended).toMatchObject({ total: ended.done, under_way: 0 });
  });
});

describe("a recovery of what was missed", () => {
  test("makes the deliveries that a webhook that was off did not get, each once, whoever asks how often", async () => {
    const database = closing(await openTestDatabase());
    const gateways = await Promise.all([
      startGateway({ databaseUrl: database.url }),
      startGateway({ databaseUrl: database.url }),
    ]);
    const [gateway] = gateways;
    const endpoint = await startEndpoint({});
    const { id: webhook_id } = await gateway.createWebhook({ webhooks: endpoint.url });
    await post(gateway, 0, 10);
    await gateway.waitForStates(10, ["delivered"]);
    await gateway.updateWebhook(webhook_id, { status: false });
    await post(gateway, 10, 200);
    await gateway.updateWebhook(webhook_id, { status: true });
    await post(gateway, 200, 210);
    await gateway.waitForStates(20, ["delivered"]);
    const started = await Promise.all(
      [0, 1, 2, 3].map((index) =>
        start(gateways[index % 2]!, { webhook_id, missed: true, rate_per_second: 1_000 }),
      ),
    );
    expect(started[0]).toMatchObject({ missed: true, states: [] });
    const ended = await Promise.all(started.map(({ id }) => untilDone(gateway, id)));
    expect(ended.reduce((sum, { delivered }) => sum + delivered, 0)).toBe(190);
    const deliveries = await gateway.waitForStates(210, ["delivered"]);
    expect(new Set(deliveries.map(({ event_id }) => event_id)).size).toBe(210);
    expect(wamidsOf(endpoint).sort()).toEqual(
      Array.from({ length: 210 }, (_, index) => `wamid.${index}`).sort(),
    );
    // Nothing is left, whatever it looks at.
    const { id } = await start(gateway, { webhook_id, missed: true });
    expect(await untilDone(gateway, id)).toMatchObject({ total: 0, done: 0, delivered: 0 });
    const canceled = await start(gateway, { webhook_id });
    expect(await untilDone(gateway, canceled.id)).toMatchObject({ total: 0 });
  });

  test("goes by the filters as they are now, and never back before the webhook was made", async () => {
    const gateway = await startGateway();
    const endpoint = await startEndpoint({});
    await post(gateway, 0, 3);
    const { id: webhook_id } = await gateway.createWebhook({
      webhooks: endpoint.url,
      event_types: ["message.reaction"],
    });
    await post(gateway, 3, 5);
    expect(await gateway.postBody(anEnvelope([aChange({ statuses: [aStatus()] })]))).toBe(200);
    await gateway.updateWebhook(webhook_id, { event_types: ["message.received"] });
    const { id } = await start(gateway, { missed: true, since: "2020-01-01T00:00:00Z" });
    expect(await untilDone(gateway, id)).toMatchObject({ total: 2, done: 2, delivered: 2 });
    expect(wamidsOf(endpoint).sort()).toEqual(["wamid.3", "wamid.4"]);
    await gateway.updateWebhook(webhook_id, { outgoing: true, update_mask: "eventTypes" });
    const statuses = await start(gateway, { missed: true, event_types: ["message.status"] });
    expect(await untilDone(gateway, statuses.id)).toMatchObject({ total: 1, delivered: 1 });
  });

  test("does not take for missed what was delivered long after it came: by a recovery, or when its client was added", async () => {
    const ahead = { ms: 0 };
    const clock = { now: () => new Date(Date.now() + ahead.ms), sleep: systemClock.sleep };
    const gateway = await startGateway({ clock, env: { POSTHORN_AUTO_CLIENTS: "false" } });
    const endpoint = await startEndpoint({});
    const { id: webhook_id } = await gateway.createWebhook({ webhooks: endpoint.url });
    const recover = async () =>
      await untilDone(gateway, (await start(gateway, { webhook_id, missed: true })).id);
    await post(gateway, 0, 5);
    ahead.ms += 600_000;
    const number = { phone_number_id: business.phoneNumberId };
    await gateway.call("ClientService/CreateClient", { client_ref: "late", phone_numbers: [number] });
    await gateway.waitForStates(5, ["delivered"]);
    expect(await recover()).toMatchObject({ total: 0, done: 0 });
    await gateway.updateWebhook(webhook_id, { status: false });
    await post(gateway, 5, 8);
    ahead.ms += 600_000;
    await gateway.updateWebhook(webhook_id, { status: true });
    expect(await recover()).toMatchObject({ total: 3, done: 3, delivered: 3 });
    ahead.ms += 600_000;
    expect(await recover()).toMatchObject({ total: 0, done: 0 });
    expect(wamidsOf(endpoint)).toHaveLength(8);
  });
});

describe("a recovery goes on", () => {
  test("after kill -9 of its gateway: nothing is left out, and what was sent twice is the same", async () => {
    const database = closing(await openTestDatabase());
    const gateway = closing(await spawnGateway({ DATABASE_URL: database.url, ...oneAttempt }));
    const endpoint = await startEndpoint();
    const { id: webhook_id } = await gateway.createWebhook({ webhooks: endpoint.url });
    await post(gateway, 0, 200);
    await gateway.waitForStates(200, ["failed"], {}, 20_000);
    await gateway.updateWebhook(webhook_id, { status: false });
    await post(gateway, 200, 300);
    await gateway.updateWebhook(webhook_id, { status: true });
    endpoint.answer = {};
    const before = endpoint.requests.length;
    const again = await start(gateway, { webhook_id, rate_per_second: 100 });
    const missed = await start(gateway, { webhook_id, missed: true, rate_per_second: 50 });
    await endpoint.waitForRequests(before + 60, 20_000);
    await gateway.kill("SIGKILL");
    const atDeath = endpoint.requests.length - before;
    expect(atDeath).toBeLessThan(290);
    await gateway.restart();
    const ended = await Promise.all([again, missed].map(({ id }) => untilDone(gateway, id, 50_000)));
    expect(ended[0]).toMatchObject({ total: 200, done: 200, delivered: 200, failed: 0, under_way: 0 });
    expect(ended[1]).toMatchObject({ total: 100, done: 100, delivered: 100, failed: 0, under_way: 0 });
    await gateway.waitForStates(300, ["delivered"]);
    const bodies = new Map<string, string>();
    for (const { headers, body } of endpoint.requests.slice(before)) {
      const id = String(headers["webhook-id"]);
      expect(bodies.get(id) ?? body.toString()).toBe(body.toString());
      bodies.set(id, body.toString());
    }
    expect(bodies.size).toBe(300);
    const rows = await queryRows(database.url)("SELECT count(*)::int AS count FROM recovery_delivery");
    expect(rows).toEqual([{ count: 0 }]);
  }, 90_000);

  test("on another gateway when its own stops, and never on two at once", async () => {
    const database = closing(await openTestDatabase());
    const first = await startTestGateway({ databaseUrl: database.url, env: oneAttempt });
    const second = await startGateway({ databaseUrl: database.url });
    const endpoint = await startEndpoint();
    const { id: webhook_id } = await first.createWebhook({ webhooks: endpoint.url });
    await post(first, 0, 150);
    await first.waitForStates(150, ["failed"]);
    endpoint.answer = {};
    const before = endpoint.requests.length;
    const { id } = await start(first, { webhook_id, rate_per_second: 50 });
    await endpoint.waitForRequests(before + 25);
    const startedAt = endpoint.requests[before]!.receivedAt.getTime();
    await first.close();
    const done = await untilDone(second, id, 30_000);
    expect(done).toMatchObject({ total: 150, done: 150, delivered: 150, failed: 0 });
    const again = endpoint.requests.slice(before);
    expect(again).toHaveLength(150);
    // At 50 a second for both together, the last of 150 cannot come before some three seconds have passed.
    expect(again.at(-1)!.receivedAt.getTime() - startedAt).toBeGreaterThan(2_400);
  }, 60_000);
});

test("of many that are started at once few are counted at once, so that they leave connections to everybody", async () => {
  const gateway = await startGateway();
  const endpoint = await startEndpoint();
  await gateway.createWebhook({ webhooks: endpoint.url });
  const holder = new pg.Client({ connectionString: gateway.databaseUrl });
  await holder.connect();
  try {
    await holder.query("BEGIN");
    await holder.query("LOCK TABLE delivery IN ACCESS EXCLUSIVE MODE");
    const started: RecoveryShown[] = [];
    const starting = Array.from({ length: 10 }, async () => started.push(await start(gateway, {})));
    await waitFor(
      "starts that were not counted",
      () => started,
      (seen) => seen.length === 8,
    );
    expect(started.map(({ total }) => total)).toEqual(Array(8).fill(undefined));
    await holder.query("COMMIT");
    await Promise.all(starting);
    for (const { id } of started) expect(await untilDone(gateway, id)).toMatchObject({ total: 0 });
  } finally {
    await holder.end();
  }
}, 60_000);

describe("recoveries that are more than a process works on at once", () => {
  const twoAtOnce = {
    recovery: { ...loadConfig({}, { coreCount: 2 }).recovery, heldMax: 2, pollMs: 100 },
  };

  /** Webhooks with so many failed deliveries each, and endpoints that take them now. */
  async function startFailed(count: number, deliveryCount: number) {
    const gateway = await startGateway({ overrides: twoAtOnce });
    const endpoints = await Promise.all(Array.from({ length: count }, () => startEndpoint()));
    const ids: number[] = [];
    for (const { url } of endpoints) ids.push((await gateway.createWebhook({ webhooks: url })).id);
    await post(gateway, 0, deliveryCount);
    await gateway.waitForStates(count * deliveryCount, ["failed"]);
    for (const endpoint of endpoints) endpoint.answer = {};
    return { gateway, ids };
  }

  test("go on beside those that wait for paused webhooks, which end when they can", async () => {
    const { gateway, ids } = await startFailed(3, 3);
    const [open, ...paused] = ids;
    const waiting: string[] = [];
    for (const webhook_id of paused) {
      await gateway.updateWebhook(webhook_id, { paused: true });
      const { id } = await start(gateway, { webhook_id, rate_per_second: 1_000 });
      waiting.push(id);
      await waitFor(
        "recovery that has taken up everything",
        () => show(gateway, id),
        ({ under_way }) => under_way === 3,
      );
    }
    const going = await start(gateway, { webhook_id: open, rate_per_second: 1_000 });
    expect(await untilDone(gateway, going.id)).toMatchObject({ delivered: 3 });
    for (const id of waiting) expect((await show(gateway, id)).state).toBe("running");
    for (const webhook_id of paused) await gateway.updateWebhook(webhook_id, { paused: false });
    for (const id of waiting) expect(await untilDone(gateway, id)).toMatchObject({ delivered: 3 });
  }, 60_000);

  test("take turns, so that a short one need not wait for the end of long ones", async () => {
    const { gateway, ids } = await startFailed(3, 60);
    const long = [
      await start(gateway, { webhook_id: ids[0], rate_per_second: 1 }),
      await start(gateway, { webhook_id: ids[1], rate_per_second: 1 }),
    ];
    const short = await start(gateway, { webhook_id: ids[2], rate_per_second: 1_000 });
    expect(await untilDone(gateway, short.id)).toMatchObject({ delivered: 60 });
    for (const { id } of long) {
      const { state, done } = await show(gateway, id);
      expect([state, done < 60]).toEqual(["running", true]);
    }
  }, 60_000);
});

test("a webhook that hangs delays its own part of a recovery and no other webhook", async () => {
  const gateway = await startGateway();
  const [hanging, healthy] = [await startEndpoint(), await startEndpoint()];
  await gateway.createWebhook({ webhooks: hanging.url, max_in_flight: 2 });
  await gateway.createWebhook({ webhooks: healthy.url });
  await post(gateway, 0, 20);
  await gateway.waitForStates(40, ["failed"]);
  hanging.answer = { kind: "hang" };
  healthy.answer = {};
  const before = healthy.requests.length;
  await start(gateway, { rate_per_second: 200 });
  await healthy.waitForRequests(before + 20, 5_000);
  await gateway.postBody(anInboundBody(aTextMessage({ id: "wamid.live" })));
  await waitFor(
    "live event at the healthy one",
    () => wamidsOf(healthy),
    (seen) => seen.includes("wamid.live"),
    5_000,
  );
}, 30_000);
