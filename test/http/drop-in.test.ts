import { connect as connectHttp2 } from "node:http2";
import { connect } from "node:net";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { operatorKey, startTestGateway, type TestGateway } from "../helpers/gateway.ts";

let gateway: TestGateway;
beforeAll(async () => {
  gateway = await startTestGateway();
});
afterAll(() => gateway?.close());

let urlCount = 0;

/** A request that is taken; `undefined` takes a field out. */
function aRequest(changes: Record<string, unknown> = {}): Record<string, unknown> {
  urlCount++;
  return {
    webhooks: `https://example.com/whatsapp/${urlCount}`,
    status: true,
    incoming: true,
    schedule_activity: false,
    waiting_duration: 0,
    active_signature: true,
    ...changes,
  };
}

async function post(
  body: unknown,
  options: { path?: string; headers?: Record<string, string | undefined> } = {},
) {
  const headers = new Headers({ Authorization: `Bearer ${operatorKey}`, "Content-Type": "application/json" });
  for (const [name, value] of Object.entries(options.headers ?? {})) {
    if (value === undefined) headers.delete(name);
    else headers.set(name, value);
  }
  const response = await fetch(gateway.url() + (options.path ?? "/webhook/dev/create"), {
    method: "POST",
    headers,
    body: typeof body === "string" || body instanceof Uint8Array ? (body as string) : JSON.stringify(body),
  });
  const text = await response.text();
  return { status: response.status, headers: response.headers, text, body: JSON.parse(text) };
}

async function makeKey(fields: Record<string, unknown>): Promise<{ Authorization: string }> {
  const { status, body } = await gateway.call("ApiKeyService/CreateApiKey", { name: "drop-in", ...fields });
  expect(status).toBe(200);
  return { Authorization: `Bearer ${body.key}` };
}

describe("the answer", () => {
  test("is 200 with the nine documented fields, in the documented order and types", async () => {
    const before = Date.now();
    const { status, headers, text, body } = await post(aRequest({ webhooks: "https://example.com/nine" }));
    expect(status).toBe(200);
    expect(headers.get("content-type")).toBe("application/json");
    expect(headers.get("cache-control")).toBe("no-store");
    expect(text).toMatch(
      /^\{"id":\d+,"status":true,"incoming":true,"outgoing":false,"webhooks":"https:\/\/example\.com\/nine","created_at":\d{13},"signature_secret":"whsec_[A-Za-z0-9+/]{43}=","waiting_duration":0,"schedule_activity":false\}$/,
    );
    expect(body.created_at).toBeGreaterThanOrEqual(before);
    expect(body.created_at).toBeLessThanOrEqual(Date.now());
  });

  test("says null for the secret of an unsigned webhook", async () => {
    const { text } = await post(aRequest({ active_signature: false }));
    expect(text).toContain('"signature_secret":null,"waiting_duration":0');
  });

  test("shows what was asked for, false and zero included", async () => {
    const asked = {
      status: false,
      incoming: false,
      outgoing: true,
      schedule_activity: true,
      waiting_duration: 86400,
    };
    const { body } = await post(aRequest({ ...asked, transformer: "intelli" }));
    expect(body).toMatchObject(asked);
  });

  test("is about a webhook like any other", async () => {
    const { body } = await post(aRequest({ transformer: "intelli", max_in_flight: 3 }));
    const stored = await gateway.call("WebhookService/GetWebhook", { id: body.id });
    const { signature_secret, ...shown } = body;
    expect(signature_secret).toMatch(/^whsec_/);
    expect(stored.body.webhook).toMatchObject({ ...shown, transformer: "intelli", max_in_flight: 3 });
  });

  test("is the first one's without the secret when an idempotency_key is sent again", async () => {
    const request = aRequest({ idempotency_key: "once" });
    const first = await post(request);
    const second = await post(request);
    expect(first.body.signature_secret).toMatch(/^whsec_/);
    expect(second.status).toBe(200);
    expect(second.body).toEqual({ ...first.body, signature_secret: null });
  });
});

describe("the request", () => {
  test.each([
    "/webhook/dev/create",
    "/api:dev_1-A/webhook/dev/create",
    "/api%3Agroup/webhook/dev/create",
    "/api%3agroup/webhook/dev/create",
    `/api:${"g".repeat(64)}/webhook/dev/create?branch=v1`,
  ])("is taken at %s", async (path) => {
    expect((await post(aRequest(), { path })).status).toBe(200);
  });

  test.each([
    "/api:/webhook/dev/create",
    `/api:${"g".repeat(65)}/webhook/dev/create`,
    "/api:a.b/webhook/dev/create",
    "/apigroup/webhook/dev/create",
    "/webhook/dev/create/",
    "/Webhook/dev/create",
    "/webhook/dev",
  ])("is not taken at %s", async (path) => {
    const { status, body } = await post(aRequest(), { path });
    expect(status).toBe(404);
    expect(body).toEqual({ code: "not_found", message: expect.any(String) });
  });

  test("is a POST: other methods are told so", async () => {
    const response = await fetch(`${gateway.url()}/api:x/webhook/dev/create`);
    expect(response.status).toBe(405);
    expect(response.headers.get("allow")).toBe("POST");
  });

  test("may spell its fields in camelCase and hold fields that nobody knows", async () => {
    const { webhooks, status, incoming } = aRequest();
    const request = {
      webhooks,
      status,
      incoming,
      scheduleActivity: true,
      waitingDuration: 15,
      activeSignature: false,
    };
    const { body } = await post({ ...request, unknown_field: { deep: [1] } });
    expect(body).toMatchObject({ schedule_activity: true, waiting_duration: 15, signature_secret: null });
  });

  test.each([
    undefined,
    "text/plain",
    "application/x-www-form-urlencoded",
    "application/json; charset=UTF-8",
    "application/proto",
  ])("is read as JSON whatever its content type says: %s", async (type) => {
    expect(
      (await post(Buffer.from(JSON.stringify(aRequest())), { headers: { "Content-Type": type } })).status,
    ).toBe(200);
  });

  test("may be compressed, and the answer is not", async () => {
    const headers = { "Content-Encoding": "gzip", "Accept-Encoding": "gzip" };
    const { status, headers: answered } = await post(gzipSync(JSON.stringify(aRequest())), { headers });
    expect(status).toBe(200);
    expect(answered.get("content-encoding")).toBeNull();
  });

  test("is taken over HTTP/2 too", async () => {
    const session = connectHttp2(gateway.url());
    const stream = session.request({
      ":method": "POST",
      ":path": "/webhook/dev/create",
      authorization: `Bearer ${operatorKey}`,
    });
    stream.end(JSON.stringify(aRequest()));
    const chunks: Buffer[] = [];
    for await (const chunk of stream) chunks.push(chunk);
    session.destroy();
    expect(JSON.parse(Buffer.concat(chunks).toString())).toMatchObject({
      id: expect.any(Number),
      status: true,
    });
  });
});

describe("a wrong request is answered with the field and the rule", () => {
  const longUrl = `https://example.com/${"a".repeat(2_029)}`;
  const tooManyHeaders = Object.fromEntries(Array.from({ length: 21 }, (_, index) => [`X-H-${index}`, "v"]));

  test.each<[string, Record<string, unknown>, RegExp]>([
    ["webhooks missing", { webhooks: undefined }, /^webhooks: value is required/],
    ["webhooks empty", { webhooks: "" }, /^webhooks: /],
    ["webhooks of another type", { webhooks: 5 }, /^webhooks: expected string, got 5$/],
    ["webhooks no URL", { webhooks: "example.com/path" }, /^webhooks: must be a full URL such as https:\/\//],
    [
      "webhooks with another scheme",
      { webhooks: "ftp://example.com" },
      /^webhooks: must start with https:\/\/ or http:\/\/$/,
    ],
    ["webhooks too long", { webhooks: longUrl }, /^webhooks: .*2048 characters/],
    [
      "webhooks with credentials",
      { webhooks: "https://me:word@example.com/" },
      /^webhooks: must not hold a user name or password/,
    ],
    [
      "webhooks with a fragment",
      { webhooks: "https://example.com/#here" },
      /^webhooks: must not have a fragment/,
    ],
    [
      "webhooks with white space",
      { webhooks: "https://example.com/a b" },
      /^webhooks: must not hold white space/,
    ],
    ["status missing", { status: undefined }, /^status: value is required/],
    ["status null", { status: null }, /^status: value is required/],
    ["status a string", { status: "true" }, /^status: expected boolean, got "true"$/],
    ["incoming missing", { incoming: undefined }, /^incoming: value is required/],
    ["incoming a number", { incoming: 1 }, /^incoming: expected boolean, got 1$/],
    ["schedule_activity missing", { schedule_activity: undefined }, /^schedule_activity: value is required/],
    [
      "schedule_activity a string",
      { schedule_activity: "no" },
      /^schedule_activity: expected boolean, got "no"$/,
    ],
    ["waiting_duration missing", { waiting_duration: undefined }, /^waiting_duration: value is required/],
    [
      "waiting_duration without schedule_activity",
      { waiting_duration: 15 },
      /waiting_duration: must be 0 when schedule_activity is false/,
    ],
    [
      "waiting_duration 0 with schedule_activity",
      { schedule_activity: true },
      /waiting_duration: must be 1 to 5184000 seconds when schedule_activity is true/,
    ],
    [
      "waiting_duration too long",
      { schedule_activity: true, waiting_duration: 5_184_001 },
      /^waiting_duration: .*5184000/,
    ],
    [
      "waiting_duration negative",
      { schedule_activity: true, waiting_duration: -1 },
      /^waiting_duration: .*-1 out of range$/,
    ],
    [
      "waiting_duration a fraction",
      { schedule_activity: true, waiting_duration: 1.5 },
      /^waiting_duration: expected number \(uint32\), got 1.5$/,
    ],
    [
      "waiting_duration a word",
      { schedule_activity: true, waiting_duration: "soon" },
      /^waiting_duration: expected number \(uint32\), got "soon"$/,
    ],
    ["active_signature missing", { active_signature: undefined }, /^active_signature: value is required/],
    [
      "active_signature a string",
      { active_signature: "false" },
      /^active_signature: expected boolean, got "false"$/,
    ],
    [
      "intelli unsigned",
      { transformer: "intelli", active_signature: false },
      /active_signature: must be true with transformer intelli, whose webhooks are always signed/,
    ],
    ["outgoing a string", { outgoing: "yes" }, /^outgoing: expected boolean, got "yes"$/],
    [
      "transformer of nobody",
      { transformer: "nobody" },
      /^transformer: nobody is not loaded; there are cloudevents, insights, intelli, raw, slack$/,
    ],
    ["transformer with a wrong name", { transformer: "../raw" }, /^transformer: /],
    [
      "event_types no list",
      { event_types: "message.received" },
      /^event_types: expected Array, got "message.received"$/,
    ],
    [
      "event_types of nothing known",
      { event_types: ["message.unheard"] },
      /^event_types\[0\]: is no event type: use message\.received/,
    ],
    [
      "event_types twice the same",
      { event_types: ["message.received", "message.received"] },
      /^event_types: .*unique/,
    ],
    ["client_ref unknown", { client_ref: "nobody" }, /^client_ref: /],
    ["client_ref empty", { client_ref: "" }, /^client_ref: /],
    [
      "transformer_options that do not fit",
      { transformer_options: { history_size: 51 } },
      /^transformer_options: do not fit transformer insights: .*history_size/,
    ],
    ["transformer_options no object", { transformer_options: [] }, /^transformer_options: expected object$/],
    ["headers no object", { headers: ["X-A: b"] }, /^headers: .*object/],
    ["headers too many", { headers: tooManyHeaders }, /^headers: .*20/],
    [
      "headers content-*",
      { headers: { "Content-Type": "text/plain" } },
      /^headers\["Content-Type"\]: Content-Type /,
    ],
    ["headers host", { headers: { Host: "example.com" } }, /^headers\["Host"\]: Host /],
    ["headers webhook-*", { headers: { "Webhook-Id": "x" } }, /^headers\["Webhook-Id"\]: Webhook-Id /],
    [
      "headers x-*-signature",
      { headers: { "X-My-Signature": "x" } },
      /^headers\["X-My-Signature"\]: X-My-Signature /,
    ],
    ["headers hop-by-hop", { headers: { Connection: "close" } }, /^headers\["Connection"\]: Connection /],
    ["signature_secret too short", { signature_secret: "short" }, /^signature_secret: .*24/],
    ["signature_secret too long", { signature_secret: "s".repeat(201) }, /^signature_secret: .*200/],
    [
      "signature_secret no base64",
      { signature_secret: "whsec_not-base64-at-all-no" },
      /^signature_secret: must be base64 after whsec_/,
    ],
    [
      "signature_secret of an unsigned webhook",
      { active_signature: false, signature_secret: "s".repeat(24) },
      /signature_secret: must be left out when active_signature is false/,
    ],
    ["max_in_flight 0", { max_in_flight: 0 }, /^max_in_flight: .*1/],
    ["max_in_flight 257", { max_in_flight: 257 }, /^max_in_flight: .*256/],
    ["paused a string", { paused: "false" }, /^paused: expected boolean, got "false"$/],
    ["description too long", { description: "d".repeat(201) }, /^description: .*200/],
    ["a webhook that could admit nothing", { incoming: false }, /^incoming: the webhook could admit nothing/],
  ])("%s", async (_name, changes, message) => {
    const { status, body } = await post(aRequest(changes));
    expect(body.message).toMatch(message);
    expect(body).toEqual({ code: "invalid_argument", message: body.message });
    expect(status).toBe(400);
  });

  test.each<[string, string, RegExp]>([
    ["an empty body", "", /JSON/],
    ["no JSON", "webhooks=https://example.com", /JSON/],
    ["a list", "[]", /JSON object/],
    ["null", "null", /JSON object/],
    ["a text", '"https://example.com"', /JSON object/],
    ["a field twice", '{"status":true,"status":false}', /must be a JSON object .*"status"/],
  ])("%s", async (_name, text, message) => {
    const { status, body } = await post(text);
    expect(body).toEqual({ code: "invalid_argument", message: expect.stringMatching(message) });
    expect(status).toBe(400);
  });

  test("the same endpoint again is 409, however its URL is spelled", async () => {
    await post(aRequest({ webhooks: "https://example.com/same" }));
    const { status, text } = await post(aRequest({ webhooks: "HTTPS://EXAMPLE.com:443/x/../same" }));
    expect(status).toBe(409);
    expect(text).toBe('{"code":"already_exists","message":"Same webhook exist"}');
  });

  test.each(["in the middle of the body", "before the answer"])(
    "a sender that leaves %s harms nobody, over HTTP/1.1 and HTTP/2",
    async (when) => {
      const text = JSON.stringify(aRequest());
      const part = when === "before the answer" ? text : text.slice(0, 20);
      const { hostname, port } = new URL(gateway.url());
      const head = `POST /webhook/dev/create HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${operatorKey}\r\nContent-Length: ${text.length}\r\n\r\n`;
      const socket = connect(Number(port), hostname);
      await new Promise<void>((resolve) => socket.write(head + part, () => resolve()));
      socket.destroy();
      const session = connectHttp2(gateway.url());
      const headers = {
        ":method": "POST",
        ":path": "/webhook/dev/create",
        authorization: `Bearer ${operatorKey}`,
      };
      const stream = session.request(headers);
      await new Promise<void>((resolve) => stream.write(part, () => resolve()));
      if (when === "before the answer") stream.end();
      session.destroy();
      expect((await post(aRequest())).status).toBe(200);
      const errors = gateway.logged.filter((line) => line.level === "error" || line.level === 50);
      expect(errors).toEqual([]);
    },
  );

  test("a body longer than 4 MiB is refused with an answer that its sender sees", async () => {
    const announced = await post(Buffer.alloc(4 * 1024 * 1024 + 1, " "));
    const unannounced = await fetch(`${gateway.url()}/webhook/dev/create`, {
      method: "POST",
      headers: { Authorization: `Bearer ${operatorKey}` },
      body: new Blob([Buffer.alloc(4 * 1024 * 1024 + 1, " ")]).stream(),
      duplex: "half",
    } as RequestInit);
    const refusal = { code: "resource_exhausted", message: "the body is longer than 4194304 bytes" };
    expect([announced.status, announced.body]).toEqual([429, refusal]);
    expect([unannounced.status, await unannounced.json()]).toEqual([429, refusal]);
  });
});

describe("the key", () => {
  test.each<[string, Record<string, string | undefined>]>([
    ["no key", { Authorization: undefined }],
    ["an unknown key", { Authorization: "Bearer phk_nobody" }],
  ])("%s is 401", async (_name, headers) => {
    const { status, headers: answered, body } = await post(aRequest(), { headers });
    expect(status).toBe(401);
    expect(answered.get("www-authenticate")).toBe("Bearer");
    expect(body).toEqual({ code: "unauthenticated", message: expect.any(String) });
  });

  test("of a stranger is refused before the body is looked at", async () => {
    const { status } = await post("no JSON", { headers: { Authorization: "Bearer phk_nobody" } });
    expect(status).toBe(401);
  });

  test("without webhooks:write is 403, and the message names the scope", async () => {
    const headers = await makeKey({ scopes: ["webhooks:read"] });
    const { status, body } = await post(aRequest(), { headers });
    expect(status).toBe(403);
    expect(body).toEqual({ code: "permission_denied", message: expect.stringContaining("webhooks:write") });
  });

  test("with webhooks:write is told how much of its rate limit is left, and when it is used up", async () => {
    const headers = await makeKey({ scopes: ["webhooks:write"], rate_limit_per_minute: 2 });
    const first = await post(aRequest(), { headers });
    expect(first.status).toBe(200);
    expect(first.headers.get("x-ratelimit-limit")).toBe("2");
    expect(first.headers.get("x-ratelimit-remaining")).toBe("1");
    expect(Number(first.headers.get("x-ratelimit-reset")) * 1000).toBeGreaterThan(Date.now());
    expect((await post({}, { headers })).headers.get("x-ratelimit-remaining")).toBe("0");
    const third = await post(aRequest(), { headers });
    expect(third.status).toBe(429);
    expect(third.body.code).toBe("resource_exhausted");
    expect(Number(third.headers.get("retry-after"))).toBeGreaterThan(0);
  });

  test("of a tenant registers for that tenant, and may not name another", async () => {
    await gateway.call("TenantService/CreateTenant", { name: "other" });
    const inOther = await post(aRequest({ webhooks: "https://example.com/both" }), {
      headers: { "Posthorn-Tenant": "other" },
    });
    const inDefault = await post(aRequest({ webhooks: "https://example.com/both" }));
    expect([inOther.status, inDefault.status]).toEqual([200, 200]);
    const headers = await makeKey({ scopes: ["webhooks:write"] });
    const named = await post(aRequest(), { headers: { ...headers, "Posthorn-Tenant": "other" } });
    expect(named.status).toBe(403);
    const unknown = await post(aRequest(), { headers: { "Posthorn-Tenant": "nobody" } });
    expect(unknown.status).toBe(404);
  });
});
