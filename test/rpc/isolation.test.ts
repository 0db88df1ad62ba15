/** What another tenant's key, or a key that is narrowed to another client, gets to know: nothing. */

import { type DescMethod, fromJson, type JsonValue, type Message, toJsonString } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { asTenant, aWebhook, type CreatedKey, openRpcGateway, type RpcGateway } from "./gateway.ts";
import { addAttempt, addDelivery, idAt } from "./log-rows.ts";
import { servedMethods } from "./served-methods.ts";

interface Ids {
  webhookId: number;
  deliveryId: string;
  eventId: string;
  keyId: number;
  userId: string;
  messageId: string;
  clientRef: string;
  recoveryId: string;
}

/** A request for each rpc that takes an id of something that a tenant owns. */
const byId: Record<string, (ids: Ids) => JsonValue> = {
  "WebhookService/GetWebhook": ({ webhookId }) => ({ id: webhookId }),
  "WebhookService/UpdateWebhook": ({ webhookId }) => ({ id: webhookId, status: false }),
  "WebhookService/DeleteWebhook": ({ webhookId }) => ({ id: webhookId }),
  "WebhookService/RotateWebhookSecret": ({ webhookId }) => ({ id: webhookId }),
  "WebhookService/TestWebhook": ({ webhookId }) => ({ id: webhookId }),
  "DeliveryService/ListDeliveries": ({ webhookId }) => ({ webhook_id: webhookId }),
  "DeliveryService/GetDelivery": ({ deliveryId }) => ({ id: deliveryId }),
  "DeliveryService/RetryDelivery": ({ deliveryId }) => ({ id: deliveryId }),
  "DeliveryService/GetDeliveryStats": ({ webhookId }) => ({ webhook_id: webhookId }),
  "DeliveryService/StartRecovery": ({ webhookId }) => ({ webhook_id: webhookId }),
  "DeliveryService/GetRecovery": ({ recoveryId }) => ({ id: recoveryId }),
  "DeliveryService/CancelRecovery": ({ recoveryId }) => ({ id: recoveryId }),
  "ClientService/GetClient": ({ clientRef }) => ({ client_ref: clientRef }),
  "ClientService/UpdateClient": ({ clientRef }) => ({
    client_ref: clientRef,
    access_token: "a-new-access-token",
  }),
  "ClientService/DeleteClient": ({ clientRef }) => ({ client_ref: clientRef, force: true }),
  "MessageService/SendMessage": ({ clientRef }) => ({
    client_ref: clientRef,
    to: "+15550009999",
    text: { body: "mine now" },
  }),
  "MessageService/MarkRead": ({ clientRef }) => ({ client_ref: clientRef, message_id: "wamid.of-acme" }),
  "MessageService/CancelScheduledMessage": ({ messageId }) => ({ id: messageId }),
  "ContactService/GetContact": ({ userId }) => ({ user_id: userId }),
  "ContactService/UpdateContact": ({ userId }) => ({ user_id: userId, note: "mine now" }),
  "ContactService/DeleteContact": ({ userId }) => ({ user_id: userId }),
  "ContactService/GetConversation": ({ userId }) => ({ user_id: userId }),
  "ApiKeyService/RevokeApiKey": ({ keyId }) => ({ id: keyId }),
  "TransformerService/PreviewTransform": ({ eventId }) => ({ transformer: "raw", event_id: eventId }),
};
/** Lists, by tenant. */
const lists = [
  "WebhookService/ListWebhooks",
  "DeliveryService/ListDeliveries",
  "DeliveryService/ListRecoveries",
  "ClientService/ListClients",
  "ContactService/ListContacts",
  "MessageService/ListScheduledMessages",
  "ApiKeyService/ListApiKeys",
  "AuditService/ListAuditEntries",
];
/** What makes things, or is about no tenant's things. */
const others = [
  "WebhookService/CreateWebhook",
  "EventService/PublishEvents",
  "TransformerService/ListTransformers",
  "ClientService/CreateClient",
  "ClientService/ListUnroutedNumbers",
  "ApiKeyService/CreateApiKey",
  "TenantService/CreateTenant",
  "TenantService/GetTenant",
  "TenantService/ListTenants",
  "TenantService/DeleteTenant",
];

/** Streams, which `test/delivery/watches.test.ts` watches as strangers do. */
const streams = ["DeliveryService/WatchDeliveries"];

const methodOf = new Map(servedMethods().map((method) => [`${method.parent.name}/${method.name}`, method]));
const nothing: Ids = {
  webhookId: 2_000_000,
  deliveryId: "0199c0de-0000-7000-8000-0000000000ff",
  eventId: "0199c0de-0000-7000-8000-0000000000fc",
  keyId: 2_000_000,
  userId: "0199c0de-0000-7000-8000-0000000000fe",
  messageId: "0199c0de-0000-7000-8000-0000000000fd",
  clientRef: "never-there",
  recoveryId: "0199c0de-0000-7000-8000-0000000000fc",
};

let gateway: RpcGateway;
let owned: Ids;
let rival: CreatedKey;
let narrowed: CreatedKey;
let before: string;
beforeAll(async () => {
  gateway = await openRpcGateway({ tenants: ["acme", "rival"] });
  await gateway.addClient("acme-client", ["620000000000001"], "acme");
  await gateway.addClient("acme-other", ["620000000000002"], "acme");
  const webhook = aWebhook({
    webhooks: "https://acme.example/",
    active_signature: true,
    client_ref: "acme-client",
  });
  const { body } = await gateway.call("WebhookService/CreateWebhook", webhook, asTenant("acme"));
  const tenantId = gateway.tenantIds.acme!;
  const deliveryId = await addDelivery(gateway, {
    id: idAt("2026-03-05T12:00:00Z"),
    webhookId: body.id,
    tenantId,
    state: "failed",
    reason: "attempts_exhausted",
    body: Buffer.from('{"of":"acme"}'),
  });
  await addAttempt(gateway, { deliveryId, number: 1, outcome: "succeeded", status: 200 });
  const { id: keyId } = await gateway.createKey({}, "acme");
  const userId = "0199c0de-0000-7000-8000-00000000000c";
  await gateway.database.pool.query(
    `INSERT INTO contact (id, client_id, phone, note, created_at, updated_at)
     SELECT $1, id, '15550009999', 'of":"acme', now(), now() FROM client WHERE client_ref = 'acme-client'`,
    [userId],
  );
  const messageId = "0199c0de-0000-7000-8000-00000000000d";
  await gateway.database.pool.query(
    `INSERT INTO outgoing_message (id, tenant_id, client_id, number_id, phone, type, content, webhook_id, delivery_id,
       position, state, due_at, ready_at, created_at)
     SELECT $1, c.tenant_id, c.id, n.id, '15550009999', 'text', '{"text":{"body":"of acme"}}', $2, $3, 0, 'scheduled',
       '2100-01-01', '2100-01-01', now()
     FROM client c JOIN phone_number n ON n.client_id = c.id WHERE c.client_ref = 'acme-client'`,
    [messageId, body.id, deliveryId],
  );
  const eventId = idAt("2026-03-05T12:00:00Z");
  await gateway.database.pool.query(
    `INSERT INTO event (tenant_id, id, client_id, type, received_at, details, item)
     SELECT tenant_id, $1, id, 'whatsapp.account_update', now(), $2, '{"of":"acme"}' FROM client
     WHERE client_ref = 'acme-client'`,
    [eventId, '{"clientRef":"acme-client","businessPhone":null,"user":null,"conversation":null}'],
  );
  const recovery = { webhook_id: body.id, event_types: ["message.received"] };
  const started = await gateway.call("DeliveryService/StartRecovery", recovery, asTenant("acme"));
  const recoveryId = started.body.recovery.id;
  const clientRef = "acme-client";
  owned = { webhookId: body.id, deliveryId, eventId, keyId, userId, messageId, clientRef, recoveryId };
  rival = await gateway.createKey({}, "rival");
  narrowed = await gateway.createKey({ client_ref: "acme-other" }, "acme");
  before = await snapshot();
});
afterAll(async () => {
  await gateway.close();
});

/** Everything of the tenant, to see that nothing changed. */
async function snapshot(): Promise<string> {
  const { rows } = await gateway.database.pool.query(
    `SELECT (SELECT string_agg(w::text, '' ORDER BY id) FROM webhook w) AS w,
       (SELECT string_agg(s::text, '' ORDER BY id) FROM webhook_secret s) AS s,
       (SELECT string_agg(d::text, '' ORDER BY id) FROM delivery d) AS d,
       (SELECT string_agg(r::text, '' ORDER BY id) FROM recovery r) AS r,
       (SELECT string_agg(c::text, '' ORDER BY id) FROM client c) AS c,
       (SELECT string_agg(o::text, '' ORDER BY id) FROM contact o) AS o,
       (SELECT string_agg(m::text, '' ORDER BY id) FROM outgoing_message m) AS m,
       (SELECT string_agg(id::text || revoked_at::text, '' ORDER BY id) FROM api_key) AS k,
       (SELECT count(*)::int FROM audit_entry) AS entries`,
  );
  return JSON.stringify(rows);
}

/** By POST, gRPC and, where the rpc has it, GET: status and text. */
async function askAll(name: string, request: JsonValue, headers: Record<string, string>) {
  const method = methodOf.get(name)!;
  const answers = [await gateway.call(name, request, headers)].map(({ body, text }) => ({
    code: body.code,
    text,
  }));
  if (method.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS) {
    const { body, text } = await gateway.get(name, request, headers);
    answers.push({ code: body.code, text });
  }
  answers.push(await askGrpc(method, request, headers));
  return answers;
}

async function askGrpc(method: DescMethod, request: JsonValue, headers: Record<string, string>) {
  const withHeaders: Interceptor = (next) => (call) => {
    for (const [header, value] of Object.entries(headers)) call.header.set(header, value);
    return next(call);
  };
  const transport = createGrpcTransport({ baseUrl: gateway.http2Url, interceptors: [withHeaders] });
  const client = createClient(method.parent, transport) as unknown as Record<
    string,
    (message: unknown) => Promise<Message>
  >;
  try {
    const answer = await client[method.localName]!(fromJson(method.input, request));
    return { code: undefined, text: toJsonString(method.output, answer) };
  } catch (reason) {
    const error = ConnectError.from(reason);
    return { code: error.code === Code.NotFound ? "not_found" : Code[error.code], text: error.message };
  }
}

test("every rpc that is served is in one of the tables above", () => {
  const known = new Set([...Object.keys(byId), ...lists, ...others, ...streams]);
  expect([...methodOf.keys()].filter((name) => !known.has(name))).toEqual([]);
});

const strangers: [string, (name: string) => Record<string, string>][] = [
  ["another tenant's key", (name) => (name.startsWith("ApiKey") ? asTenant("rival") : rival.headers)],
  ["the operator's key in another tenant", () => asTenant("rival")],
  [
    "a key that is narrowed to another client",
    (name) => (name.startsWith("ApiKey") ? asTenant("rival") : narrowed.headers),
  ],
];

describe.each(strangers)("%s", (_, headersFor) => {
  test.each(Object.keys(byId))("gets the same from %s as if the thing were not there", async (name) => {
    const headers = headersFor(name);
    const withoutIds = (text: string, ids: Ids) =>
      Object.values(ids)
        .map(String)
        .sort((one, other) => other.length - one.length)
        .reduce((left, id) => left.replaceAll(id, "<id>"), text);
    const found = await askAll(name, byId[name]!(owned), headers);
    const missing = await askAll(name, byId[name]!(nothing), headers);
    for (const { code } of found) expect(code).toBe("not_found");
    expect(found.map(({ text }) => withoutIds(text, owned))).toEqual(
      missing.map(({ text }) => withoutIds(text, nothing)),
    );
    for (const { text } of found) expect(text).not.toMatch(/acme\.example|whsec_/);
  });

  test.each(lists)("finds none of it with %s", async (name) => {
    const isOperators = /^(ApiKey|Audit)/.test(name);
    for (const { code, text } of await askAll(name, {}, isOperators ? asTenant("rival") : headersFor(name))) {
      expect(code).toBeUndefined();
      expect(text).not.toMatch(/acme\.example|acme-client|of":"acme/);
      expect(text).not.toContain(owned.deliveryId);
      expect(text).not.toContain(owned.recoveryId);
    }
  });

  test("changed nothing by all that", async () => {
    expect(await snapshot()).toBe(before);
  });
});

test("a page token of one tenant opens no list of another", async () => {
  for (const webhooks of ["https://acme.example/2", "https://acme.example/3"]) {
    await gateway.call("WebhookService/CreateWebhook", aWebhook({ webhooks }), asTenant("acme"));
  }
  const { body } = await gateway.call("WebhookService/ListWebhooks", { page_size: 1 }, asTenant("acme"));
  for (const { headers } of [rival, narrowed]) {
    const answer = await gateway.call(
      "WebhookService/ListWebhooks",
      { page_token: body.next_page_token },
      headers,
    );
    expect(answer.status).toBe(400);
  }
});
