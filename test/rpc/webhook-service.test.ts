import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { asTenant, aWebhook, fieldsAtFault, openRpcGateway, type RpcGateway } from "./gateway.ts";

let gateway: RpcGateway;
beforeAll(async () => {
  gateway = await openRpcGateway({ mode: "production", tenants: ["acme"] });
});
afterAll(async () => {
  await gateway.close();
});

let urlCount = 0;
async function create(changes: Record<string, unknown> = {}, headers?: Record<string, string>) {
  const webhooks = `https://example.com/${++urlCount}`;
  const answer = await gateway.call(
    "WebhookService/CreateWebhook",
    aWebhook({ webhooks, ...changes }),
    headers,
  );
  expect(answer.body.message).toBeUndefined();
  return answer.body;
}
const update = (id: number, changes: Record<string, unknown>) =>
  gateway.call("WebhookService/UpdateWebhook", { id, ...changes });
const get = async (id: number) => (await gateway.call("WebhookService/GetWebhook", { id })).body.webhook;

describe("CreateWebhook", () => {
  test("answers with the whole webhook, flat, as JSON of the promised names and types", async () => {
    const { text, status } = await gateway.call(
      "WebhookService/CreateWebhook",
      aWebhook({ webhooks: "https://Example.com:443/shown as given".replaceAll(" ", "%20") }),
    );
    const id = JSON.parse(text).id;
    expect(status).toBe(200);
    // As text: numbers are numbers, zero values are there, unset optional fields are not.
    expect(text).toBe(
      `{"id":${id},"status":true,"incoming":true,"outgoing":false,` +
        `"webhooks":"https://Example.com:443/shown%20as%20given","created_at":${gateway.clock.at.getTime()},` +
        `"waiting_duration":0,"schedule_activity":false,"active_signature":false,"transformer":"insights",` +
        `"event_types":[],"max_in_flight":64,"paused":false,"updated_at":"2026-03-05T12:00:00.123Z"}`,
    );
  });

  test("keeps every field that it was given", async () => {
    await addClient("partner-123");
    const given = {
      status: false,
      incoming: false,
      outgoing: true,
      schedule_activity: true,
      waiting_duration: 30,
      transformer: "insights",
      event_types: ["message.sent"],
      client_ref: "partner-123",
      transformer_options: { history_size: 7, timezone: "Asia/Kolkata" },
      max_in_flight: 3,
      paused: true,
      description: "Night shift",
    };
    const created = await create(given);
    expect(created).toMatchObject(given);
    expect(await get(created.id)).toEqual(created);
  });

  test("makes a secret of 32 random bytes for a signed webhook, another one each time", async () => {
    const [first, second] = [
      await create({ active_signature: true }),
      await create({ active_signature: true }),
    ];
    expect(first.signature_secret).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/);
    expect(Buffer.from(first.signature_secret.slice(6), "base64")).toHaveLength(32);
    expect(second.signature_secret).not.toBe(first.signature_secret);
  });

  test("takes the caller's own secret, which then signs", async () => {
    const signature_secret = "my own secret of old times";
    const created = await create({ active_signature: true, signature_secret });
    expect(created.signature_secret).toBe(signature_secret);
    expect(gateway.directory.current.webhooks.get(created.id)?.secrets).toEqual([
      { secret: signature_secret, expiresAt: null },
    ]);
  });

  test("refuses a URL that the tenant has, however it is written", async () => {
    await create({ webhooks: "https://taken.example/a" });
    for (const webhooks of ["https://taken.example/a", "HTTPS://TAKEN.example:443/b/../a"]) {
      const answer = await gateway.call("WebhookService/CreateWebhook", aWebhook({ webhooks }));
      expect(answer.status).toBe(409);
      expect(answer.body).toEqual({ code: "already_exists", message: "Same webhook exist" });
    }
    await create({ webhooks: "https://taken.example/a" }, asTenant("acme"));
  });

  test("takes a URL again after its webhook was deleted", async () => {
    const { id } = await create({ webhooks: "https://again.example/" });
    await gateway.call("WebhookService/DeleteWebhook", { id });
    await create({ webhooks: "https://again.example/" });
  });

  test("gives the secret also when the other processes cannot be told", async () => {
    const announce = gateway.announce.run;
    gateway.announce.run = () => Promise.reject(new Error("connection lost"));
    try {
      expect((await create({ active_signature: true })).signature_secret).toMatch(/^whsec_/);
    } finally {
      gateway.announce.run = announce;
    }
    expect(gateway.logged.at(-1)).toMatchObject({ msg: "a change of configuration could not be announced" });
  });

  test("is followed by this process at once", async () => {
    const { id } = await create({ headers: { "X-Key": "value" } });
    expect(gateway.directory.current.webhooks.get(id)).toMatchObject({
      id,
      tenantId: 1,
      incoming: true,
      headers: { "X-Key": "value" },
    });
  });
});

describe("a secret and the headers", () => {
  test("are never shown again, and lie encrypted in the database", async () => {
    const headers = { Authorization: "Bearer header-value-to-hide" };
    const { id, signature_secret } = await create({ active_signature: true, headers });
    const answers = [
      await gateway.call("WebhookService/GetWebhook", { id }),
      await gateway.get("WebhookService/GetWebhook", { id }),
      await gateway.call("WebhookService/ListWebhooks", { page_size: 500 }),
      await update(id, { description: "changed", active_signature: true }),
      await update(id, { headers }),
    ];
    for (const { status, text } of answers) {
      expect(status).toBe(200);
      expect(text).not.toContain("signature_secret");
      expect(text).not.toContain(signature_secret.slice(6));
      expect(text).not.toContain("header");
    }
    const dump = await gateway.database.em().execute<{ text: string }[]>(
      `SELECT (SELECT string_agg(w::text, '') FROM webhook w) || (SELECT string_agg(s::text, '') FROM webhook_secret s)
       AS text`,
    );
    expect(dump[0]?.text).not.toContain(Buffer.from(signature_secret).toString("hex"));
    expect(dump[0]?.text).not.toContain(Buffer.from("header-value-to-hide").toString("hex"));
    expect(JSON.stringify(gateway.logged)).not.toContain(signature_secret);
    expect(JSON.stringify(gateway.logged)).not.toContain("header-value-to-hide");
  });
});

test("options that no JSON column takes are refused, and what only looks like them is kept", async () => {
  const make = (text: string) =>
    gateway.call(
      "WebhookService/CreateWebhook",
      aWebhook({
        webhooks: "https://example.com/odd",
        transformer: "raw",
        transformer_options: { [text]: text },
      }),
    );
  for (const text of ["\ud83d", "\udc4d", "\\\ud83d", "\u0000", "\\\u0000"]) {
    const refused = await make(text);
    expect(refused.status, JSON.stringify(text)).toBe(400);
    expect(fieldsAtFault(refused)).toEqual(["transformer_options"]);
  }
  const text = "\\u0000 \\ud83d 👍";
  expect((await make(text)).body.transformer_options).toEqual({ [text]: text });
});

describe("UpdateWebhook", () => {
  test("changes what is present and leaves the rest", async () => {
    const created = await create({ description: "before", event_types: ["message.received"] });
    gateway.clock.at = new Date("2026-03-05T12:30:00Z");
    const { body } = await update(created.id, { incoming: true, max_in_flight: 5, status: false });
    expect(body.webhook).toEqual({
      ...created,
      status: false,
      max_in_flight: 5,
      updated_at: "2026-03-05T12:30:00Z",
    });
    expect(await get(created.id)).toEqual(body.webhook);
  });

  test("clears a list, an object or a text that update_mask names, and nothing else", async () => {
    await addClient("partner-9");
    const { id } = await create({
      event_types: ["message.received"],
      client_ref: "partner-9",
      transformer_options: { history_size: 3 },
      headers: { "x-key": "value" },
      description: "text",
    });
    const kept = await update(id, { event_types: [], headers: {} });
    expect(kept.body.webhook.event_types).toEqual(["message.received"]);
    expect(gateway.directory.current.webhooks.get(id)?.headers).toEqual({ "x-key": "value" });

    const first = await update(id, { update_mask: "event_types,transformer_options" });
    expect(first.body.webhook).toMatchObject({
      event_types: [],
      client_ref: "partner-9",
      description: "text",
    });
    const { body } = await update(id, { updateMask: "clientRef,transformerOptions,headers,description" });
    expect(body.webhook).not.toHaveProperty("client_ref");
    expect(body.webhook).not.toHaveProperty("transformer_options");
    expect(body.webhook).not.toHaveProperty("description");
    expect(gateway.directory.current.webhooks.get(id)).toMatchObject({ headers: {}, clientId: null });
  });

  test("refuses a mask that names a part of a field, which would look cleared and be kept", async () => {
    const { id } = await create({ headers: { authorization: "Bearer kept" } });
    const refused = await update(id, { update_mask: "headers.authorization" });
    expect(refused.body.message).toBe(
      "update_mask: names headers.authorization, a part of a field: name the whole field",
    );
    expect(fieldsAtFault(refused)).toEqual(["update_mask"]);
  });

  test("takes a mask that names fields which are present, and refuses one that would clear a switch", async () => {
    const { id } = await create();
    expect((await update(id, { update_mask: "paused", paused: true })).body.webhook.paused).toBe(true);
    const refused = await update(id, { update_mask: "paused" });
    expect(refused.body.message).toBe(
      "update_mask: names paused, which cannot be cleared: give its new value",
    );
    expect(fieldsAtFault(refused)).toEqual(["update_mask"]);
    expect(fieldsAtFault(await update(id, { update_mask: "createdAt" }))).toEqual(["update_mask"]);
  });

  test("judges the webhook as changed", async () => {
    const { id } = await create();
    const cases = [
      [
        { schedule_activity: true },
        "waiting_duration",
        "must be 1 to 5184000 seconds when schedule_activity is true",
      ],
      [{ waiting_duration: 15 }, "waiting_duration", "must be 0 when schedule_activity is false"],
      [{ webhooks: "http://example.com/plain" }, "webhooks", "must start with https://"],
      [{ event_types: ["message.nothing"] }, "event_types[0]", "is no event type: "],
      [{ incoming: false }, "incoming", "the webhook could admit nothing: "],
      [
        { transformer_options: { history_size: 0 } },
        "transformer_options",
        "do not fit transformer insights: ",
      ],
      [{ transformer: "nobody" }, "transformer", "nobody is not loaded; "],
      [{ client_ref: "nobody" }, "client_ref", "there is no client of this name"],
      [{ headers: { host: "x" } }, 'headers["host"]', "host is set by the gateway"],
    ] as const;
    for (const [changes, field, text] of cases) {
      const answer = await update(id, changes);
      expect(answer.body).toMatchObject({ code: "invalid_argument" });
      expect(answer.body.message).toContain(`${field}: ${text}`);
      expect(fieldsAtFault(answer)).toEqual([field]);
    }
    expect((await update(id, { schedule_activity: true, waiting_duration: 15 })).status).toBe(200);
    const kept = await create({ transformer_options: { history_size: 3 } });
    const answer = await update(kept.id, { transformer: "raw", incoming: true });
    expect(answer.body.webhook.transformer).toBe("raw");
    const refused = await update(kept.id, { transformer: "intelli" });
    expect(refused.body.code).toBe("failed_precondition");
  });

  test("refuses the URL of another webhook", async () => {
    const [first, second] = [await create(), await create()];
    const answer = await update(second.id, { webhooks: first.webhooks });
    expect(answer.body).toEqual({ code: "already_exists", message: "Same webhook exist" });
    expect((await update(first.id, { webhooks: first.webhooks })).status).toBe(200);
  });

  test("refuses signing without a secret, and says what would make one", async () => {
    const { id } = await create();
    for (const changes of [
      { active_signature: true },
      { transformer: "intelli" },
      { transformer: "intelli", active_signature: true },
    ]) {
      const answer = await update(id, changes);
      expect(answer.status).toBe(400);
      expect(answer.body.code).toBe("failed_precondition");
      expect(answer.body.message).toContain("RotateWebhookSecret makes one and turns signing on");
    }
  });

  test("goes from one signed format to the other with the secret it has", async () => {
    const { id } = await create({ active_signature: true });
    const secrets = gateway.directory.current.webhooks.get(id)?.secrets;
    expect((await update(id, { transformer: "intelli" })).status).toBe(200);
    expect(gateway.directory.current.webhooks.get(id)?.secrets).toEqual(secrets);
  });

  test("refuses to stop the signing of an intelli webhook", async () => {
    const { id } = await create({ active_signature: true, transformer: "intelli" });
    const answer = await update(id, { active_signature: false });
    expect(answer.body.code).toBe("invalid_argument");
    expect(fieldsAtFault(answer)).toEqual(["active_signature"]);
    expect((await update(id, { active_signature: false, transformer: "insights" })).status).toBe(200);
  });

  test("drops the secrets when signing stops", async () => {
    const { id } = await create({ active_signature: true });
    const { body } = await update(id, { active_signature: false });
    expect(body.webhook.active_signature).toBe(false);
    expect(gateway.directory.current.webhooks.get(id)?.secrets).toEqual([]);
    const left = await gateway.database.em().execute("SELECT FROM webhook_secret WHERE webhook_id = ?", [id]);
    expect(left).toEqual([]);
    expect((await update(id, { active_signature: true })).body.code).toBe("failed_precondition");
  });

  test("takes no secret", async () => {
    const { id } = await create({ active_signature: true });
    const answer = await update(id, { signature_secret: "abcdefghijklmnopqrstuvwxyz" });
    expect(answer.body.code).toBe("invalid_argument");
    expect(answer.body.message).toContain("signature_secret");
  });

  test("wakes the dispatcher, so that what was held is sent", async () => {
    const { id } = await create({ paused: true });
    const before = gateway.wakeUps.count;
    await update(id, { paused: false });
    expect(gateway.wakeUps.count).toBeGreaterThan(before);
  });

  test("turns a webhook on again and forgets why the gateway turned it off", async () => {
    const { id } = await create();
    await gateway.database
      .em()
      .execute(
        "UPDATE webhook SET is_enabled = false, disabled_reason = 'nothing but failures' WHERE id = ?",
        [id],
      );
    expect((await get(id)).disabled_reason).toBe("nothing but failures");
    expect((await update(id, { description: "x" })).body.webhook.disabled_reason).toBe(
      "nothing but failures",
    );
    expect((await update(id, { status: true })).body.webhook).not.toHaveProperty("disabled_reason");
  });
});

describe("a webhook whose transformer is gone", () => {
  test("says why it waits, and can still be turned off", async () => {
    const { id } = await create({ transformer: "raw" });
    const raw = gateway.transformers.get("raw")!;
    gateway.transformers.delete("raw");
    try {
      expect((await get(id)).held_reason).toBe("transformer raw is not loaded");
      expect((await update(id, { status: false, incoming: false })).body.webhook.status).toBe(false);
      expect(fieldsAtFault(await update(id, { transformer_options: { a: 1 } }))).toEqual(["transformer"]);
    } finally {
      gateway.transformers.set("raw", raw);
    }
    expect(await get(id)).not.toHaveProperty("held_reason");
  });

  test("says so when its options no longer fit", async () => {
    const { id } = await create({ transformer_options: { history_size: 3 } });
    const insights = gateway.transformers.get("insights")!;
    gateway.transformers.set("insights", {
      ...insights,
      optionsSchema: { type: "object", required: ["tone"] },
    });
    try {
      expect((await get(id)).held_reason).toBe(
        "transformer_options no longer fit insights: must have required property 'tone'",
      );
      expect((await update(id, { status: false })).status).toBe(200);
    } finally {
      gateway.transformers.set("insights", insights);
    }
  });
});

describe("DeleteWebhook", () => {
  test("takes the webhook away with its secrets and headers, for good", async () => {
    const { id } = await create({ active_signature: true, headers: { "x-key": "value" } });
    const answer = await gateway.call("WebhookService/DeleteWebhook", { id });
    expect([answer.status, answer.text]).toEqual([200, "{}"]);
    expect((await gateway.call("WebhookService/GetWebhook", { id })).status).toBe(404);
    expect((await gateway.call("WebhookService/DeleteWebhook", { id })).status).toBe(404);
    expect((await update(id, { status: true })).status).toBe(404);
    expect(gateway.directory.current.webhooks.has(id)).toBe(false);
    const left = await gateway.database
      .em()
      .execute(
        "SELECT headers_sealed, (SELECT count(*)::int FROM webhook_secret WHERE webhook_id = w.id) AS secrets FROM webhook w WHERE id = ?",
        [id],
      );
    expect(left).toEqual([{ headers_sealed: null, secrets: 0 }]);
  });
});

describe("webhooks of another tenant", () => {
  test("are not found by any call, and not listed", async () => {
    const { id } = await create();
    const calls = ["GetWebhook", "UpdateWebhook", "DeleteWebhook"];
    for (const name of calls) {
      const answer = await gateway.call(`WebhookService/${name}`, { id }, asTenant("acme"));
      expect(answer.status).toBe(404);
      expect(answer.body).toEqual({ code: "not_found", message: `webhook ${id} does not exist` });
    }
    const listed = await gateway.call("WebhookService/ListWebhooks", { page_size: 500 }, asTenant("acme"));
    expect(listed.body.webhooks.map((webhook: { id: number }) => webhook.id)).not.toContain(id);
    expect((await get(id)).status).toBe(true);
  });
});

describe("ListWebhooks", () => {
  const ids = (body: { webhooks: { id: number }[] }) => body.webhooks.map((webhook) => webhook.id);
  const list = async (request: object, headers?: Record<string, string>) =>
    await gateway.call("WebhookService/ListWebhooks", request, headers);

  test("gives the newest first, page by page, undisturbed by new ones", async () => {
    const made = [];
    for (let count = 0; count < 5; count++) made.push((await create({}, asTenant("acme"))).id);
    const all = ids((await list({}, asTenant("acme"))).body);
    expect(all.slice(0, 5)).toEqual(made.toReversed());
    const first = (await list({ page_size: 2 }, asTenant("acme"))).body;
    await create({}, asTenant("acme"));
    const rest = [];
    let token = first.next_page_token;
    while (token !== "") {
      const { body } = await list({ page_size: 2, page_token: token }, asTenant("acme"));
      rest.push(...ids(body));
      token = body.next_page_token;
    }
    expect([...ids(first), ...rest]).toEqual(all);
  });

  test("refuses a token that is none, or another tenant's", async () => {
    await create();
    await create();
    const { next_page_token } = (await list({ page_size: 1 })).body;
    expect(next_page_token).not.toBe("");
    for (const answer of [
      await list({ page_token: "nonsense" }),
      await list({ page_token: `${next_page_token.slice(0, -3)}AAA` }),
      await list({ page_token: next_page_token }, asTenant("acme")),
    ]) {
      expect(answer.body.code).toBe("invalid_argument");
      expect(fieldsAtFault(answer)).toEqual(["page_token"]);
    }
  });

  test("gives 50 when asked for no number, and 500 at most", async () => {
    const rows = Array.from(
      { length: 510 },
      (_, index) => `(${gateway.tenantIds.acme}, 'https://x/${index}',
      sha256('${index}'), true, false, true, false, false, 0, false, 'raw', '{}', 64, '', 1, now(), now())`,
    );
    await gateway.database.em().execute(
      `INSERT INTO webhook (tenant_id, url, url_digest, is_enabled, is_paused, incoming, outgoing, schedule_activity,
        waiting_duration_seconds, is_signed, transformer, event_types, max_in_flight, description, version, created_at,
        updated_at) VALUES ${rows.join()}`,
    );
    expect(ids((await list({}, asTenant("acme"))).body)).toHaveLength(50);
    expect(ids((await list({ page_size: 4_000_000_000 }, asTenant("acme"))).body)).toHaveLength(500);
  });
});

async function addClient(clientRef: string): Promise<void> {
  await gateway.database
    .em()
    .execute("INSERT INTO client (tenant_id, client_ref, version, created_at) VALUES (1, ?, 1, now())", [
      clientRef,
    ]);
}
