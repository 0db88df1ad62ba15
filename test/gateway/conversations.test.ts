import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { startTestGateway, type TestGateway } from "../helpers/gateway.ts";
import { type QueryRows, queryRows } from "../helpers/query-rows.ts";
import { type Receiver, startReceiver } from "../helpers/receiver.ts";
import { waitFor } from "../helpers/wait.ts";
import {
  aChange,
  aContact,
  aMessage,
  anEcho,
  anEnvelope,
  aTextMessage,
  baseTimestamp,
  business,
  type Json,
} from "../helpers/whatsapp-bodies.ts";

let gateway: TestGateway;
let receiver: Receiver;
let rows: QueryRows;
beforeAll(async () => {
  gateway = await startTestGateway();
  rows = queryRows(gateway.databaseUrl);
});
afterAll(() => gateway.close());
beforeEach(async () => {
  receiver = await startReceiver();
});
afterEach(async () => {
  const { body } = await gateway.call("WebhookService/ListWebhooks", {});
  for (const { id } of body.webhooks) await gateway.call("WebhookService/DeleteWebhook", { id });
  await receiver.close();
});

let userCount = 0;
const aPhone = () => `1555${String(2_000_000 + ++userCount)}`;
const aBsuid = () => `US.${9_000_000 + ++userCount}`;
let messageCount = 0;
const anId = () => `wamid.c${++messageCount}`;

interface Sender {
  phone?: string;
  bsuid?: string;
  name?: string;
}

function fromUser({ phone, bsuid, name }: Sender, message: Json): Json {
  const contact = aContact({ wa_id: phone, user_id: bsuid, ...(name && { profile: { name } }) });
  const messages = [{ ...message, from: phone, from_user_id: bsuid }];
  return anEnvelope([aChange({ contacts: [contact], messages })]);
}

async function say(sender: Sender, body: string, overrides: Json = {}): Promise<string> {
  const id = anId();
  expect(await gateway.postBody(fromUser(sender, aTextMessage({ id, body, ...overrides })))).toBe(200);
  return id;
}

async function call(method: string, body: unknown) {
  const answer = await gateway.call(`ContactService/${method}`, body);
  if (answer.status !== 200) throw new Error(`${method}: ${answer.status} ${JSON.stringify(answer.body)}`);
  return answer.body;
}
const contactsOf = async (filter: Json): Promise<Json[]> => (await call("ListContacts", filter)).contacts;
const conversationOf = async (userId: unknown, fields: Json = {}) =>
  (await call("GetConversation", { user_id: userId, ...fields })).messages as Json[];
const contents = (messages: Json[]) => messages.map(({ content }) => content);

/** Payloads by the content of their newest message. */
async function payloads(count: number): Promise<Map<string, Json & { last_messages: Json[] }>> {
  const requests = await receiver.waitForRequests(count);
  const bodies = requests.map((request) => JSON.parse(request.body.toString()));
  return new Map(bodies.map((body) => [body.last_messages[0].content, body]));
}

test("the documented sample: a greeting of the bot, a question of the user", async () => {
  const phone = "15550001111";
  const greeting = anEcho({ id: anId(), to: phone, body: "Hello! How can I help?", timestamp: "1749505530" });
  await gateway.postBody(anEnvelope([aChange({ message_echoes: [greeting] }, "smb_message_echoes")]));
  const [contact] = await contactsOf({ phone });
  await call("UpdateContact", { user_id: contact!.user_id, labels: ["vip", "lead"] });
  await gateway.createWebhook({ webhooks: receiver.url, transformer: "insights" });
  const name = "Jane Roe";
  await say({ phone, name }, "What are your hours?", { timestamp: "1749506891" });

  const [request] = await receiver.waitForRequests(1);
  expect(request!.body.toString()).toBe(
    `{"last_messages":[{"type":"user","content":"What are your hours?","timestamp":"2025-06-09T22:08:11.000Z","content_type":"text"},{"type":"bot","content":"Hello! How can I help?","timestamp":"2025-06-09T21:45:30.000Z","content_type":"text"}],"conversation_paragraph":"User (10:08:11 PM): What are your hours? ; Bot (9:45:30 PM): Hello! How can I help?","phone_number":"15550001111","recipient_name":"Jane Roe","user_id":"${contact!.user_id}","last_message_of_user":"What are your hours?","last_message_of_bot":"Hello! How can I help?","message_type":"text","user_last_message_time":1749506891,"bot_last_message_time":1749505530,"attachment_url":null,"note":"","note_automation":"","labels":"vip, lead"}`,
  );
});

describe("a message of every kind has its content and type in the payload", () => {
  const media = { id: "900000000000077", mime_type: "x/y", sha256: "x" };
  const list = { type: "list_reply", list_reply: { id: "1", title: "Row", description: "first" } };
  const flow = { type: "nfm_reply", nfm_reply: { name: "flow", body: "Sent", response_json: '{"a":1}' } };
  const items = [{ product_retailer_id: "p", quantity: 2, item_price: 9.5, currency: "EUR" }];
  const place = { latitude: 1.5, longitude: -2, name: "Office", address: "Main St 1" };

  test.each([
    ["text", { body: "Hi" }, "Hi", "text"],
    ["image", { ...media, caption: "A cat" }, "A cat", "image"],
    ["image", media, "", "image"],
    ["video", { ...media, caption: "A dog" }, "A dog", "video"],
    ["audio", { ...media, voice: true }, "", "audio"],
    ["audio", media, "", "audio"],
    ["document", { ...media, filename: "a.pdf", caption: "Bill" }, "Bill", "document"],
    ["sticker", { ...media, animated: false }, "", "image"],
    ["location", place, "Office, Main St 1 (1.5, -2)", "location"],
    ["location", { latitude: 0, longitude: 0.5 }, "(0, 0.5)", "location"],
    [
      "contacts",
      [{ name: { formatted_name: "Ann" } }, { name: { formatted_name: "Bob" } }],
      "Ann, Bob",
      "text",
    ],
    ["button", { payload: "yes", text: "Yes" }, "Yes", "text"],
    ["interactive", { type: "button_reply", button_reply: { id: "1", title: "Prices" } }, "Prices", "text"],
    ["interactive", list, "Row", "text"],
    ["interactive", flow, '{"a":1}', "text"],
    ["order", { catalog_id: "c", product_items: items }, "1 item, 19.0 EUR", "text"],
    ["hologram", { depth: 3 }, "", "text"],
  ])("%s %j", async (type, content, shown, contentType) => {
    const phone = aPhone();
    await gateway.createWebhook({ webhooks: receiver.url, transformer: "insights", outgoing: true });
    await gateway.postBody(fromUser({ phone }, aMessage(type, content, { id: anId() })));
    const [received] = await receiver.waitForRequests(1);
    const payload = JSON.parse(received!.body.toString());
    expect(payload.last_messages).toEqual([
      { type: "user", content: shown, timestamp: "2026-03-05T12:00:00.000Z", content_type: contentType },
    ]);
    expect(payload).toMatchObject({ message_type: contentType, last_message_of_user: shown });
    const hasMedia = ["image", "video", "audio", "document", "sticker"].includes(type);
    if (hasMedia) expect(payload.attachment_url).toMatch(/\/media\/[\w-]+$/);
    else expect(payload.attachment_url).toBeNull();

    const echo = { ...anEcho({ id: anId(), to: phone, type }), text: undefined, [type]: content };
    await gateway.postBody(anEnvelope([aChange({ message_echoes: [echo] }, "smb_message_echoes")]));
    const [, sent] = await receiver.waitForRequests(2);
    expect(JSON.parse(sent!.body.toString()).last_messages[0]).toMatchObject({
      type: "bot",
      content: shown,
      content_type: contentType,
    });
  });

  test.each([
    ["reaction", { message_id: "wamid.x", emoji: "👍" }],
    ["system", { type: "customer_identity_changed", body: "…" }],
    ["edit", { original_message_id: "wamid.x", message: { type: "text", text: { body: "new" } } }],
    ["revoke", { original_message_id: "wamid.x" }],
    ["request_welcome", {}],
    ["unsupported", { type: "poll_creation" }],
  ])("%s is no part of the conversation: nothing is sent", async (type, content) => {
    const phone = aPhone();
    const { id } = await gateway.createWebhook({ webhooks: receiver.url, transformer: "insights" });
    await gateway.postBody(fromUser({ phone }, aMessage(type, content, { id: anId() })));
    await say({ phone }, "after");
    await receiver.waitForRequests(1);
    await waitFor(
      "end of all deliveries",
      () => gateway.deliveries({ webhook_id: id }),
      (found) => found.every(({ state }) => ["delivered", "skipped"].includes(state)),
    );
    expect(receiver.requests).toHaveLength(1);
    expect([...(await payloads(1)).values()][0]!.last_messages).toHaveLength(1);
  });
});

test("names, notes and labels show in events that come after the change, and in none before", async () => {
  const phone = aPhone();
  const { id } = await gateway.createWebhook({
    webhooks: receiver.url,
    transformer: "insights",
    paused: true,
  });
  await say({ phone, name: "Ada" }, "one");
  const [contact] = await contactsOf({ phone });
  expect(contact).toMatchObject({ profile_name: "Ada", note: "", labels: [] });
  expect(contact).not.toHaveProperty("name");
  const change = {
    name: "Dr. Ada",
    note: "mornings",
    note_automation: "asked twice",
    labels: ["vip", "lead"],
  };
  await call("UpdateContact", { user_id: contact!.user_id, ...change });
  await say({ phone, name: "Ada L." }, "two");
  await call("UpdateContact", { user_id: contact!.user_id, update_mask: "name,note,labels" });
  await say({ phone, name: "Ada L." }, "three");
  await gateway.updateWebhook(id, { paused: false });
  const found = await payloads(3);
  const none = { note: "", note_automation: "", labels: "" };
  expect(found.get("one")).toMatchObject({ recipient_name: "Ada", ...none });
  expect(found.get("two")).toMatchObject({
    recipient_name: "Dr. Ada",
    note: "mornings",
    note_automation: "asked twice",
    labels: "vip, lead",
  });
  expect(found.get("three")).toMatchObject({
    recipient_name: "Ada L.",
    ...none,
    note_automation: "asked twice",
  });
});

describe("two contacts that turn out to be one", () => {
  test("go on as one, under the older UUID, and payloads of what was before stay as they were", async () => {
    const [phone, bsuid] = [aPhone(), aBsuid()];
    const { id } = await gateway.createWebhook({
      webhooks: receiver.url,
      transformer: "insights",
      paused: true,
    });
    await say({ phone }, "phone one");
    await say({ bsuid }, "id one");
    const edited = await say({ phone }, "phone two");
    await gateway.postBody(
      fromUser(
        { phone },
        aMessage(
          "edit",
          { original_message_id: edited, message: { type: "text", text: { body: "phone 2" } } },
          { id: anId() },
        ),
      ),
    );
    const [older] = await contactsOf({ phone });
    const [younger] = await contactsOf({ bsuid });
    expect(older!.user_id).not.toBe(younger!.user_id);
    await call("UpdateContact", { user_id: older!.user_id, note: "first", labels: ["a", "b"] });
    await call("UpdateContact", {
      user_id: younger!.user_id,
      note: "second",
      labels: ["b", "c"],
      name: "Ann",
    });
    await say({ phone, bsuid }, "both");
    await say({ bsuid }, "id two");
    await gateway.updateWebhook(id, { paused: false });

    const found = await payloads(5);
    const shown = (content: string) => contents(found.get(content)!.last_messages);
    expect(shown("phone one")).toEqual(["phone one"]);
    expect(shown("id one")).toEqual(["id one"]);
    expect(shown("phone two")).toEqual(["phone two", "phone one"]);
    expect(shown("both")).toEqual(["both", "phone 2", "id one", "phone one"]);
    expect(shown("id two")).toEqual(["id two", "both", "phone 2", "id one", "phone one"]);
    expect(found.get("id one")).toMatchObject({ user_id: younger!.user_id, phone_number: bsuid, note: "" });
    expect(found.get("both")).toMatchObject({
      user_id: older!.user_id,
      phone_number: phone,
      recipient_name: "Ann",
      note: "first\nsecond",
      labels: "a, b, c",
    });
    for (const userId of [older!.user_id, younger!.user_id]) {
      expect((await call("GetContact", { user_id: userId })).contact).toMatchObject({
        user_id: older!.user_id,
        phone: `+${phone}`,
        bsuid,
      });
    }
    const messages = await conversationOf(younger!.user_id);
    expect(contents(messages)).toEqual(["id two", "both", "phone 2", "id one", "phone one"]);
    expect(messages.map(({ is_edited }) => is_edited)).toEqual([false, false, true, false, false]);
  });

  test("are one at once when two processes learn it at the same instant", async () => {
    const other = await startTestGateway({ databaseUrl: gateway.databaseUrl });
    try {
      for (let round = 0; round < 10; round++) {
        const [phone, bsuid] = [aPhone(), aBsuid()];
        const senders: Sender[] = [
          { phone },
          { bsuid },
          { phone, bsuid },
          { bsuid },
          { phone, bsuid },
          { phone },
        ];
        const statuses = await Promise.all(
          senders.map((sender, index) =>
            (index % 2 === 0 ? gateway : other).postBody(
              fromUser(sender, aTextMessage({ id: anId(), body: String(index) })),
            ),
          ),
        );
        expect(statuses).toEqual(senders.map(() => 200));
        const found = [...(await contactsOf({ phone })), ...(await contactsOf({ bsuid }))];
        expect(new Set(found.map(({ user_id }) => user_id)).size).toBe(1);
        const shown = contents(await conversationOf(found[0]!.user_id));
        expect(shown.toSorted()).toEqual(["0", "1", "2", "3", "4", "5"]);
      }
    } finally {
      await other.close();
    }
  });
});

test("nothing is lost or doubled while two processes join, move and recycle the same few names", async () => {
  const own = await startTestGateway();
  const other = await startTestGateway({ databaseUrl: own.databaseUrl });
  try {
    const [phones, bsuids] = [[1, 2, 3, 4].map(aPhone), [1, 2, 3].map(aBsuid)];
    const statuses: number[] = [];
    for (let round = 0; round < 20; round++) {
      const posts = Array.from({ length: 16 }, (_, index) => {
        const turn = round * 16 + index;
        const [phone, bsuid] = [phones[turn % 4]!, bsuids[(turn * 5 + round) % 3]!];
        const sender = [{ phone }, { bsuid }, { phone, bsuid }][(turn + round) % 3]!;
        const notice = {
          type: "user_changed_number",
          wa_id: phones[(turn + 1 + (round % 3)) % 4],
          body: "…",
        };
        const message =
          turn % 8 === 7
            ? fromUser({ phone }, aMessage("system", notice, { id: `wamid.s${turn}` }))
            : fromUser(sender, aTextMessage({ id: `wamid.s${turn}` }));
        return (index % 2 === 0 ? own : other).postBody(message);
      });
      statuses.push(...(await Promise.all(posts)));
    }
    expect(statuses).toEqual(statuses.map(() => 200));
    const [numbered] = await queryRows(own.databaseUrl)(
      `SELECT count(*)::int AS messages, count(DISTINCT m.wamid)::int AS distinct,
         (SELECT count(*)::int FROM conversation WHERE merged_into IS NOT NULL) > 0 AS has_merged,
         (SELECT sum(last_sequence)::int FROM conversation WHERE merged_into IS NULL) AS last
       FROM message m JOIN conversation v ON v.id = m.conversation_id AND v.merged_into IS NULL`,
    );
    // Every eighth is a notice.
    expect(numbered).toEqual({ messages: 280, distinct: 280, has_merged: true, last: 280 });
  } finally {
    await other.close();
    await own.close();
  }
});

describe("a user who goes by another name", () => {
  const notice = (sender: Sender, system: Json) =>
    fromUser(sender, aMessage("system", system, { id: anId() }));

  test("keeps the contact when WhatsApp tells of a new number, in its older and newer words", async () => {
    for (const key of ["wa_id", "new_wa_id"]) {
      const [phone, next, bsuid, nextId] = [aPhone(), aPhone(), aBsuid(), aBsuid()];
      await say({ phone, bsuid }, "before");
      const [contact] = await contactsOf({ phone });
      await gateway.postBody(notice({ phone }, { type: "user_changed_number", [key]: next, body: "…" }));
      await say({ phone: next, bsuid: nextId }, "after");
      expect(await contactsOf({ phone })).toEqual([]);
      const [moved] = await contactsOf({ phone: next });
      expect(moved).toMatchObject({ user_id: contact!.user_id, bsuid: nextId });
      expect(contents(await conversationOf(contact!.user_id))).toEqual(["after", "before"]);
    }
  });

  test("keeps the contact when WhatsApp tells of a new business-scoped id", async () => {
    for (const field of ["system", "user_id_update"]) {
      const [phone, bsuid, nextId] = [aPhone(), aBsuid(), aBsuid()];
      await say({ phone, bsuid }, "before");
      const [contact] = await contactsOf({ phone });
      const system = { type: "user_changed_user_id", user_id: nextId, previous_user_id: bsuid, body: "…" };
      const update = { wa_id: phone, user_id: { previous: bsuid, current: nextId }, timestamp: "1772712001" };
      const body =
        field === "system"
          ? anEnvelope([
              aChange({ messages: [{ ...aMessage("system", system, { id: anId() }), from: undefined }] }),
            ])
          : anEnvelope([aChange({ user_id_update: [update] }, field)]);
      await gateway.postBody(body);
      expect(await contactsOf({ bsuid })).toEqual([]);
      expect((await contactsOf({ bsuid: nextId }))[0]).toMatchObject({
        user_id: contact!.user_id,
        phone: `+${phone}`,
      });
    }
  });

  test("is followed when a known id shows up with a new phone, and is nobody else's when a phone is recycled", async () => {
    const [phone, next, bsuid, stranger] = [aPhone(), aPhone(), aBsuid(), aBsuid()];
    await say({ phone, bsuid }, "one");
    const [contact] = await contactsOf({ phone });
    await say({ phone: next, bsuid }, "two");
    expect((await contactsOf({ phone: next }))[0]!.user_id).toBe(contact!.user_id);
    await say({ phone: next, bsuid: stranger }, "hello");
    const [owner] = await contactsOf({ phone: next });
    expect(owner!.user_id).not.toBe(contact!.user_id);
    expect(contents(await conversationOf(owner!.user_id))).toEqual(["hello"]);
    expect(contents(await conversationOf(contact!.user_id))).toEqual(["two", "one"]);
  });
});

describe("an imported history", () => {
  const chunk = (threads: Json[], order = 1) =>
    anEnvelope([
      aChange(
        { history: [{ metadata: { phase: 0, chunk_order: order, progress: 50 }, threads }] },
        "history",
      ),
    ]);
  const old = (phone: string, second: number, body: string, isBot = false): Json => ({
    from: isBot ? business.phone : phone,
    id: `wamid.old-${phone}-${second}`,
    timestamp: String(baseTimestamp - 1_000_000 + second),
    type: "text",
    text: { body },
    history_context: { status: "READ" },
  });

  test("joins the conversation before what is there, by its times, and changes no earlier payload", async () => {
    const phone = aPhone();
    const { id } = await gateway.createWebhook({
      webhooks: receiver.url,
      transformer: "insights",
      outgoing: true,
      paused: true,
    });
    await say({ phone }, "new one");
    await gateway.postBody(
      chunk([{ id: phone, messages: [old(phone, 30, "c"), old(phone, 40, "d", true)] }], 2),
    );
    await say({ phone }, "new two");
    const placeholder = { ...old(phone, 20, ""), type: "media_placeholder", text: undefined };
    const older = [{ id: phone, messages: [old(phone, 10, "a", true), placeholder, old(phone, 30, "c")] }];
    await gateway.postBody(chunk(older, 1));
    await gateway.postBody(chunk(older, 1));
    await say({ phone }, "new three");
    const file = { ...placeholder, type: "image", image: { id: "1", mime_type: "image/png", caption: "b" } };
    await gateway.postBody(anEnvelope([aChange({ messages: [file] }, "history")]));
    await say({ phone }, "new four");
    // What was imported comes as a message of its own, too.
    const again = { ...old(phone, 30, "c"), history_context: undefined };
    await gateway.postBody(fromUser({ phone }, again));
    await gateway.updateWebhook(id, { paused: false });

    const found = await payloads(5);
    const shown = (content: string) => contents(found.get(content)!.last_messages);
    expect(shown("new one")).toEqual(["new one"]);
    expect(found.get("new one")).toMatchObject({ last_message_of_bot: "", bot_last_message_time: 0 });
    expect(shown("new two")).toEqual(["new two", "new one", "d", "c"]);
    expect(found.get("new two")).toMatchObject({
      last_message_of_bot: "d",
      bot_last_message_time: baseTimestamp - 1_000_000 + 40,
    });
    expect(shown("new three")).toEqual(["new three", "new two", "new one", "d", "c", "", "a"]);
    expect(shown("new four")).toEqual(["new four", "new three", "new two", "new one", "d", "c", "b", "a"]);
    expect(shown("c")).toEqual(["c", "new four", "new three", "new two", "new one", "d", "b", "a"]);
    expect(receiver.requests).toHaveLength(5);
    const [contact] = await contactsOf({ phone });
    const messages = await conversationOf(contact!.user_id);
    expect(contents(messages)).toEqual(shown("c"));
    expect(messages.at(-2)).toMatchObject({ content_type: "image", is_imported: true, is_edited: false });
    expect(messages.at(-1)).toMatchObject({ sender: "bot", is_imported: true });
  });

  test("of some 3 MB is taken in within seconds", async () => {
    const threads = Array.from({ length: 200 }, () => {
      const phone = aPhone();
      return {
        id: phone,
        messages: Array.from({ length: 60 }, (_, second) => old(phone, second, "x".repeat(60))),
      };
    });
    const body = Buffer.from(JSON.stringify(chunk(threads)));
    expect(body.length).toBeGreaterThan(2_500_000);
    const startedMs = Date.now();
    expect(await gateway.postBody(body)).toBe(200);
    expect(Date.now() - startedMs).toBeLessThan(10_000);
    const [contact] = await contactsOf({ phone: threads[7]!.id });
    expect(await conversationOf(contact!.user_id, { page_size: 500 })).toHaveLength(60);
  });
});

test("a deleted contact leaves nothing of itself, and what was pending is canceled", async () => {
  const [phone, bsuid, bystander] = [aPhone(), aBsuid(), aPhone()];
  const done = await gateway.createWebhook({ webhooks: receiver.url, transformer: "insights" });
  const secret = `secret of ${phone}`;
  await say({ phone, bsuid, name: `Name ${phone}` }, secret);
  await say({ phone: bystander }, "stays");
  await gateway.waitForStates(2, ["delivered"], { webhook_id: done.id });
  const held = await gateway.createWebhook({
    webhooks: `${receiver.url}/held`,
    transformer: "raw",
    outgoing: true,
    paused: true,
  });
  await say({ phone, bsuid }, `${secret} again`);
  await gateway.postBody(
    anEnvelope([
      aChange({
        statuses: [{ id: "wamid.s1", status: "read", timestamp: "1772712000", recipient_id: phone }],
        contacts: [aContact({ wa_id: phone, user_id: bsuid })],
      }),
    ]),
  );
  await gateway.postBody(
    fromUser({ phone, bsuid }, aMessage("image", { id: "77", mime_type: "x" }, { id: anId() })),
  );
  await gateway.waitForStates(4, ["delivered"], { webhook_id: done.id });
  const [contact] = await contactsOf({ phone });
  await call("UpdateContact", { user_id: contact!.user_id, note: `note on ${phone}` });

  const erased = await call("DeleteContact", { user_id: contact!.user_id });
  expect(erased).toMatchObject({
    deleted_message_count: 3,
    erased_event_count: 4,
    canceled_delivery_count: 3,
  });
  expect((await gateway.call("ContactService/GetContact", { user_id: contact!.user_id })).status).toBe(404);
  for (const table of [
    "contact",
    "conversation",
    "message",
    "message_revision",
    "media_link",
    "event",
    "delivery",
    "attempt",
    "audit_entry",
    "outgoing_message",
  ]) {
    const all = await rows(`SELECT t::text AS line FROM ${table} t`);
    for (const needle of [
      phone,
      bsuid,
      Buffer.from(phone).toString("hex"),
      Buffer.from(bsuid).toString("hex"),
    ]) {
      expect(
        all.filter(({ line }) => line.includes(needle)),
        `${needle} in ${table}`,
      ).toEqual([]);
    }
  }
  const pending = await gateway.deliveries({ webhook_id: held.id });
  expect(pending.map(({ state, reason }) => [state, reason])).toEqual(
    Array(3).fill(["canceled", "contact_deleted"]),
  );
  const { status, body } = await gateway.call("DeliveryService/RetryDelivery", { id: pending[0]!.id });
  expect([status, body.code]).toEqual([400, "failed_precondition"]);
  const [other] = await contactsOf({ phone: bystander });
  expect(contents(await conversationOf(other!.user_id))).toEqual(["stays"]);
  await say({ phone, bsuid }, "hello again");
  const [fresh] = await contactsOf({ phone });
  expect(fresh!.user_id).not.toBe(contact!.user_id);
  expect(contents(await conversationOf(fresh!.user_id))).toEqual(["hello again"]);
});

test("an attempt that is in flight while its contact is deleted leaves nothing of payload and answer", async () => {
  const phone = aPhone();
  const slow = await startReceiver({ answer: { body: `thanks, ${phone}`, delayMs: 700 } });
  try {
    const { id } = await gateway.createWebhook({ webhooks: slow.url, transformer: "insights" });
    await say({ phone }, `hello from ${phone}`);
    await slow.waitForRequests(1);
    const [contact] = await contactsOf({ phone });
    const erased = await call("DeleteContact", { user_id: contact!.user_id });
    expect(erased).toMatchObject({ erased_delivery_count: 1, canceled_delivery_count: 1 });
    const [delivery] = await gateway.waitForStates(1, ["delivered"], { webhook_id: id });
    for (const table of ["delivery", "attempt", "event"]) {
      const lines = await rows(`SELECT t::text AS line FROM ${table} t`);
      const needles = [phone, Buffer.from(phone).toString("hex")];
      expect(lines.filter(({ line }) => needles.some((needle) => line.includes(needle)))).toEqual([]);
    }
    const retried = await gateway.call("DeliveryService/RetryDelivery", { id: delivery!.id });
    expect([retried.status, retried.body.code]).toEqual([400, "failed_precondition"]);
  } finally {
    await slow.close();
  }
});
