import pg from "pg";
import { afterEach, describe, expect, test } from "vitest";
import { openTestDatabase, type TestDatabase } from "../helpers/database.ts";
import {
  spawnGateway,
  startTestGateway,
  type TestGateway,
  type TestGatewayOptions,
} from "../helpers/gateway.ts";
import { type QueryRows, queryRows } from "../helpers/query-rows.ts";
import { startReceiver } from "../helpers/receiver.ts";
import { waitFor } from "../helpers/wait.ts";
import { aChange, anEnvelope, aTextMessage, business } from "../helpers/whatsapp-bodies.ts";

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

function closing<T extends { close(): Promise<unknown> }>(part: T): T {
  closers.push(() => part.close());
  return part;
}

async function startGateway(options: TestGatewayOptions = {}): Promise<TestGateway> {
  const env = { POSTHORN_AUTO_CLIENTS: "false", ...options.env };
  return closing(await startTestGateway({ ...options, env }));
}

async function openDatabase(): Promise<TestDatabase & { rows: QueryRows }> {
  const database = closing(await openTestDatabase());
  return { ...database, rows: queryRows(database.url) };
}

/** Messages `from` to `to` (not included) of one customer to the default number. */
function messagesBody(from: number, to: number): unknown {
  const messages = Array.from({ length: to - from }, (_, index) =>
    aTextMessage({ id: `wamid.${from + index}`, body: `message ${from + index}` }),
  );
  return anEnvelope([aChange({ messages })]);
}

async function addClient(gateway: TestGateway | Awaited<ReturnType<typeof spawnGateway>>, fields = {}) {
  const number = { phone_number_id: business.phoneNumberId };
  const answer = await gateway.call("ClientService/CreateClient", {
    client_ref: "late",
    phone_numbers: [number],
    ...fields,
  });
  expect(answer.status).toBe(200);
}

/** Settles when nothing is left to route. */
function routingEnded(rows: QueryRows, boundMs = 15_000) {
  return waitFor(
    "end of the routing",
    () => rows("SELECT id FROM routing_task"),
    (tasks) => tasks.length === 0,
    boundMs,
  );
}

/** Holds the row of an event, so that routing stops before it, until it is let go. */
async function holdEvent(url: string, wamid: string): Promise<() => Promise<void>> {
  return await holdRow(url, `SELECT FROM event WHERE item LIKE '%"${wamid}"%'::bytea FOR UPDATE`);
}

async function holdRow(url: string, statement: string): Promise<() => Promise<void>> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query("BEGIN");
  expect((await client.query(statement)).rowCount).toBe(1);
  return () => client.end();
}

/** One delivery an event, one place a message, without gaps: nothing lost, nothing twice. */
async function expectAllOnce(rows: QueryRows, count: number): Promise<void> {
  const [events] = await rows(
    `SELECT count(*)::int AS count, count(*) FILTER (WHERE tenant_id = 0)::int AS unrouted,
       count(DISTINCT sequence)::int AS places, max(sequence)::int AS last FROM event`,
  );
  expect(events).toEqual({ count, unrouted: 0, places: count, last: count });
  const [deliveries] = await rows(
    "SELECT count(*)::int AS count, count(DISTINCT event_id)::int AS events FROM delivery",
  );
  expect(deliveries).toEqual({ count, events: count });
  const [messages] = await rows(
    "SELECT count(*)::int AS count, count(DISTINCT wamid)::int AS wamids FROM message",
  );
  expect(messages).toEqual({ count, wamids: count });
}

describe("events of a number that no client has", () => {
  test("are kept, and delivered in order of their coming once a client has it", async () => {
    const database = await openDatabase();
    const gateway = await startGateway({ databaseUrl: database.url });
    const receiver = closing(await startReceiver());
    await gateway.createWebhook({ webhooks: receiver.url, transformer: "insights" });
    for (const index of [1, 2, 3]) expect(await gateway.postBody(messagesBody(index, index + 1))).toBe(200);
    expect(await gateway.deliveries()).toEqual([]);
    const [kept] = (await gateway.call("ClientService/ListUnroutedNumbers", {})).body.unrouted_numbers;
    expect(kept).toMatchObject({ phone_number_id: business.phoneNumberId, event_count: 3 });
    expect(gateway.logged.some((line) => String(line.msg).includes("no client has"))).toBe(true);

    await addClient(gateway);
    await gateway.waitForStates(3, ["delivered"]);
    const histories = receiver.requests
      .map((request) => JSON.parse(request.body.toString()).last_messages as { content: string }[])
      .map((messages) => messages.map((message) => message.content))
      .sort((first, second) => first.length - second.length);
    expect(histories).toEqual([
      ["message 1"],
      ["message 2", "message 1"],
      ["message 3", "message 2", "message 1"],
    ]);
    const events = await database.rows("SELECT details::json->>'clientRef' AS client, details FROM event");
    expect(events.map((event) => event.client)).toEqual(["late", "late", "late"]);
    expect(events.some((event) => event.details.includes("unrouted"))).toBe(false);
    expect((await gateway.call("ClientService/ListUnroutedNumbers", {})).body.unrouted_numbers).toEqual([]);
  });

  test("are known again when they are repeated after routing", async () => {
    const database = await openDatabase();
    const gateway = await startGateway({ databaseUrl: database.url });
    await gateway.createWebhook({ webhooks: "http://127.0.0.1:9/", paused: true });
    await gateway.postBody(messagesBody(1, 4));
    await addClient(gateway);
    await waitFor(
      "deliveries",
      () => gateway.deliveries(),
      (found) => found.length === 3,
    );
    expect(await gateway.postBody(messagesBody(1, 5))).toBe(200);
    await expectAllOnce(database.rows, 4);
  });

  test("make no second event when a repeat overtakes the routing", async () => {
    const database = await openDatabase();
    const gateway = await startGateway({ databaseUrl: database.url });
    await gateway.createWebhook({ webhooks: "http://127.0.0.1:9/", paused: true });
    await gateway.postBody(messagesBody(1, 4));
    const letGo = await holdEvent(database.url, "wamid.1");
    await addClient(gateway);
    expect(await gateway.postBody(messagesBody(2, 3))).toBe(200);
    expect(await gateway.deliveries()).toHaveLength(1);
    await letGo();
    await routingEnded(database.rows);
    await expectAllOnce(database.rows, 3);
  });

  test("make deliveries only if they came within the last 24 hours", async () => {
    const database = await openDatabase();
    const gateway = await startGateway({ databaseUrl: database.url });
    await gateway.createWebhook({ webhooks: "http://127.0.0.1:9/", paused: true });
    await gateway.postBody(messagesBody(1, 3));
    const age = "UPDATE event SET received_at = now() - $2::interval WHERE item LIKE $1::bytea";
    await database.rows(age, ['%"wamid.1"%', "24 hours 1 minute"]);
    await database.rows(age, ['%"wamid.2"%', "23 hours 59 minutes"]);
    await addClient(gateway);
    await routingEnded(database.rows);
    const found = await database.rows(
      `SELECT e.tenant_id, e.sequence::int, d.id IS NOT NULL AS is_delivered
       FROM event e LEFT JOIN delivery d ON d.event_id = e.id ORDER BY e.sequence`,
    );
    expect(found).toEqual([
      { tenant_id: 1, sequence: 1, is_delivered: false },
      { tenant_id: 1, sequence: 2, is_delivered: true },
    ]);
  });

  test("stay nobody's if the number has left again", async () => {
    const database = await openDatabase();
    const gateway = await startGateway({ databaseUrl: database.url });
    await gateway.postBody(messagesBody(1, 2));
    await database.rows("INSERT INTO routing_task (phone_number_id, created_at) VALUES ($1, now())", [
      business.phoneNumberId,
    ]);
    await routingEnded(database.rows);
    expect(await database.rows("SELECT tenant_id FROM event")).toEqual([{ tenant_id: 0 }]);
  });

  test("that the database refuses are kept aside, and hold up none of the others", async () => {
    const database = await openDatabase();
    const gateway = await startGateway({ databaseUrl: database.url });
    await gateway.createWebhook({ webhooks: "http://127.0.0.1:9/", paused: true });
    await gateway.postBody(messagesBody(1, 4));
    await database.rows(
      `UPDATE event SET details = replace(details, '"contentType":"text"', '"contentType":"smoke"')
       WHERE item LIKE '%"wamid.2"%'::bytea`,
    );
    await addClient(gateway);
    await routingEnded(database.rows);
    await expectAllOnce(database.rows, 2);
    const [malformed] = await database.rows("SELECT body FROM malformed_body");
    expect(malformed.body.toString()).toContain("wamid.2");
  });
});

test("a history and a change of number that nobody had take effect once a client has them", async () => {
  const gateway = await startGateway();
  const [before, after] = ["15558880301", "15558880302"];
  const old = (id: string, from: string, second: number) =>
    aTextMessage({ id, body: id, from, timestamp: String(1772000000 + second) });
  const system = { type: "user_changed_number", wa_id: after, body: "changed" };
  const threads = [{ id: before, messages: [old("b", before, 2), old("a", business.phone, 1)] }];
  for (const change of [
    aChange({ messages: [aTextMessage({ id: "c", body: "c", from: before })] }),
    aChange({ history: [{ threads }] }, "history"),
    aChange({
      messages: [{ ...aTextMessage({ id: "d", from: before }), type: "system", text: undefined, system }],
    }),
    aChange({ messages: [aTextMessage({ id: "e", body: "e", from: after })] }),
  ]) {
    expect(await gateway.postBody(anEnvelope([change]))).toBe(200);
  }
  await addClient(gateway);
  await routingEnded(queryRows(gateway.databaseUrl));
  const { body } = await gateway.call("ContactService/ListContacts", { client_ref: "late" });
  expect(body.contacts.map(({ phone }: { phone: string }) => phone)).toEqual([`+${after}`]);
  const conversation = await gateway.call("ContactService/GetConversation", {
    user_id: body.contacts[0].user_id,
  });
  expect(conversation.body.messages.map(({ content }: { content: string }) => content)).toEqual([
    "e",
    "c",
    "b",
    "a",
  ]);
});

describe("events of an account that no client has", () => {
  const accountBody = (event: string) =>
    anEnvelope([{ field: "account_update", value: { event } }], { id: "w-shared", time: 1772712000 });

  test("wait while it is in doubt whose they are, and are routed once one tenant alone has it", async () => {
    const database = await openDatabase();
    const gateway = await startGateway({ databaseUrl: database.url });
    await gateway.call("TenantService/CreateTenant", { name: "acme" });
    await addClient(gateway, { client_ref: "one", phone_numbers: [], waba_ids: ["w-shared"] });
    const other = await fetch(`${gateway.url()}/posthorn.v1.ClientService/CreateClient`, {
      method: "POST",
      headers: {
        "Content-Type": "application/json",
        Authorization: "Bearer phk_operator_key_of_the_tests",
        "Posthorn-Tenant": "acme",
      },
      body: JSON.stringify({ client_ref: "two", waba_ids: ["w-shared"] }),
    });
    expect(other.status).toBe(200);
    await gateway.postBody(accountBody("DOUBTFUL"));
    const [kept] = (await gateway.call("ClientService/ListUnroutedNumbers", {})).body.unrouted_numbers;
    expect(kept).toMatchObject({ waba_id: "w-shared", event_count: 1 });
    expect(kept).not.toHaveProperty("phone_number_id");
    await gateway.call("ClientService/UpdateClient", { client_ref: "one", update_mask: "wabaIds" });
    await routingEnded(database.rows);
    const [event] = await database.rows(
      "SELECT t.name AS tenant, c.client_ref FROM event e JOIN tenant t ON t.id = e.tenant_id JOIN client c ON c.id = e.client_id",
    );
    expect(event).toEqual({ tenant: "acme", client_ref: "two" });
  });
});

describe("an event without any time", () => {
  const timeless = anEnvelope([{ field: "account_alerts", value: { alert: "TIMELESS" } }], {
    id: "w-timeless",
  });

  test("is known again after routing for as long as it would have been", async () => {
    const database = await openDatabase();
    const gateway = await startGateway({ databaseUrl: database.url });
    await gateway.postBody(timeless);
    await addClient(gateway, { phone_numbers: [], waba_ids: ["w-timeless"] });
    await routingEnded(database.rows);
    await gateway.postBody(timeless);
    const seen = "SELECT tenant_id FROM event";
    expect(await database.rows(seen)).toEqual([{ tenant_id: 1 }]);
    // As if ten minutes had passed: its key counts no longer.
    await database.rows(
      `UPDATE dedup_key SET received_at = received_at - interval '10 minutes', placed_at = placed_at - interval '10 minutes'
       WHERE tenant_id = 1`,
    );
    await gateway.postBody(timeless);
    expect(await database.rows(seen)).toHaveLength(2);
  });

  test("makes no second event when a repeat overtakes the routing across the edge of a bucket", async () => {
    const database = await openDatabase();
    const gateway = await startGateway({ databaseUrl: database.url });
    await gateway.postBody(timeless);
    const letGo = await holdRow(database.url, "SELECT FROM event FOR UPDATE");
    await addClient(gateway, { phone_numbers: [], waba_ids: ["w-timeless"] });
    await gateway.postBody(timeless);
    // As if the first had come nine minutes before, in the bucket before.
    await database.rows(
      "UPDATE dedup_key SET placed_at = placed_at + interval '10 minutes', received_at = received_at + interval '9 minutes' WHERE tenant_id = 1",
    );
    await letGo();
    await routingEnded(database.rows);
    expect(await database.rows("SELECT tenant_id FROM event")).toEqual([{ tenant_id: 1 }]);
  });
});

describe("nothing is lost and nothing happens twice", () => {
  test("when two gateways route at once and the same events come in again meanwhile", async () => {
    const database = await openDatabase();
    const options = {
      databaseUrl: database.url,
      overrides: { lateRouting: { batchEventsMax: 7, pollMs: 20 } },
    };
    const [one, two] = [await startGateway(options), await startGateway(options)];
    await one.createWebhook({ webhooks: "http://127.0.0.1:9/", paused: true });
    const count = 200;
    await one.postBody(messagesBody(0, count));
    await addClient(one);
    const repeats: Promise<number>[] = [];
    for (let from = 0; from < count; from += 20) {
      repeats.push((from % 40 === 0 ? one : two).postBody(messagesBody(from, from + 20)));
    }
    expect(new Set(await Promise.all(repeats))).toEqual(new Set([200]));
    await routingEnded(database.rows);
    await expectAllOnce(database.rows, count);
  });

  test("when the gateway is killed between two batches", async () => {
    const database = await openDatabase();
    const gateway = closing(
      await spawnGateway({ DATABASE_URL: database.url, POSTHORN_AUTO_CLIENTS: "false" }),
    );
    await gateway.createWebhook({ webhooks: "http://127.0.0.1:9/", paused: true });
    const count = 1_000;
    for (let from = 0; from < count; from += 250) {
      expect(await gateway.postBody(messagesBody(from, from + 250))).toBe(200);
    }
    const letGo = await holdEvent(database.url, `wamid.${count / 2}`);
    await addClient(gateway);
    const [unrouted] = await waitFor(
      "batch that is routed",
      () => database.rows("SELECT count(*)::int AS count FROM event WHERE tenant_id = 0"),
      ([left]) => left.count < count,
    );
    expect(unrouted.count).toBeGreaterThan(0);
    await gateway.kill("SIGKILL");
    await letGo();
    expect(await database.rows("SELECT FROM routing_task")).toHaveLength(1);
    await gateway.restart();
    await routingEnded(database.rows);
    await expectAllOnce(database.rows, count);
  });
});
