import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { startTestGateway, type TestGateway } from "../helpers/gateway.ts";
import { makePluginDirectory, type PluginDirectory, pluginSource } from "../helpers/plugins.ts";
import { type QueryRows, queryRows } from "../helpers/query-rows.ts";
import { type Receiver, type ReceiverOptions, startReceiver } from "../helpers/receiver.ts";
import { waitFor } from "../helpers/wait.ts";
import { anInboundBody, aReaction, aTextMessage } from "../helpers/whatsapp-bodies.ts";

const greetingSchema = {
  type: "object",
  properties: { greeting: { type: "string", maxLength: 20 } },
  additionalProperties: false,
};
const plugins = {
  "plain.ts": pluginSource(
    "plain",
    "return respond({ body: 'hi ' + input.event.clientRef, contentType: 'text/plain', headers: { 'X-Kind': 'plain' } })",
    { pure: true, version: "1.2.3", description: "A text" },
  ),
  "random.ts": pluginSource("random", "return { at: Math.random() }"),
  "slow.ts": pluginSource(
    "slow",
    "return new Promise((resolve) => setTimeout(resolve, 1_000, { slow: true }))",
  ),
  "greeter.ts": pluginSource("greeter", "return input.options.greeting ?? 'hello'", {
    optionsSchema: greetingSchema,
  }),
  "history.ts": pluginSource("history", "return input.conversation.messages.map(({ content }) => content)", {
    history: 2,
  }),
  "picky.ts": pluginSource(
    "picky",
    "if (input.event.item.text.body === 'bad') throw new Error('I do not like it'); if (input.event.item.text.body === 'exit') process.exit(1); return undefined",
    { handles: ["message.received"] },
  ),
};

let directory: PluginDirectory;
let gateway: TestGateway;
let query: QueryRows;
const receivers: Receiver[] = [];

beforeAll(async () => {
  directory = makePluginDirectory(plugins);
  gateway = await startTestGateway({
    env: { POSTHORN_PLUGINS: directory.path, POSTHORN_TRANSFORM_TIMEOUT_MS: "2000" },
    overrides: { delivery: { retryScheduleMs: [50, 50, 50] }, plugins: { watchMs: 50 } },
  });
  query = queryRows(gateway.databaseUrl);
});
afterEach(async () => {
  for (const { id } of (await gateway.call("WebhookService/ListWebhooks", {})).body.webhooks) {
    await gateway.call("WebhookService/DeleteWebhook", { id });
  }
  for (const receiver of receivers.splice(0)) await receiver.close();
});
afterAll(async () => {
  await gateway.close();
  directory.close();
});

async function receive(answer: ReceiverOptions["answer"] = {}): Promise<Receiver> {
  const receiver = await startReceiver({ answer });
  receivers.push(receiver);
  return receiver;
}

let messageCount = 0;
const send = (body = "Hello!") =>
  gateway.postBody(anInboundBody(aTextMessage({ id: `wamid.plugin-${++messageCount}`, body })));

async function getDelivery(webhookId: number) {
  const [delivery] = await waitFor(
    "a delivery",
    () => gateway.deliveries({ webhook_id: webhookId }),
    (found) => found.length > 0,
  );
  return (await gateway.call("DeliveryService/GetDelivery", { id: delivery!.id })).body;
}

const heldReason = async (id: number) =>
  (await gateway.call("WebhookService/GetWebhook", { id })).body.webhook.held_reason ?? null;

describe("an operator's plugin", () => {
  test("makes the body, the content type and headers, and its version is in the log with them", async () => {
    const receiver = await receive();
    const { id } = await gateway.createWebhook({ webhooks: receiver.url, transformer: "plain" });
    await send();
    const [request] = await receiver.waitForRequests(1);
    expect(request!.body.toString()).toBe("hi 620000000000001");
    expect(request!.headers).toMatchObject({ "content-type": "text/plain", "x-kind": "plain" });
    await gateway.waitForStates(1, ["delivered"], { webhook_id: id });
    const { delivery, body, content_type } = await getDelivery(id);
    expect(delivery).toMatchObject({ transformer: "plain", transformer_version: "1.2.3" });
    expect(content_type).toBe("text/plain");
    expect(Buffer.from(body, "base64")).toEqual(request!.body);
  });

  test("that is not pure has its body stored before the first request, and every attempt has the same bytes", async () => {
    const storedAtRequest: unknown[] = [];
    const receiver = await receive((request, number) => {
      if (number === 1) {
        void query("SELECT body, transformer_version AS version FROM delivery WHERE id = $1", [
          request.headers["webhook-id"],
        ]).then(([row]) => storedAtRequest.push(row));
        return { status: 500, delayMs: 500 };
      }
      return { status: number < 4 ? 500 : 200 };
    });
    const { id } = await gateway.createWebhook({ webhooks: receiver.url, transformer: "random" });
    await send();
    const requests = await receiver.waitForRequests(4);
    expect(new Set(requests.map(({ body }) => body.toString())).size).toBe(1);
    expect(storedAtRequest).toEqual([{ body: requests[0]!.body, version: "1" }]);
    await gateway.waitForStates(1, ["delivered"], { webhook_id: id });
    const retried = (await getDelivery(id)).delivery;
    await gateway.call("DeliveryService/RetryDelivery", { id: retried.id });
    const again = await receiver.waitForRequests(5);
    expect(again[4]!.body).toEqual(requests[0]!.body);
  });

  test("gets the messages of the conversation that it asks for", async () => {
    const receiver = await receive();
    await gateway.createWebhook({ webhooks: receiver.url, transformer: "history" });
    await send("the one before");
    await send("the one after");
    const requests = await receiver.waitForRequests(2);
    expect(requests.map(({ body }) => JSON.parse(body.toString())[0])).toContain("the one after");
    expect(requests.map(({ body }) => body.toString())).toContainEqual('["the one after","the one before"]');
  });

  test("that has nothing to send skips the delivery; one that throws or ends its process fails its own", async () => {
    const receiver = await receive();
    const { id } = await gateway.createWebhook({ webhooks: receiver.url, transformer: "picky" });
    for (const body of ["bad", "fine", "exit"]) await send(body);
    const ended = await gateway.waitForStates(3, ["failed", "skipped"], { webhook_id: id }, 20_000);
    expect(ended.map(({ state, reason }) => [state, reason])).toEqual([
      ["failed", "transformer_error"],
      ["skipped", undefined],
      ["failed", "transformer_error"],
    ]);
    expect(ended.map((one) => (one as { reason_detail?: string }).reason_detail)).toEqual([
      expect.stringMatching(/^Error: I do not like it at [\w-]+\.\w+:\d+:\d+$/),
      undefined,
      expect.stringContaining("ended its thread"),
    ]);
    expect(receiver.requests).toEqual([]);
  });

  test("that takes its time sends by the webhook as it is when the payload is made", async () => {
    const former = await receive();
    const next = await receive();
    const { id } = await gateway.createWebhook({ webhooks: former.url, transformer: "slow" });
    await send();
    await gateway.waitForStates(1, ["delivering"], { webhook_id: id });
    await gateway.updateWebhook(id, { webhooks: next.url });
    const [request] = await next.waitForRequests(1);
    expect(request!.body.toString()).toBe('{"slow":true}');
    expect(former.requests).toEqual([]);
  });

  test("of a webhook that is turned off meanwhile sends nothing", async () => {
    const receiver = await receive();
    const { id } = await gateway.createWebhook({ webhooks: receiver.url, transformer: "slow" });
    await send();
    await gateway.waitForStates(1, ["delivering"], { webhook_id: id });
    await gateway.updateWebhook(id, { status: false });
    await gateway.waitForStates(1, ["canceled"], { webhook_id: id });
    const held = () => query("SELECT FROM delivery WHERE webhook_id = $1 AND leased_until IS NOT NULL", [id]);
    await waitFor("the lease to end", held, (rows) => rows.length === 0);
    expect(receiver.requests).toEqual([]);
  });

  test("is tried by TestWebhook, which tells what it made or what went wrong", async () => {
    const receiver = await receive();
    const { id } = await gateway.createWebhook({ webhooks: receiver.url, transformer: "random" });
    const { body } = await gateway.call("WebhookService/TestWebhook", { id });
    const [request] = await receiver.waitForRequests(1);
    expect(body).toMatchObject({ attempt: { outcome: "succeeded" }, content_type: "application/json" });
    expect(Buffer.from(body.body, "base64")).toEqual(request!.body);
    await gateway.updateWebhook(id, { transformer: "picky" });
    expect((await gateway.call("WebhookService/TestWebhook", { id })).body).toMatchObject({
      reason: "skipped",
    });
  });
});

describe("options", () => {
  test("are checked by the plugin's schema when a webhook is made and changed, and the path is named", async () => {
    const receiver = await receive();
    const refused = await gateway.call("WebhookService/CreateWebhook", {
      webhooks: receiver.url,
      status: true,
      incoming: true,
      schedule_activity: false,
      waiting_duration: 0,
      active_signature: false,
      transformer: "greeter",
      transformer_options: { greeting: 7 },
    });
    expect(refused).toMatchObject({ status: 400, body: { code: "invalid_argument" } });
    expect(refused.body.message).toContain("greeting must be string");

    const options = { greeting: "good day" };
    const { id } = await gateway.createWebhook({
      webhooks: receiver.url,
      transformer: "greeter",
      transformer_options: options,
    });
    const changed = await gateway.call("WebhookService/UpdateWebhook", {
      id,
      transformer_options: { greting: "x" },
    });
    expect(changed).toMatchObject({
      status: 400,
      body: { message: expect.stringContaining('"greting" is no option') },
    });
    await send();
    expect((await receiver.waitForRequests(1))[0]!.body.toString()).toBe('"good day"');
  });
});

describe("deliveries wait, and GetWebhook says why, while", () => {
  async function expectHeld(webhookId: number, receiver: Receiver, reason: RegExp): Promise<void> {
    const countBefore = receiver.requests.length;
    await waitFor(
      "a reason",
      () => heldReason(webhookId),
      (found) => reason.test(String(found)),
      20_000,
    );
    await send();
    await gateway.waitForStates(1, ["pending"], { webhook_id: webhookId, states: ["pending", "delivering"] });
    expect(receiver.requests).toHaveLength(countBefore);
  }

  async function waitForPlugin(name: string): Promise<void> {
    const list = async () =>
      JSON.stringify((await gateway.call("TransformerService/ListTransformers", {})).body);
    await waitFor(`plugin ${name}`, list, (text) => text.includes(`"name":"${name}"`), 20_000);
  }

  test("the plugin is gone; the webhook can be changed all the same, and it all goes out when the plugin is back", async () => {
    const receiver = await receive();
    const source = pluginSource("passing", "return 'here'");
    directory.write("passing.ts", source);
    await waitForPlugin("passing");
    const { id } = await gateway.createWebhook({ webhooks: receiver.url, transformer: "passing" });
    directory.remove("passing.ts");
    await expectHeld(id, receiver, /^transformer passing is not loaded$/);
    await gateway.updateWebhook(id, { description: "still mine" });
    directory.write("passing.ts", source);
    expect((await receiver.waitForRequests(1, 20_000))[0]!.body.toString()).toBe('"here"');
    expect(await heldReason(id)).toBeNull();
    directory.remove("passing.ts");
  });

  test("the plugin is quarantined, until its files change", async () => {
    const receiver = await receive();
    directory.write("deadly.ts", pluginSource("deadly", "process.exit(1)"));
    await waitForPlugin("deadly");
    const { id } = await gateway.createWebhook({ webhooks: receiver.url, transformer: "deadly" });
    for (const _ of [1, 2, 3]) await send();
    await gateway.waitForStates(3, ["failed"], { webhook_id: id }, 20_000);
    await expectHeld(id, receiver, /^transformer deadly is quarantined: it ended its process 3 times/);
    directory.write("deadly.ts", pluginSource("deadly", "return 'harmless now'"));
    expect((await receiver.waitForRequests(1, 20_000))[0]!.body.toString()).toBe('"harmless now"');
    directory.remove("deadly.ts");
  });

  test("its options do not fit the plugin any more", async () => {
    const receiver = await receive();
    const greeting = (max: number) => ({
      optionsSchema: { ...greetingSchema, properties: { greeting: { type: "string", maxLength: max } } },
    });
    directory.write("fitting.ts", pluginSource("fitting", "return input.options.greeting", greeting(20)));
    await waitForPlugin("fitting");
    const { id } = await gateway.createWebhook({
      webhooks: receiver.url,
      transformer: "fitting",
      transformer_options: { greeting: "good day" },
    });
    directory.write("fitting.ts", pluginSource("fitting", "return input.options.greeting", greeting(3)));
    await expectHeld(
      id,
      receiver,
      /^transformer_options no longer fit fitting: greeting must NOT have more than 3/,
    );
    await gateway.updateWebhook(id, { transformer_options: { greeting: "hi" } });
    expect((await receiver.waitForRequests(1, 20_000))[0]!.body.toString()).toBe('"hi"');
    directory.remove("fitting.ts");
  });
});

describe("TransformerService", () => {
  const list = async () => (await gateway.call("TransformerService/ListTransformers", {})).body.transformers;
  const preview = (fields: object) => gateway.call("TransformerService/PreviewTransform", fields);
  const rawBody = JSON.stringify(anInboundBody(aTextMessage({ body: "preview me" })));

  test("lists what the gateway has itself, the plugins, and those that do not load", async () => {
    directory.write("broken.ts", "\nexport default =;\n");
    const found = await waitFor(
      "the broken one",
      list,
      (all) => all.some((one: { name?: string }) => !one.name),
      20_000,
    );
    const names = found.map(({ name }: { name?: string }) => name);
    expect(names.slice(0, 3)).not.toContain("plain");
    expect(names).toEqual(
      expect.arrayContaining(["insights", "intelli", "raw", "plain", "random", undefined]),
    );
    expect(found.find(({ name }: { name: string }) => name === "plain")).toMatchObject({
      version: "1.2.3",
      description: "A text",
      handles: ["message.*"],
      pure: true,
      builtin: false,
      health: "ok",
      file: expect.stringContaining("plain.ts"),
    });
    expect(found.find(({ name }: { name: string }) => name === "greeter").options_schema).toEqual(
      greetingSchema,
    );
    expect(found.at(-1)).toMatchObject({
      health: "failed",
      health_reason: expect.stringMatching(/broken\.ts:2: .*correct the syntax/),
    });
    directory.remove("broken.ts");
  });

  test("gives the list in pages", async () => {
    const names: unknown[] = [];
    let page_token = "";
    do {
      const request = { page_size: 2, page_token };
      const { body } = await gateway.call("TransformerService/ListTransformers", request);
      expect(body.transformers.length).toBeLessThanOrEqual(2);
      names.push(...body.transformers.map(({ name }: { name: string }) => name));
      page_token = body.next_page_token;
    } while (page_token !== "");
    expect(names).toEqual((await list()).map(({ name }: { name: string }) => name));
  });

  test("counts payloads and errors, and tells how long the transforms took", async () => {
    const before = (await list()).find(({ name }: { name: string }) => name === "picky");
    const receiver = await receive();
    const { id } = await gateway.createWebhook({ webhooks: receiver.url, transformer: "picky" });
    for (const body of ["bad", "fine"]) await send(body);
    await gateway.waitForStates(2, ["failed", "skipped"], { webhook_id: id });
    const after = (await list()).find(({ name }: { name: string }) => name === "picky");
    expect(after.error_count - before.error_count).toBe(1);
    expect(after.skipped_count - before.skipped_count).toBe(1);
    expect(after.duration_p50_ms).toBeGreaterThan(0);
    expect(after.duration_p99_ms).toBeGreaterThanOrEqual(after.duration_p50_ms);
    for (const shown of [after.duration_p50_ms, after.duration_p99_ms])
      expect(shown).toBe(Number(shown.toFixed(3)));
  });

  test("tells tenants' keys nothing of the operator's files and of others' counts", async () => {
    const { body } = await gateway.call("ApiKeyService/CreateApiKey", {
      name: "reader",
      scopes: ["webhooks:read"],
    });
    const answer = await fetch(`${gateway.url()}/posthorn.v1.TransformerService/ListTransformers`, {
      method: "POST",
      headers: { "Content-Type": "application/json", Authorization: `Bearer ${body.key}` },
      body: "{}",
    });
    const text = await answer.text();
    expect(text).toContain('"plain"');
    expect(text).not.toContain(directory.path);
    expect(text).not.toContain("duration_p50_ms");
  });

  test.for(["plain", "raw"])(
    "shows what %s makes of a body, and sends and stores nothing",
    async (transformer) => {
      const receiver = await receive();
      await gateway.createWebhook({ webhooks: receiver.url, transformer, active_signature: true });
      const [{ count: before }] = await query("SELECT count(*)::int FROM event");
      const { status, body } = await preview({ transformer, body: rawBody });
      expect(status).toBe(200);
      expect(body).toMatchObject({ event_type: "message.received", skipped: false });
      const text = Buffer.from(body.body, "base64").toString();
      if (transformer === "plain") {
        expect(text).toBe("hi sample-client");
        expect(body).toMatchObject({
          content_type: "text/plain",
          headers: { "X-Kind": "plain" },
          transformer_version: "1.2.3",
        });
      } else expect(JSON.parse(text)).toMatchObject({ text: { body: "preview me" } });
      expect(JSON.stringify(body)).not.toMatch(/signature/i);
      expect((await query("SELECT count(*)::int FROM event"))[0].count).toBe(before);
      expect(receiver.requests).toEqual([]);
    },
  );

  test("shows what a transformer makes of a stored event, with its conversation, to those who may read events", async () => {
    const receiver = await receive();
    const { id } = await gateway.createWebhook({ webhooks: receiver.url, transformer: "history" });
    await send("stored");
    const [request] = await receiver.waitForRequests(1);
    const { delivery } = await getDelivery(id);
    const { body } = await preview({ transformer: "history", event_id: delivery.event_id });
    expect(Buffer.from(body.body, "base64")).toEqual(request!.body);

    const key = async (scopes: string[]) =>
      (await gateway.call("ApiKeyService/CreateApiKey", { name: scopes.join(), scopes })).body.key;
    const ask = async (scopes: string[]) => {
      const answer = await fetch(`${gateway.url()}/posthorn.v1.TransformerService/PreviewTransform`, {
        method: "POST",
        headers: { "Content-Type": "application/json", Authorization: `Bearer ${await key(scopes)}` },
        body: JSON.stringify({ transformer: "raw", event_id: delivery.event_id }),
      });
      return { status: answer.status, text: await answer.text() };
    };
    const refused = await ask(["webhooks:read"]);
    expect(refused.status).toBe(403);
    expect(refused.text).toContain("events:read");
    expect((await ask(["webhooks:read", "events:read"])).status).toBe(200);
  });

  test("shows which event of a body is asked for, and the first that fits if none is", async () => {
    const body = anInboundBody();
    const [entry] = body.entry as { changes: { value: { messages: unknown[] } }[] }[];
    entry!.changes[0]!.value.messages = [aReaction(), aTextMessage({ body: "second" })];
    const text = JSON.stringify(body);
    expect((await preview({ transformer: "picky", body: text })).body).toMatchObject({
      event_type: "message.received",
      skipped: true,
    });
    const types: string[] = [];
    for (const event_index of [0, 1]) {
      types.push((await preview({ transformer: "raw", body: text, event_index })).body.event_type);
    }
    expect(types.sort()).toEqual(["message.reaction", "message.received"]);
    expect((await preview({ transformer: "raw", body: text, event_index: 2 })).body.message).toContain(
      "event_index",
    );
  });

  test.for<[string, object, number, string, RegExp]>([
    [
      "an unknown transformer",
      { transformer: "nothing", body: rawBody },
      400,
      "invalid_argument",
      /nothing is not loaded; there are .*plain/,
    ],
    [
      "options that do not fit",
      { transformer: "greeter", transformer_options: { greeting: 1 }, body: rawBody },
      400,
      "invalid_argument",
      /greeting must be string/,
    ],
    ["no event", { transformer: "raw" }, 400, "invalid_argument", /source/],
    ["a body that is none", { transformer: "raw", body: "{" }, 400, "invalid_argument", /body: /],
    [
      "an event that is not there",
      { transformer: "raw", event_id: "0199c0de-0000-7000-8000-000000000001" },
      404,
      "not_found",
      /does not exist/,
    ],
    [
      "a type that it does not handle",
      { transformer: "picky", body: JSON.stringify(anInboundBody(aReaction())) },
      400,
      "invalid_argument",
      /handles message.received, not message.reaction/,
    ],
    [
      "a plugin that throws",
      { transformer: "picky", body: JSON.stringify(anInboundBody(aTextMessage({ body: "bad" }))) },
      400,
      "failed_precondition",
      /I do not like it/,
    ],
    [
      "a plugin that ends its process",
      { transformer: "picky", body: JSON.stringify(anInboundBody(aTextMessage({ body: "exit" }))) },
      400,
      "failed_precondition",
      /ended its thread/,
    ],
  ])("refuses %s", async ([, request, status, code, message]) => {
    const answer = await preview(request);
    expect(answer).toMatchObject({ status, body: { code } });
    expect(answer.body.message).toMatch(message);
  });
});
