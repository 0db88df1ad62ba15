import { fromJson } from "@bufbuild/protobuf";
import { Code, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CreateWebhookRequestSchema, WebhookService } from "../../gen/posthorn/v1/webhook_service_pb.ts";
import { defineTransformer } from "../../plugins/transformer.ts";
import { aWebhook, fieldsAtFault, openRpcGateway, operatorKey, type RpcGateway } from "./gateway.ts";

const accountsOnly = defineTransformer({
  name: "accounts-only",
  version: "1.0.0",
  description: "Handles account updates and what happens to the gateway's own webhooks.",
  handles: ["whatsapp.account_*", "posthorn.webhook.disabled"],
  transform: () => null,
});

let production: RpcGateway;
let development: RpcGateway;
beforeAll(async () => {
  production = await openRpcGateway({ mode: "production", transformers: [accountsOnly] });
  development = await openRpcGateway({ mode: "development" });
});
afterAll(async () => {
  await production.close();
  await development.close();
});

function grpc() {
  const withKey: Interceptor = (next) => (request) => {
    request.header.set("Authorization", `Bearer ${operatorKey}`);
    return next(request);
  };
  return createGrpcTransport({ baseUrl: production.http2Url, interceptors: [withKey] });
}

function asMessage(given: Record<string, unknown>) {
  try {
    return fromJson(CreateWebhookRequestSchema, JSON.parse(JSON.stringify(aWebhook(given))));
  } catch {
    return null;
  }
}

const url = (tail: string) => `https://example.com/${tail}`;
const secret24 = "abcdefghijklmnopqrstuvwx";

interface Refusal {
  rule: string;
  given: Record<string, unknown>;
  field: string;
  text: string;
}

const refusals: Refusal[] = [
  ...["webhooks", "status", "incoming", "schedule_activity", "waiting_duration", "active_signature"].map(
    (field) => ({
      rule: `${field} must be there`,
      given: { [field]: undefined },
      field,
      text: `${field}: value is required [required]`,
    }),
  ),
  {
    rule: "a URL is not empty",
    given: { webhooks: "" },
    field: "webhooks",
    text: "webhooks: must be at least 1 characters [string.min_len]",
  },
  {
    rule: "a URL has at most 2048 characters",
    given: { webhooks: url("a".repeat(2049 - url("").length)) },
    field: "webhooks",
    text: "webhooks: must be at most 2048 characters [string.max_len]",
  },
  {
    rule: "a URL is a full one",
    given: { webhooks: "example.com/whatsapp" },
    field: "webhooks",
    text: "webhooks: must be a full URL such as https://example.com/whatsapp",
  },
  {
    rule: "a URL is HTTPS in production",
    given: { webhooks: "http://example.com/" },
    field: "webhooks",
    text: "webhooks: must start with https://",
  },
  {
    rule: "a URL is of no other scheme",
    given: { webhooks: "ftp://example.com/" },
    field: "webhooks",
    text: "webhooks: must start with https://",
  },
  ...["https://user@example.com/", "https://:word@example.com/", "https://user:word@example.com/"].map(
    (webhooks) => ({
      rule: `a URL holds no credentials (${webhooks})`,
      given: { webhooks },
      field: "webhooks",
      text: "webhooks: must not hold a user name or password: send credentials in headers",
    }),
  ),
  ...[url("#part"), url("#")].map((webhooks) => ({
    rule: `a URL has no fragment (${webhooks})`,
    given: { webhooks },
    field: "webhooks",
    text: "webhooks: must not have a fragment (#…), which is never sent",
  })),
  ...[" https://example.com/", url("a b"), url("\u0000"), url("a\n")].map((webhooks) => ({
    rule: `a URL holds no white space or control character (${JSON.stringify(webhooks)})`,
    given: { webhooks },
    field: "webhooks",
    text: "webhooks: must not hold white space or control characters",
  })),
  {
    rule: "waiting_duration is at most 60 days",
    given: { schedule_activity: true, waiting_duration: 5_184_001 },
    field: "waiting_duration",
    text: "waiting_duration: must be less than or equal to 5184000 [uint32.lte]",
  },
  {
    rule: "active_signature is true with intelli",
    given: { transformer: "intelli" },
    field: "",
    text: "active_signature: must be true with transformer intelli, whose webhooks are always signed [active_signature.intelli]",
  },
  {
    rule: "waiting_duration is 0 without schedule_activity",
    given: { waiting_duration: 15 },
    field: "",
    text: "waiting_duration: must be 0 when schedule_activity is false [waiting_duration.off]",
  },
  {
    rule: "waiting_duration is not 0 with schedule_activity",
    given: { schedule_activity: true },
    field: "",
    text: "waiting_duration: must be 1 to 5184000 seconds when schedule_activity is true [waiting_duration.on]",
  },
  {
    rule: "an own secret makes no sense without signing",
    given: { signature_secret: secret24 },
    field: "",
    text: "signature_secret: must be left out when active_signature is false [signature_secret.unsigned]",
  },
  {
    rule: "an own secret has at least 24 characters",
    given: { active_signature: true, signature_secret: secret24.slice(1) },
    field: "signature_secret",
    text: "signature_secret: must be at least 24 characters [string.min_len]",
  },
  {
    rule: "an own secret has at most 200 characters",
    given: { active_signature: true, signature_secret: "a".repeat(201) },
    field: "signature_secret",
    text: "signature_secret: must be at most 200 characters [string.max_len]",
  },
  ...["whsec_not base64 at all, is it", "whsec_YWJjZGVmZ2hpamtsbW5vcA"].map((signature_secret) => ({
    rule: `an own secret is base64 after whsec_ (${signature_secret})`,
    given: { active_signature: true, signature_secret },
    field: "signature_secret",
    text: "signature_secret: must be base64 after whsec_, since receivers decode it",
  })),
  {
    rule: "a transformer is loaded",
    given: { transformer: "nobody" },
    field: "transformer",
    text: "transformer: nobody is not loaded; there are accounts-only, cloudevents, insights, intelli, raw, slack",
  },
  {
    rule: "a transformer has a name",
    given: { transformer: "Not A Name" },
    field: "transformer",
    text: "transformer: must be 1 to 64 lower-case letters, digits or -, the first a letter [string.pattern]",
  },
  ...[
    "message.deleted",
    "message.",
    "nothing.*",
    "whatsapp.",
    "whatsapp.Account",
    "mess*age.*",
    "posthorn.other",
  ].map((eventType) => ({
    rule: `an event type exists (${eventType})`,
    given: { event_types: ["message.received", eventType] },
    field: "event_types[1]",
    text:
      "event_types[1]: is no event type: use message.received, message.reaction, message.status, message.sent, " +
      "whatsapp.<field>, posthorn.webhook.disabled, posthorn.delivery.failed, or a start of one with * at its end",
  })),
  {
    rule: "an event type is named once",
    given: { event_types: ["message.received", "message.received"] },
    field: "event_types",
    text: "event_types: repeated value must contain unique items [repeated.unique]",
  },
  {
    rule: "a client is known",
    given: { client_ref: "nobody" },
    field: "client_ref",
    text: "client_ref: there is no client of this name",
  },
  {
    rule: "an option is one of the transformer's",
    given: { transformer_options: { histroy_size: 3 } },
    field: "transformer_options",
    text: 'transformer_options: do not fit transformer insights: "histroy_size" is no option of it',
  },
  {
    rule: "an option keeps to its bounds",
    given: { transformer_options: { history_size: 51 } },
    field: "transformer_options",
    text: "transformer_options: do not fit transformer insights: history_size must be <= 50",
  },
  {
    rule: "an option has the format that it should",
    given: { transformer_options: { timezone: "+02:00" } },
    field: "transformer_options",
    text: 'transformer_options: do not fit transformer insights: timezone must match format "iana-time-zone"',
  },
  {
    rule: "options can be stored",
    given: { transformer: "raw", transformer_options: { deep: [{ text: "a\u0000b" }] } },
    field: "transformer_options",
    text: "transformer_options: must not hold U+0000 or half a surrogate pair",
  },
  {
    rule: "options are not endless",
    given: { transformer: "raw", transformer_options: { text: "a".repeat(16_384) } },
    field: "transformer_options",
    text: "transformer_options: must have at most 16384 characters as JSON",
  },
  ...[
    "Content-Type",
    "content-encoding",
    "Host",
    "webhook-id",
    "Webhook-Anything",
    "X-Intelli-Signature",
    "x-my-own-signature",
    "Connection",
    "keep-alive",
    "Proxy-Authorization",
    "TE",
    "trailer",
    "Transfer-Encoding",
    "Upgrade",
  ].map((name) => ({
    rule: `the header ${name} is not the owner's to set`,
    given: { headers: { [name]: "x" } },
    field: `headers["${name}"]`,
    text: `headers["${name}"]: ${name} is set by the gateway or belongs to the connection, so it cannot be given`,
  })),
  {
    rule: "a header has a name that HTTP allows",
    given: { headers: { "not a name": "x" } },
    field: 'headers["not a name"]',
    text: 'headers["not a name"]: not a name is no valid header name',
  },
  {
    rule: "a header value breaks no line",
    given: { headers: { "x-key": "one\r\nx-two: two" } },
    field: 'headers["x-key"]',
    text: 'headers["x-key"]: x-key has a value with a line break or another control character',
  },
  {
    rule: "a header value can travel over HTTP",
    given: { headers: { "x-key": "10 €" } },
    field: 'headers["x-key"]',
    text: 'headers["x-key"]: x-key has a value with a character beyond U+00FF, which HTTP cannot carry',
  },
  {
    rule: "a header is given once, whatever its case",
    given: { headers: { "x-key": "one", "X-Key": "two" } },
    field: 'headers["X-Key"]',
    text: 'headers["X-Key"]: X-Key is given twice: case makes no difference',
  },
  {
    rule: "there are at most 20 headers",
    given: { headers: Object.fromEntries(Array.from({ length: 21 }, (_, index) => [`x-${index}`, "x"])) },
    field: "headers",
    text: "headers: map must be at most 20 entries [map.max_pairs]",
  },
  ...[0, 257].map((max_in_flight) => ({
    rule: `max_in_flight is 1 to 256, not ${max_in_flight}`,
    given: { max_in_flight },
    field: "max_in_flight",
    text: "max_in_flight: must be greater than or equal to 1 and less than or equal to 256 [uint32.gte_lte]",
  })),
  {
    rule: "a description has at most 200 characters",
    given: { description: "a".repeat(201) },
    field: "description",
    text: "description: must be at most 200 characters [string.max_len]",
  },
];

describe("CreateWebhook refuses with the field and the rule", () => {
  test.each(refusals)("$rule", async ({ given, field, text }) => {
    const answer = await production.call("WebhookService/CreateWebhook", aWebhook(given));
    expect(answer.body).toMatchObject({ code: "invalid_argument", message: text });
    expect(answer.status).toBe(400);
    expect(fieldsAtFault(answer)).toEqual([field]);
  });

  // The rows that JSON alone can spell (a wrong type, an unknown field) have no message to send.
  const spelled = refusals.filter(({ given }) => asMessage(given) !== null);
  test.each(spelled)("over gRPC too: $rule", async ({ given, text }) => {
    const refused = createClient(WebhookService, grpc()).createWebhook(asMessage(given)!);
    await expect(refused).rejects.toMatchObject({ code: Code.InvalidArgument, rawMessage: text });
  });

  test("nearly all rows can be sent over gRPC", () => {
    expect(spelled.length).toBeGreaterThan(refusals.length * 0.9);
  });

  test("nothing that was refused is there", async () => {
    expect((await production.call("WebhookService/ListWebhooks", {})).body.webhooks).toEqual([]);
  });

  test("every field at fault is named, not only the first", async () => {
    const answer = await production.call("WebhookService/CreateWebhook", {});
    expect(fieldsAtFault(answer)).toEqual([
      "webhooks",
      "status",
      "incoming",
      "schedule_activity",
      "waiting_duration",
      "active_signature",
    ]);
    expect(answer.body.message).toBe("webhooks: value is required [required], and 5 more violations");
  });
});

describe("a webhook that could admit nothing is refused", () => {
  const barren: { why: string; given: Record<string, unknown>; field: string }[] = [
    { why: "no trigger is on", given: { incoming: false }, field: "incoming" },
    {
      why: "the named types hang on a trigger that is off",
      given: { event_types: ["message.status"], transformer: "raw" },
      field: "event_types",
    },
    {
      why: "the transformer does not handle the named types",
      given: { event_types: ["message.reaction"] },
      field: "event_types",
    },
    {
      why: "types without trigger are not named",
      given: { transformer: "accounts-only" },
      field: "incoming",
    },
    {
      why: "other types without trigger are named",
      given: { transformer: "accounts-only", event_types: ["whatsapp.calls", "posthorn.delivery.failed"] },
      field: "event_types",
    },
    {
      why: "what is handled and what is named share a start but no type",
      given: { event_types: ["whatsapp.*"] },
      field: "event_types",
    },
    {
      why: "intelli is to send only messages that the business sends",
      given: {
        transformer: "intelli",
        active_signature: true,
        incoming: false,
        outgoing: true,
        event_types: ["message.sent"],
      },
      field: "event_types",
    },
  ];
  test.each(barren)("$why", async ({ given, field }) => {
    const answer = await production.call("WebhookService/CreateWebhook", aWebhook(given));
    expect(answer.body.code).toBe("invalid_argument");
    expect(answer.body.message).toMatch(`${field}: the webhook could admit nothing: transformer `);
    expect(fieldsAtFault(answer)).toEqual([field]);
  });
});

describe("CreateWebhook takes", () => {
  const taken: { what: string; given: Record<string, unknown> }[] = [
    { what: "a URL of 2048 characters", given: { webhooks: url("a".repeat(2048 - url("").length)) } },
    { what: "the longest waiting_duration", given: { schedule_activity: true, waiting_duration: 5_184_000 } },
    { what: "a waiting_duration that is no preset", given: { schedule_activity: true, waiting_duration: 1 } },
    { what: "a message type and a wildcard", given: { event_types: ["message.received", "whatsapp.*"] } },
    { what: "everything by name", given: { event_types: ["*"] } },
    { what: "a start of a type", given: { event_types: ["message.rec*"] } },
    {
      what: "types without trigger, though no trigger is on",
      given: { incoming: false, transformer: "raw", event_types: ["whatsapp.account_update"] },
    },
    {
      what: "a wildcard that meets what the transformer handles",
      given: { incoming: false, transformer: "accounts-only", event_types: ["whatsapp.acc*"] },
    },
    {
      what: "an event of the gateway",
      given: { incoming: false, transformer: "accounts-only", event_types: ["posthorn.*"] },
    },
    {
      what: "options that fit",
      given: { transformer_options: { history_size: 50, timezone: "Europe/Berlin" } },
    },
    { what: "own secrets of 24 characters", given: { active_signature: true, signature_secret: secret24 } },
    {
      what: "own secrets of 200 characters",
      given: { active_signature: true, signature_secret: "é".repeat(200) },
    },
    { what: "20 headers", given: { headers: headers(20) } },
    {
      what: "credentials in headers",
      given: { headers: { Authorization: "Bearer x", "x-signature": "mine" } },
    },
    { what: "max_in_flight 1", given: { max_in_flight: 1 } },
    { what: "max_in_flight 256", given: { max_in_flight: 256 } },
    { what: "a description of 200 characters", given: { description: "😀".repeat(200) } },
    { what: "a webhook that is off and paused", given: { status: false, paused: true } },
  ];
  test.each(taken.map((one, index) => ({ ...one, index })))("$what", async ({ given, index }) => {
    const answer = await production.call(
      "WebhookService/CreateWebhook",
      aWebhook({ webhooks: url(`taken/${index}`), ...given }),
    );
    expect(answer.body.message).toBeUndefined();
    expect(answer.status).toBe(200);
    const { headers: _, signature_secret: own, ...shown } = given;
    expect(answer.body).toMatchObject(shown);
    expect(answer.body.signature_secret).toBe(own);
  });

  test("plain HTTP in development", async () => {
    const answer = await development.call(
      "WebhookService/CreateWebhook",
      aWebhook({ webhooks: "http://localhost:3000/hook" }),
    );
    expect(answer.status).toBe(200);
    const refused = await development.call(
      "WebhookService/CreateWebhook",
      aWebhook({ webhooks: "ws://localhost/" }),
    );
    expect(refused.body.message).toBe("webhooks: must start with https:// or http://");
  });
});

describe("outgoing, when it is left out, is", () => {
  const defaults: { what: string; given: Record<string, unknown>; outgoing: boolean }[] = [
    { what: "false for insights", given: {}, outgoing: false },
    { what: "false for another transformer", given: { transformer: "raw" }, outgoing: false },
    { what: "true for intelli", given: { transformer: "intelli" }, outgoing: true },
    {
      what: "true for intelli with a type that it concerns",
      given: { transformer: "intelli", event_types: ["message.received", "message.status"] },
      outgoing: true,
    },
    {
      what: "true for intelli with a wildcard",
      given: { transformer: "intelli", event_types: ["message.*"] },
      outgoing: true,
    },
    {
      what: "false for intelli when event_types names no such type",
      given: { transformer: "intelli", event_types: ["message.received"] },
      outgoing: false,
    },
    { what: "as given for intelli", given: { transformer: "intelli", outgoing: false }, outgoing: false },
    { what: "as given for insights", given: { outgoing: true }, outgoing: true },
  ];
  test.each(defaults.map((one, index) => ({ ...one, index })))(
    "$what",
    async ({ given, outgoing, index }) => {
      const answer = await production.call(
        "WebhookService/CreateWebhook",
        aWebhook({ webhooks: url(`default/${index}`), active_signature: true, ...given }),
      );
      expect(answer.body.outgoing).toBe(outgoing);
    },
  );
});

function headers(count: number): Record<string, string> {
  return Object.fromEntries(Array.from({ length: count }, (_, index) => [`x-${index}`, "x"]));
}
