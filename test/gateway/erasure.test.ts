import { randomFillSync } from "node:crypto";
import pg from "pg";
import { expect, test } from "vitest";
import { createIdSource, firstIdAt } from "../../server/domain/ids.ts";
import { startTestGateway } from "../helpers/gateway.ts";
import { startReceiver } from "../helpers/receiver.ts";
import { waitFor } from "../helpers/wait.ts";
import {
  aChange,
  aContact,
  aMessage,
  anAccountChange,
  anEnvelope,
  aStatus,
  aTextMessage,
  baseTimestamp,
  toBytes,
} from "../helpers/whatsapp-bodies.ts";
import {
  aBsuid,
  anId,
  aPhone,
  call,
  contactsOf,
  contents,
  conversationOf,
  fromUser,
  gateway,
  receiver,
  rows,
  type Sender,
  say,
  useConversations,
} from "./conversing.ts";

useConversations();

const ids = createIdSource(Date.now, randomFillSync);
const newId = () => ids.next();

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

test("a day of the log that retention drops meanwhile is in the way of no erasure", async () => {
  const phone = aPhone();
  await say({ phone }, "hello");
  const [contact] = await contactsOf({ phone });
  const [today] = await rows("SELECT tableoid::regclass::text AS name FROM event ORDER BY id DESC LIMIT 1");
  await rows("CREATE TABLE event_2098_01_01 (LIKE event INCLUDING ALL)");
  await rows(
    `ALTER TABLE event ATTACH PARTITION event_2098_01_01
     FOR VALUES FROM ('${firstIdAt(Date.UTC(2098, 0, 1))}') TO ('${firstIdAt(Date.UTC(2098, 0, 2))}')`,
  );
  const holder = new pg.Client({ connectionString: gateway.databaseUrl });
  await holder.connect();
  try {
    await holder.query("BEGIN");
    await holder.query(`LOCK TABLE ${today!.name} IN ACCESS EXCLUSIVE MODE`);
    const erasing = gateway.call("ContactService/DeleteContact", { user_id: contact!.user_id });
    await waitFor(
      "erasure that has come to today",
      () =>
        rows("SELECT FROM pg_locks WHERE NOT granted AND mode = 'RowShareLock' AND relation = $1::regclass", [
          today!.name,
        ]),
      (waiting) => waiting.length > 0,
    );
    await rows("ALTER TABLE event DETACH PARTITION event_2098_01_01 CONCURRENTLY");
    await rows("DROP TABLE event_2098_01_01");
    await holder.query("COMMIT");
    const { status, body } = await erasing;
    expect([status, body.message]).toEqual([200, undefined]);
    expect(body).toMatchObject({ deleted_message_count: 1, erased_event_count: 1 });
  } finally {
    await holder.end();
  }
});

test("what names a contact by a number that it had before goes too, and what names the next owner stays", async () => {
  const [former, current, shared] = [aPhone(), aPhone(), aPhone()];
  const status = (phone: string) =>
    gateway.postBody(anEnvelope([aChange({ statuses: [aStatus({ id: anId(), recipient_id: phone })] })]));
  const outgoing = (phone: string) =>
    rows(
      `INSERT INTO outgoing_message (id, tenant_id, client_id, number_id, phone, type, content, state, due_at,
         attempt_count, reason, created_at, settled_at)
       SELECT $1, c.tenant_id, c.id, n.id, $2, 'text', '{}', 'failed', now(), 1, 'refused', now(), now()
       FROM phone_number n JOIN client c ON c.id = n.client_id LIMIT 1`,
      [newId(), phone],
    );
  await say({ phone: former, name: "Zoë Former" }, `one of ${former}`);
  const [contact] = await contactsOf({ phone: former });
  await status(former);
  await gateway.postBody(
    fromUser({ phone: former }, aMessage("reaction", { message_id: "wamid.x", emoji: "👍" }, { id: anId() })),
  );
  await outgoing(former);
  await rows("INSERT INTO sending_pair (number_id, recipient) SELECT id, $1 FROM phone_number LIMIT 1", [
    former,
  ]);
  const notice = { type: "user_changed_number", wa_id: current, body: "…" };
  await gateway.postBody(fromUser({ phone: former }, aMessage("system", notice, { id: anId() })));
  await status(former);
  await say({ phone: current }, "two");
  await status(current);
  await outgoing(current);
  const erased = await call("DeleteContact", { user_id: contact!.user_id });
  expect(erased).toMatchObject({ deleted_message_count: 2, erased_event_count: 7 });
  for (const phone of [former, current]) expect(await tablesThatName(phone)).toEqual([]);

  await say({ phone: shared }, "mine");
  const [first] = await contactsOf({ phone: shared });
  await status(shared);
  await outgoing(shared);
  const next = { ...notice, wa_id: aPhone() };
  await gateway.postBody(fromUser({ phone: shared }, aMessage("system", next, { id: anId() })));
  await say({ phone: shared }, "now mine");
  const [second] = await contactsOf({ phone: shared });
  expect(second!.user_id).not.toBe(first!.user_id);
  await status(shared);
  await outgoing(shared);
  // The message, the status and the notice that are the first owner's.
  expect(await call("DeleteContact", { user_id: first!.user_id })).toMatchObject({ erased_event_count: 3 });
  expect(contents(await conversationOf(second!.user_id))).toEqual(["now mine"]);
  expect(await rows("SELECT FROM outgoing_message WHERE phone = $1", [shared])).toHaveLength(1);
  expect(await call("DeleteContact", { user_id: second!.user_id })).toMatchObject({ erased_event_count: 2 });
  expect(await tablesThatName(shared)).toEqual([]);
});

test("what names it in changes of an account that several clients share goes too", async () => {
  const phone = aPhone();
  await say({ phone }, "hello");
  const metadata = { phone_number_id: "620000000000777", display_phone_number: "15557770777" };
  await gateway.postBody(
    anEnvelope([aChange({ metadata, messages: [aMessage("text", { body: "x" }, { from: aPhone() })] })]),
  );
  const preference = {
    wa_id: phone,
    category: "marketing_messages",
    value: "stop",
    timestamp: baseTimestamp,
  };
  await gateway.postBody(
    anEnvelope([anAccountChange("user_preferences", { user_preferences: [preference] })]),
  );
  const [contact] = await contactsOf({ phone });
  const [event] = await rows("SELECT client_id FROM event WHERE type = 'whatsapp.user_preferences'");
  expect(event).toEqual({ client_id: null });
  await call("DeleteContact", { user_id: contact!.user_id });
  expect(await tablesThatName(phone)).toEqual([]);
});

test("kept bodies that made no sense and name it are emptied; those that name others stay", async () => {
  const [phone, bsuid] = [aPhone(), aBsuid()];
  const name = `Zoë "${phone.slice(-4)}"`;
  await say({ phone, bsuid, name }, "hello");
  const gone = [
    `{"object":"whatsapp_business_account","entry":[{"changes":[{"value":{"messages":[{"from":"${phone}","te`,
    `{"object":"page","who":"+${phone}"}`,
    `{"object":"page","number":${phone}}`,
    `{"object":"page","user_id":"${bsuid}"}`,
    toBytes({ object: "page", profile: { name } }),
    Buffer.concat([Buffer.from([0, 0xff, 0xc3]), Buffer.from(`"${phone}"`)]),
  ];
  const kept = [
    `{"object":"page","number":"9${phone}"}`,
    `{"object":"page","user_id":"${bsuid}9"}`,
    `{"object":"page","text":"${name.slice(0, 2)}"}`,
  ];
  await gateway.call("TenantService/CreateTenant", { name: "elsewhere" });
  await rows(
    `WITH made AS (
       INSERT INTO client (tenant_id, client_ref, version, created_at)
       SELECT id, 'foreign', 1, now() FROM tenant WHERE name = 'elsewhere' RETURNING id)
     INSERT INTO phone_number (phone_number_id, client_id, version, created_at)
     SELECT '620000000000888', id, 1, now() FROM made`,
  );
  kept.push(`{"object":"page","metadata":{"phone_number_id":"620000000000888"},"from":"${phone}"}`);
  await rows("DELETE FROM malformed_body");
  for (const body of [...gone, ...kept]) {
    expect(await gateway.postBody(typeof body === "string" ? Buffer.from(body) : body)).toBe(200);
  }
  const [contact] = await contactsOf({ phone });
  await call("DeleteContact", { user_id: contact!.user_id });
  const found = await rows("SELECT encode(body, 'escape') AS body FROM malformed_body ORDER BY id");
  expect(found.map(({ body }) => body)).toEqual([...gone.map(() => '{"erased":true}'), ...kept]);
});

test("what is told of a failed delivery to it goes too, and what is not told yet is told without words of the payload", async () => {
  const phone = aPhone();
  const { id } = await gateway.createWebhook({ webhooks: receiver.url, transformer: "raw" });
  await gateway.createWebhook({
    webhooks: `${receiver.url}/told`,
    transformer: "raw",
    event_types: ["posthorn.delivery.failed"],
  });
  await say({ phone }, "hello");
  const [delivery] = await gateway.waitForStates(1, ["delivered"], { webhook_id: id });
  const note = (deliveryId: string, isHeld: boolean) =>
    rows(
      `INSERT INTO gateway_notice (type, tenant_id, webhook_id, occurred_at, details, leased_until)
       SELECT 'posthorn.delivery.failed', tenant_id, id, now(), $2, CASE WHEN $3 THEN 'infinity' ELSE '-infinity' END::timestamptz
       FROM webhook WHERE id = $1`,
      [
        id,
        {
          deliveryId,
          eventId: delivery!.event_id,
          eventType: "message.received",
          reason: "transformer_error",
          reasonDetail: `Error: cannot parse +${phone}`,
          attemptCount: 0,
        },
        isHeld,
      ],
    );
  await note(newId(), false);
  await note(newId(), true);
  const told = () => receiver.requests.filter(({ path }) => path.endsWith("/told"));
  await waitFor("the failure to be told", told, (found) => found.length === 1, 20_000);
  await gateway.waitForStates(1, ["delivered"], { event_type: "posthorn.delivery.failed" });
  const [contact] = await contactsOf({ phone });
  await call("DeleteContact", { user_id: contact!.user_id });
  expect(await tablesThatName(phone)).toEqual([]);
  expect(await rows("SELECT FROM gateway_notice")).toHaveLength(1);
});

test("a contact that writes through two processes while it is deleted is gone after the last deletion", async () => {
  const other = await startTestGateway({ databaseUrl: gateway.databaseUrl });
  try {
    const [phone, bsuid] = [aPhone(), aBsuid()];
    await gateway.createWebhook({ webhooks: receiver.url, transformer: "insights", outgoing: true });
    const senders: Sender[] = [{ phone }, { bsuid }, { phone, bsuid }];
    const erase = async () => {
      for (const filter of [{ phone }, { bsuid }]) {
        for (const { user_id } of await contactsOf(filter)) {
          const { status, body } = await gateway.call("ContactService/DeleteContact", { user_id });
          expect([200, 404], JSON.stringify(body)).toContain(status);
        }
      }
    };
    for (let round = 0; round < 6; round++) {
      const posts = Array.from({ length: 12 }, (_, index) => {
        const sender = senders[(index + round) % 3]!;
        const status = aStatus({ id: anId(), recipient_id: sender.phone, recipient_user_id: sender.bsuid });
        const body =
          index % 4 === 3
            ? anEnvelope([aChange({ statuses: [status] })])
            : fromUser(sender, aTextMessage({ id: anId() }));
        return (index % 2 === 0 ? gateway : other).postBody(body);
      });
      const [statuses] = await Promise.all([Promise.all(posts), erase(), erase()]);
      expect(statuses).toEqual(posts.map(() => 200));
    }
    await say({ phone, bsuid }, "both names, once more");
    await erase();
    await waitFor(
      "end of all deliveries",
      () => gateway.deliveries(),
      (found) => found.every(({ state }) => !["pending", "delivering"].includes(state)),
    );
    expect(await tablesThatName(phone)).toEqual([]);
    expect(await tablesThatName(bsuid)).toEqual([]);
  } finally {
    await other.close();
  }
});

/** Tables that hold the text anywhere, in columns or in stored bytes. */
async function tablesThatName(text: string): Promise<string[]> {
  const names = await rows(
    `SELECT c.relname AS name FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
     WHERE s.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition`,
  );
  const found: string[] = [];
  for (const { name } of names) {
    const lines = await rows(
      `SELECT FROM ${name} t WHERE strpos(t::text, $1) > 0 OR strpos(t::text, encode(convert_to($1, 'UTF8'), 'hex')) > 0`,
      [text],
    );
    if (lines.length > 0) found.push(name);
  }
  return found;
}
