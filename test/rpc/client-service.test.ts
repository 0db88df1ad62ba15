import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ClientService } from "../../gen/posthorn/v1/client_service_pb.ts";
import { aChange, anEnvelope, aTextMessage } from "../helpers/whatsapp-bodies.ts";
import {
  type Answer,
  asTenant,
  aWebhook,
  fieldsAtFault,
  openRpcGateway,
  operatorKey,
  type RpcGateway,
} from "./gateway.ts";

let gateway: RpcGateway;
beforeAll(async () => {
  gateway = await openRpcGateway({ tenants: ["acme", "globex"], autoClients: false });
});
afterAll(async () => {
  await gateway.close();
});

const acme = asTenant("acme");
const globex = asTenant("globex");
let counter = 0;
const unique = (prefix: string) => `${prefix}${++counter}`;

const create = (fields: Record<string, unknown>, headers = acme) =>
  gateway.call("ClientService/CreateClient", fields, headers);
const get = (clientRef: string, headers = acme) =>
  gateway.call("ClientService/GetClient", { client_ref: clientRef }, headers);
const update = (fields: Record<string, unknown>, headers = acme) =>
  gateway.call("ClientService/UpdateClient", fields, headers);
const remove = (fields: Record<string, unknown>, headers = acme) =>
  gateway.call("ClientService/DeleteClient", fields, headers);

async function rows(text: string, values: unknown[] = []) {
  return (await gateway.database.pool.query(text, values)).rows;
}

/** A message to a number, published by the operator. */
async function publish(phoneNumberId: string, id: string, wabaId = "waba-of-nobody") {
  const change = aChange({ messages: [aTextMessage({ id })] });
  const value = { ...(change.value as object), metadata: { phone_number_id: phoneNumberId } };
  const body = anEnvelope([{ ...change, value }], { id: wabaId });
  const answer = await gateway.call("EventService/PublishEvents", { bodies: [JSON.stringify(body)] });
  expect(answer.status).toBe(200);
  return answer.body.events[0];
}

describe("CreateClient", () => {
  test("answers with everything but the secrets", async () => {
    const answer = await create({
      client_ref: "bakery",
      phone_numbers: [
        { phone_number_id: "7001", display_phone_number: "+1 (555) 777-0101" },
        { phone_number_id: "7000" },
      ],
      waba_ids: ["waba-b", "waba-a"],
      access_token: "EAAtoken-of-the-bakery",
      app_secret: "app-secret-of-the-bakery",
    });
    expect(answer.status).toBe(200);
    const client = {
      client_ref: "bakery",
      phone_numbers: [
        { phone_number_id: "7001", display_phone_number: "+15557770101" },
        { phone_number_id: "7000" },
      ],
      waba_ids: ["waba-a", "waba-b"],
      has_access_token: true,
      has_app_secret: true,
      created_at: gateway.clock.at.getTime(),
    };
    expect(answer.body).toEqual({ client });
    expect((await get("bakery")).body).toEqual({ client });
  });

  test("needs nothing but a name", async () => {
    const { body } = await create({ client_ref: "plain" });
    expect(body.client).toMatchObject({
      phone_numbers: [],
      waba_ids: [],
      has_access_token: false,
      has_app_secret: false,
    });
  });

  test.each<[string, Record<string, unknown>, string]>([
    ["no name", { client_ref: undefined }, "client_ref"],
    ["an empty name", { client_ref: "" }, "client_ref"],
    ["a name of 201 characters", { client_ref: "x".repeat(201) }, "client_ref"],
    ["U+0000 in the name", { client_ref: "a\u0000b" }, "client_ref"],
    ["a number without id", { phone_numbers: [{}] }, "phone_numbers[0].phone_number_id"],
    [
      "an id that is none",
      { phone_numbers: [{ phone_number_id: "../me" }] },
      "phone_numbers[0].phone_number_id",
    ],
    [
      "a display number without digits",
      { phone_numbers: [{ phone_number_id: "1", display_phone_number: "+" }] },
      "phone_numbers[0].display_phone_number",
    ],
    [
      "a number twice",
      { phone_numbers: [{ phone_number_id: "1" }, { phone_number_id: "1" }] },
      "phone_numbers",
    ],
    [
      "101 numbers",
      { phone_numbers: Array.from({ length: 101 }, (_, i) => ({ phone_number_id: `n${i}` })) },
      "phone_numbers",
    ],
    ["an account twice", { waba_ids: ["1", "1"] }, "waba_ids"],
    ["an empty account", { waba_ids: [""] }, "waba_ids[0]"],
    ["an access token with a line break", { access_token: "a\nb" }, "access_token"],
    ["an empty access token", { access_token: "" }, "access_token"],
    ["a short app secret", { app_secret: "short" }, "app_secret"],
  ])("refuses %s and names the field", async (_, fields, field) => {
    const answer = await create({ client_ref: unique("wrong"), ...fields });
    expect(answer.status).toBe(400);
    expect(answer.body.code).toBe("invalid_argument");
    expect(fieldsAtFault(answer)).toContain(field);
  });

  test("refuses a name that the tenant has, and lets another tenant have it", async () => {
    await create({ client_ref: "taken" });
    const answer = await create({ client_ref: "taken" });
    expect([answer.status, answer.body.code]).toEqual([409, "already_exists"]);
    expect((await create({ client_ref: "taken" }, globex)).status).toBe(200);
  });

  test("refuses a number of another client in the same words, whosever it is, and stores nothing", async () => {
    await create({ client_ref: "owner", phone_numbers: [{ phone_number_id: "7100" }] });
    const own = await create({ client_ref: "second", phone_numbers: [{ phone_number_id: "7100" }] });
    const others = await create(
      { client_ref: "second", phone_numbers: [{ phone_number_id: "7100" }] },
      globex,
    );
    expect([own.status, own.body.code]).toEqual([409, "already_exists"]);
    expect(others.text).toBe(own.text);
    expect(own.text).not.toMatch(/owner|acme/);
    expect((await get("second")).status).toBe(404);
  });

  test("gives a number to exactly one of many that ask at once", async () => {
    const asked = Array.from({ length: 6 }, (_, index) =>
      create(
        { client_ref: `racer-${index}`, phone_numbers: [{ phone_number_id: "7200" }] },
        index % 2 === 0 ? acme : globex,
      ),
    );
    const statuses = (await Promise.all(asked)).map((answer) => answer.status).sort();
    expect(statuses).toEqual([200, 409, 409, 409, 409, 409]);
  });

  test("writes an audit entry that tells secrets only as set", async () => {
    const clientRef = unique("audited");
    await create({ client_ref: clientRef, access_token: "EAA-audited-token", waba_ids: ["w1"] });
    await update({ client_ref: clientRef, update_mask: "accessToken", app_secret: "audited-app-secret" });
    await remove({ client_ref: clientRef });
    const found = await rows(
      "SELECT actor, action, changes FROM audit_entry WHERE subject_id = $1 ORDER BY id",
      [clientRef],
    );
    expect(found).toEqual([
      {
        actor: "operator",
        action: "client.created",
        changes: { phone_numbers: expect.any(Array), waba_ids: ["w1"], access_token: "set" },
      },
      {
        actor: "operator",
        action: "client.updated",
        changes: { access_token: "removed", app_secret: "set" },
      },
      { actor: "operator", action: "client.deleted", changes: {} },
    ]);
  });
});

describe("UpdateClient", () => {
  test("changes what is present and leaves the rest", async () => {
    const clientRef = unique("changed");
    await create({
      client_ref: clientRef,
      phone_numbers: [{ phone_number_id: "7300" }, { phone_number_id: "7301" }],
      waba_ids: ["w-1"],
      access_token: "EAA-first",
    });
    const answer = await update({
      client_ref: clientRef,
      phone_numbers: [{ phone_number_id: "7301" }, { phone_number_id: "7302" }],
      waba_ids: ["w-2", "w-1"],
    });
    expect(answer.body.client).toMatchObject({
      phone_numbers: [{ phone_number_id: "7301" }, { phone_number_id: "7302" }],
      waba_ids: ["w-1", "w-2"],
      has_access_token: true,
    });
    expect(
      (await create({ client_ref: unique("next"), phone_numbers: [{ phone_number_id: "7300" }] })).status,
    ).toBe(200);
  });

  test("clears what update_mask names", async () => {
    const clientRef = unique("cleared");
    await create({
      client_ref: clientRef,
      phone_numbers: [{ phone_number_id: "7310" }],
      waba_ids: ["w-9"],
      access_token: "EAA-x",
      app_secret: "secret-of-this-client",
    });
    const answer = await update({
      client_ref: clientRef,
      update_mask: "phone_numbers,waba_ids,accessToken,appSecret",
    });
    expect(answer.body.client).toMatchObject({
      phone_numbers: [],
      waba_ids: [],
      has_access_token: false,
      has_app_secret: false,
    });
    for (const mask of ["clientRef", "phoneNumbers.phoneNumberId"]) {
      expect((await update({ client_ref: clientRef, update_mask: mask })).status, mask).toBe(400);
    }
  });

  test("refuses a number of another client and changes nothing", async () => {
    await create({ client_ref: "holder", phone_numbers: [{ phone_number_id: "7320" }] }, globex);
    const clientRef = unique("taker");
    await create({ client_ref: clientRef, phone_numbers: [{ phone_number_id: "7321" }] });
    const answer = await update({
      client_ref: clientRef,
      phone_numbers: [{ phone_number_id: "7322" }, { phone_number_id: "7320" }],
    });
    expect(answer.body.code).toBe("already_exists");
    expect(answer.body.message).toContain("phone_numbers[1].phone_number_id");
    expect((await get(clientRef)).body.client.phone_numbers).toEqual([{ phone_number_id: "7321" }]);
  });

  test("a number or account that left routes no more, on every process at once", async () => {
    const clientRef = unique("leaving");
    await create({
      client_ref: clientRef,
      phone_numbers: [{ phone_number_id: "7330" }],
      waba_ids: ["w-330"],
    });
    await publish("7330", "wamid.before");
    await update({ client_ref: clientRef, update_mask: "phoneNumbers,wabaIds" });
    await publish("7330", "wamid.after");
    expect(gateway.directory.current.wabas.has("w-330")).toBe(false);
    const found = await rows(
      "SELECT client_id IS NULL AS is_unrouted FROM event WHERE phone_number_id = '7330' ORDER BY id",
    );
    expect(found.map((row) => row.is_unrouted)).toEqual([false, true]);
  });

  test("a name that can be nobody's is refused by every call", async () => {
    for (const method of ["GetClient", "UpdateClient", "DeleteClient"]) {
      for (const clientRef of ["", "a\u0000b", "x".repeat(201)]) {
        const answer = await gateway.call(`ClientService/${method}`, { client_ref: clientRef }, acme);
        expect(fieldsAtFault(answer)).toContain("client_ref");
      }
    }
  });

  test("an unknown client, and another tenant's, are not found alike", async () => {
    await create({ client_ref: "foreign" }, globex);
    for (const call of [
      get("foreign"),
      update({ client_ref: "foreign" }),
      remove({ client_ref: "foreign" }),
    ]) {
      expect((await call).status).toBe(404);
    }
    expect((await get("foreign")).text).toBe((await get("nobody-at-all")).text);
  });
});

describe("a number that moves to another client", () => {
  test("brings no conversation and no message along, and no edit reaches back", async () => {
    await create({ client_ref: "first-owner", phone_numbers: [{ phone_number_id: "7400" }] });
    await publish("7400", "wamid.secret-of-the-first");
    await update({ client_ref: "first-owner", update_mask: "phoneNumbers" });
    expect(
      (await create({ client_ref: "next-owner", phone_numbers: [{ phone_number_id: "7400" }] }, globex))
        .status,
    ).toBe(200);
    await publish("7400", "wamid.of-the-next");
    const revoke = {
      ...aTextMessage({ id: "wamid.revoke" }),
      type: "revoke",
      revoke: { original_message_id: "wamid.secret-of-the-first" },
    };
    const body = anEnvelope([
      { field: "messages", value: { metadata: { phone_number_id: "7400" }, messages: [revoke] } },
    ]);
    await gateway.call("EventService/PublishEvents", { bodies: [JSON.stringify(body)] });
    const messages = await rows(
      `SELECT m.wamid, m.sequence::int, c.client_ref FROM message m JOIN conversation v ON v.id = m.conversation_id
       JOIN contact k ON k.id = v.contact_id JOIN client c ON c.id = k.client_id
       WHERE m.wamid IN ('wamid.secret-of-the-first', 'wamid.of-the-next') ORDER BY m.wamid`,
    );
    expect(messages).toEqual([
      { wamid: "wamid.of-the-next", sequence: 1, client_ref: "next-owner" },
      { wamid: "wamid.secret-of-the-first", sequence: 1, client_ref: "first-owner" },
    ]);
    expect(await rows("SELECT FROM message_revision")).toHaveLength(0);
  });
});

describe("ListClients", () => {
  test("gives the tenant's clients in pages, newest first", async () => {
    await create({ client_ref: "l1" }, asTenant("default"));
    await create({ client_ref: "l2", phone_numbers: [{ phone_number_id: "7500" }] }, asTenant("default"));
    await create({ client_ref: "l3" }, asTenant("default"));
    const list = (fields: object) => gateway.get("ClientService/ListClients", fields, asTenant("default"));
    const first = await list({ page_size: 2 });
    expect(first.body.clients.map((client: { client_ref: string }) => client.client_ref)).toEqual([
      "l3",
      "l2",
    ]);
    const second = await list({ page_size: 2, page_token: first.body.next_page_token });
    expect(second.body.clients.map((client: { client_ref: string }) => client.client_ref)).toEqual(["l1"]);
    expect(second.body.next_page_token).toBe("");
    expect(fieldsAtFault(await list({ page_token: "nonsense" }))).toEqual(["page_token"]);
  });
});

describe("DeleteClient", () => {
  test("frees name and numbers, and forgets the secrets", async () => {
    await create({
      client_ref: "gone",
      phone_numbers: [{ phone_number_id: "7600" }],
      access_token: "EAA-gone",
      app_secret: "app-secret-that-goes",
    });
    const answer = await remove({ client_ref: "gone" });
    expect(answer.body).toEqual({ deleted_webhook_count: 0, canceled_delivery_count: 0 });
    expect((await get("gone")).status).toBe(404);
    expect((await remove({ client_ref: "gone" })).status).toBe(404);
    const left = await rows(
      `SELECT FROM client WHERE client_ref = 'gone' AND (access_token_sealed IS NOT NULL OR app_secret_sealed IS NOT NULL)`,
    );
    expect(left).toHaveLength(0);
    expect((await create({ client_ref: "gone", phone_numbers: [{ phone_number_id: "7600" }] })).status).toBe(
      200,
    );
  });

  test("is refused with counts while something hangs on it, and with force takes it all", async () => {
    const clientRef = unique("busy");
    await create({ client_ref: clientRef, phone_numbers: [{ phone_number_id: "7610" }] }, globex);
    await create({ client_ref: "neighbour", phone_numbers: [{ phone_number_id: "7611" }] }, globex);
    const key = await gateway.createKey({ client_ref: clientRef }, "globex");
    const hooks = [
      aWebhook({ webhooks: "https://example.com/own", client_ref: clientRef }),
      aWebhook({ webhooks: "https://example.com/all" }),
    ];
    for (const hook of hooks) {
      expect((await gateway.call("WebhookService/CreateWebhook", hook, globex)).status).toBe(200);
    }
    await publish("7610", "wamid.busy-1");
    await publish("7610", "wamid.busy-2");
    await publish("7611", "wamid.neighbour");

    const refused = await remove({ client_ref: clientRef }, globex);
    expect([refused.status, refused.body.code]).toEqual([400, "failed_precondition"]);
    expect(refused.body.message).toMatch(/1 webhooks .* 4 deliveries/);
    expect((await get(clientRef, globex)).status).toBe(200);

    const forced = await remove({ client_ref: clientRef, force: true }, globex);
    expect(forced.body).toEqual({ deleted_webhook_count: 1, canceled_delivery_count: 4 });
    const deliveries = (await gateway.call("DeliveryService/ListDeliveries", {}, globex)).body.deliveries;
    const ended = deliveries
      .map((one: { state: string; reason?: string }) => `${one.state} ${one.reason ?? ""}`)
      .sort();
    expect(ended).toEqual([
      "canceled client_deleted",
      "canceled client_deleted",
      "canceled client_deleted",
      "canceled client_deleted",
      "pending ",
    ]);
    const webhooks = (await gateway.call("WebhookService/ListWebhooks", {}, globex)).body.webhooks;
    expect(webhooks.map((one: { webhooks: string }) => one.webhooks)).toEqual(["https://example.com/all"]);
    expect((await gateway.call("ClientService/ListClients", {}, key.headers)).status).toBe(401);
  });
});

describe("keys", () => {
  test("need the scope that the call declares", async () => {
    const reader = await gateway.createKey({ scopes: ["clients:read"] }, "acme");
    const stranger = await gateway.createKey({ scopes: ["webhooks:write"] }, "acme");
    expect((await gateway.call("ClientService/ListClients", {}, reader.headers)).status).toBe(200);
    for (const [method, body] of [
      ["CreateClient", { client_ref: "x" }],
      ["UpdateClient", { client_ref: "x" }],
      ["DeleteClient", { client_ref: "x" }],
    ] as const) {
      const answer = await gateway.call(`ClientService/${method}`, body, reader.headers);
      expect(answer.body).toMatchObject({
        code: "permission_denied",
        message: expect.stringContaining("clients:write"),
      });
    }
    const denied = await gateway.call("ClientService/GetClient", { client_ref: "x" }, stranger.headers);
    expect(denied.body).toMatchObject({
      code: "permission_denied",
      message: expect.stringContaining("clients:read"),
    });
  });

  test("narrowed to a client see and change that one only, and make none", async () => {
    await create({ client_ref: "narrow", phone_numbers: [{ phone_number_id: "7700" }] });
    await create({ client_ref: "wide", phone_numbers: [{ phone_number_id: "7701" }] });
    const { headers } = await gateway.createKey({ client_ref: "narrow" }, "acme");
    const listed = await gateway.call("ClientService/ListClients", {}, headers);
    expect(listed.body.clients.map((client: { client_ref: string }) => client.client_ref)).toEqual([
      "narrow",
    ]);
    expect((await get("narrow", headers)).status).toBe(200);
    expect((await update({ client_ref: "narrow", waba_ids: ["w-n"] }, headers)).status).toBe(200);
    expect((await get("wide", headers)).status).toBe(404);
    expect((await update({ client_ref: "wide", waba_ids: ["w-n"] }, headers)).status).toBe(404);
    expect((await remove({ client_ref: "wide", force: true }, headers)).status).toBe(404);
    expect((await create({ client_ref: "another" }, headers)).body.code).toBe("permission_denied");
  });

  test("of a tenant do not see what is nobody's", async () => {
    const { headers } = await gateway.createKey({}, "acme");
    const answer = await gateway.call("ClientService/ListUnroutedNumbers", {}, headers);
    expect(answer.body.code).toBe("permission_denied");
  });
});

describe("ListUnroutedNumbers", () => {
  test("counts by number, last seen first, in pages", async () => {
    const startMs = gateway.clock.at.getTime();
    for (const [seconds, number, id] of [
      [3_600, "7800", "wamid.u1"],
      [3_601, "7801", "wamid.u2"],
      [3_602, "7800", "wamid.u3"],
    ] as const) {
      gateway.clock.at = new Date(startMs + seconds * 1_000);
      await publish(number, id);
    }
    const list = (fields: object) => gateway.get("ClientService/ListUnroutedNumbers", fields);
    const first = await list({ page_size: 1 });
    const at = (seconds: number) => new Date(startMs + seconds * 1_000).toISOString();
    expect(first.body.unrouted_numbers).toEqual([
      { phone_number_id: "7800", event_count: 2, first_received_at: at(3_600), last_received_at: at(3_602) },
    ]);
    const second = await list({ page_size: 1, page_token: first.body.next_page_token });
    expect(second.body.unrouted_numbers[0]).toMatchObject({ phone_number_id: "7801", event_count: 1 });
    const warnings = gateway.logged.filter((line) => String(line.msg).includes("no client has"));
    expect(warnings.length).toBeGreaterThan(0);
  });
});

describe("PublishEvents with a tenant's key", () => {
  const bodyFor = (phoneNumberId: string, id: string) => {
    const metadata = { phone_number_id: phoneNumberId };
    return { field: "messages", value: { metadata, messages: [aTextMessage({ id })] } };
  };
  const send = (bodies: unknown[], headers: Record<string, string>) =>
    gateway.call(
      "EventService/PublishEvents",
      { bodies: bodies.map((body) => JSON.stringify(body)) },
      headers,
    );
  const countOf = async (id: string) =>
    (await rows("SELECT FROM event WHERE item LIKE $1::bytea", [`%${id}%`])).length;

  test("takes its own numbers and accounts, and refuses the whole call by the path of another's", async () => {
    await create({
      client_ref: "publisher",
      phone_numbers: [{ phone_number_id: "7900" }],
      waba_ids: ["w-900"],
    });
    await create(
      { client_ref: "other", phone_numbers: [{ phone_number_id: "7901" }], waba_ids: ["w-901"] },
      globex,
    );
    const { headers } = await gateway.createKey({}, "acme");
    const own = anEnvelope(
      [bodyFor("7900", "wamid.p1"), { field: "account_update", value: { event: "own" } }],
      { id: "w-900" },
    );
    expect((await send([own], headers)).status).toBe(200);

    for (const [foreign, path] of [
      [
        anEnvelope([bodyFor("7900", "wamid.p2"), bodyFor("7901", "wamid.p3")]),
        "bodies[1].entry[0].changes[1].value.messages[0]",
      ],
      [
        anEnvelope([{ field: "account_update", value: { event: "x" } }], { id: "w-901" }),
        "bodies[1].entry[0].changes[0].value",
      ],
      [anEnvelope([bodyFor("7999", "wamid.p4")]), "bodies[1].entry[0].changes[0].value.messages[0]"],
    ] as const) {
      const answer = await send([anEnvelope([bodyFor("7900", "wamid.beside")]), foreign], headers);
      expect([answer.status, answer.body.code]).toEqual([403, "permission_denied"]);
      expect(answer.body.message).toContain(`${path}:`);
      expect(await countOf("wamid.beside")).toBe(0);
    }
    const operators = await gateway.call("EventService/PublishEvents", {
      bodies: [JSON.stringify(anEnvelope([bodyFor("7901", "wamid.p5")]))],
    });
    expect(operators.status).toBe(200);
  });

  test("narrowed to a client, takes that client's only", async () => {
    await create({ client_ref: "pn", phone_numbers: [{ phone_number_id: "7910" }] });
    await create({ client_ref: "pw", phone_numbers: [{ phone_number_id: "7911" }] });
    const { headers } = await gateway.createKey({ client_ref: "pn" }, "acme");
    expect((await send([anEnvelope([bodyFor("7910", "wamid.n1")])], headers)).status).toBe(200);
    expect((await send([anEnvelope([bodyFor("7911", "wamid.n2")])], headers)).status).toBe(403);
  });

  test("holds against a change that this process has not heard of", async () => {
    await create({ client_ref: "mover", phone_numbers: [{ phone_number_id: "7920" }] });
    const { headers } = await gateway.createKey({}, "acme");
    // As another process would: the change is committed, and no word of it comes here. This process compares by itself
    // now and then, so a change that it has seen for that reason is taken back and made anew.
    const silent = gateway.announce.run;
    gateway.announce.run = async () => undefined;
    const isUnheard = () => gateway.directory.current.numbers.has("7920");
    try {
      await update({ client_ref: "mover", update_mask: "phoneNumbers" });
      for (let round = 0; !isUnheard() && round < 20; round++) {
        await update({ client_ref: "mover", phone_numbers: [{ phone_number_id: "7920" }] });
        await gateway.directory.refresh();
        await update({ client_ref: "mover", update_mask: "phoneNumbers" });
      }
      expect(isUnheard()).toBe(true);
      expect((await send([anEnvelope([bodyFor("7920", "wamid.m1")])], headers)).status).toBe(403);
      await update({ client_ref: "mover", phone_numbers: [{ phone_number_id: "7920" }] });
      expect((await send([anEnvelope([bodyFor("7920", "wamid.m2")])], headers)).status).toBe(200);
    } finally {
      gateway.announce.run = silent;
    }
  });

  test("stores nothing of a long call whose last event is another's", async () => {
    const { headers } = await gateway.createKey({}, "acme");
    await create({ client_ref: "bulk", phone_numbers: [{ phone_number_id: "7930" }] });
    const messages = Array.from({ length: 1_200 }, (_, index) => aTextMessage({ id: `wamid.bulk-${index}` }));
    const bulk = { field: "messages", value: { metadata: { phone_number_id: "7930" }, messages } };
    const answer = await send([anEnvelope([bulk]), anEnvelope([bodyFor("7901", "wamid.last")])], headers);
    expect(answer.status).toBe(403);
    expect(await rows("SELECT FROM event WHERE phone_number_id = '7930'")).toHaveLength(0);
    expect((await send([anEnvelope([bulk])], headers)).body.events).toHaveLength(1_200);
  });
});

test("works over gRPC, errors included", async () => {
  const transport = createGrpcTransport({
    baseUrl: gateway.http2Url,
    interceptors: [
      (next) => (request) => {
        request.header.set("Authorization", `Bearer ${operatorKey}`);
        return next(request);
      },
    ],
  });
  const client = createClient(ClientService, transport);
  const made = await client.createClient({
    clientRef: "over-grpc",
    phoneNumbers: [{ phoneNumberId: "7950" }],
  });
  expect(made.client).toMatchObject({ clientRef: "over-grpc", hasAccessToken: false });
  await expect(client.createClient({ clientRef: "over-grpc" })).rejects.toMatchObject({ code: 6 });
  await client.deleteClient({ clientRef: "over-grpc" });
  await expect(client.getClient({ clientRef: "over-grpc" })).rejects.toMatchObject({ code: 5 });
});

test("secrets are nowhere in answers, logs, or plain in the database", async () => {
  const secrets = ["EAA-very-secret-access-token", "very-secret-app-secret"];
  const answers: Answer[] = [];
  const fields = { client_ref: "discreet", access_token: secrets[0], app_secret: secrets[1] };
  answers.push(await create(fields));
  answers.push(await create(fields));
  answers.push(await get("discreet"));
  answers.push(await update({ ...fields, access_token: secrets[0] }));
  answers.push(await gateway.call("ClientService/ListClients", {}, acme));
  answers.push(await update({ ...fields, access_token: `${secrets[0]}\n` }));
  const texts = [...answers.map((answer) => answer.text), JSON.stringify(gateway.logged)];
  const tables = await rows("SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'");
  for (const { name } of tables) {
    const [dump] = await rows(`SELECT coalesce(string_agg(t::text, E'\\n'), '') AS text FROM "${name}" t`);
    texts.push(dump!.text);
  }
  for (const secret of secrets) {
    for (const text of texts) {
      expect(text).not.toContain(secret);
      expect(text).not.toContain(Buffer.from(secret).toString("hex"));
    }
  }
  expect((await rows("SELECT FROM client WHERE access_token_sealed IS NOT NULL")).length).toBeGreaterThan(0);
});
