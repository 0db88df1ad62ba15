import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { aChange, anEnvelope, aTextMessage, type Json } from "../helpers/whatsapp-bodies.ts";
import { asTenant, type CreatedKey, fieldsAtFault, openRpcGateway, type RpcGateway } from "./gateway.ts";

let gateway: RpcGateway;
let key: CreatedKey;
beforeAll(async () => {
  gateway = await openRpcGateway({ tenants: ["acme", "other"] });
  await gateway.addClient("mine", ["620000000000011", "620000000000012"], "acme");
  await gateway.addClient("theirs", ["620000000000022"], "acme");
  key = await gateway.createKey({}, "acme");
});
afterAll(() => gateway.close());

let messageCount = 0;
async function say(number: string, from: string, fields: Json = {}): Promise<void> {
  const id = `wamid.rpc-${++messageCount}`;
  const value = {
    metadata: { phone_number_id: number, display_phone_number: "15557770100" },
    messages: [aTextMessage({ id, body: id, from, ...fields })],
  };
  const bodies = [JSON.stringify(anEnvelope([aChange(value)]))];
  const { status } = await gateway.call("EventService/PublishEvents", { bodies }, key.headers);
  expect(status).toBe(200);
}
const call = (method: string, body: unknown, headers = key.headers) =>
  gateway.call(`ContactService/${method}`, body, headers);
const list = async (filter: Json, headers = key.headers): Promise<Json[]> =>
  (await call("ListContacts", filter, headers)).body.contacts;
async function aContactOf(number: string, phone: string): Promise<Json> {
  await say(number, phone);
  const [contact] = await list({ phone });
  return contact!;
}

describe("a contact", () => {
  test("shows all that is known of it, with zero values present and unknown names absent", async () => {
    const contact = await aContactOf("620000000000011", "15550000001");
    expect(contact).toEqual({
      user_id: expect.stringMatching(/^[0-9a-f-]{36}$/),
      client_ref: "mine",
      phone: "+15550000001",
      note: "",
      note_automation: "",
      labels: [],
      phone_number_ids: ["620000000000011"],
      created_at: gateway.clock.at.getTime(),
      updated_at: "2026-03-05T12:00:00.123Z",
    });
    expect((await call("GetContact", { user_id: contact.user_id })).body.contact).toEqual(contact);
    const { headers } = await gateway.get(
      "ContactService/GetContact",
      { user_id: contact.user_id },
      key.headers,
    );
    expect(headers.get("Cache-Control")).toBe("private, no-store");
  });

  test("keeps what a change leaves out, and loses what update_mask names", async () => {
    const { user_id } = await aContactOf("620000000000011", "15550000002");
    const all = { name: "Ann", note: "n", note_automation: "a", labels: ["x y", "z"] };
    expect((await call("UpdateContact", { user_id, ...all })).body.contact).toMatchObject(all);
    const { body } = await call("UpdateContact", { user_id, note: "new" });
    expect(body.contact).toMatchObject({ ...all, note: "new" });
    const cleared = await call("UpdateContact", { user_id, update_mask: "name,noteAutomation,labels" });
    expect(cleared.body.contact).toMatchObject({ note: "new", note_automation: "", labels: [] });
    expect(cleared.body.contact).not.toHaveProperty("name");
  });

  test.each<[string, Json, string]>([
    ["a label with a comma", { labels: ["a,b"] }, "labels[0]"],
    ["an empty label", { labels: [""] }, "labels[0]"],
    ["a label twice", { labels: ["a", "a"] }, "labels"],
    ["an empty name", { name: "" }, "name"],
    ["a note that is too long", { note: "x".repeat(10_001) }, "note"],
    ["a mask that names another field", { update_mask: "phone" }, "update_mask"],
    ["an id that is none", { user_id: "1" }, "user_id"],
  ])("refuses %s", async (_, fields, field) => {
    const answer = await call("UpdateContact", {
      user_id: "0199c0de-0000-7000-8000-000000000001",
      ...fields,
    });
    expect([answer.status, fieldsAtFault(answer)]).toEqual([400, [field]]);
  });

  test("is noted in the audit when it changes or goes, without what is personal", async () => {
    const { user_id } = await aContactOf("620000000000011", "15550000003");
    await call("UpdateContact", { user_id, name: "Ann Personal", labels: ["secret"], update_mask: "note" });
    await call("DeleteContact", { user_id });
    const { body } = await gateway.call("AuditService/ListAuditEntries", { page_size: 2 }, asTenant("acme"));
    expect(body.entries).toMatchObject([
      { action: "contact.deleted", actor: `key:${key.id}`, subject_id: user_id, changes: { messages: 1 } },
      {
        action: "contact.updated",
        actor: `key:${key.id}`,
        subject_id: user_id,
        changes: { name: "set", note: "removed", labels: "set" },
      },
    ]);
  });
});

describe("the list of contacts", () => {
  test("is filtered and comes in pages, newest first", async () => {
    const phones = ["15550001001", "15550001002", "15550001003"];
    for (const phone of phones) await aContactOf("620000000000022", phone);
    const [, second] = phones;
    await say("620000000000022", second!, { from_user_id: "US.1002" });
    const [contact] = await list({ bsuid: "US.1002" });
    await call("UpdateContact", { user_id: contact!.user_id, labels: ['odd "one"', "b"] });
    const phonesOf = (contacts: Json[]) => contacts.map(({ phone }) => phone);
    expect(phonesOf(await list({ client_ref: "theirs" }))).toEqual(
      phones.toReversed().map((one) => `+${one}`),
    );
    expect(phonesOf(await list({ label: 'odd "one"' }))).toEqual([`+${second}`]);
    expect(phonesOf(await list({ phone: "+1 (555) 000-1002" }))).toEqual([`+${second}`]);
    expect(await list({ client_ref: "mine", phone: second! })).toEqual([]);
    expect(await list({ client_ref: "nobody" })).toEqual([]);

    const filter = { client_ref: "theirs", page_size: 2 };
    const first = (await call("ListContacts", filter)).body;
    const next = (await call("ListContacts", { ...filter, page_token: first.next_page_token })).body;
    expect(phonesOf([...first.contacts, ...next.contacts])).toEqual(
      phones.toReversed().map((one) => `+${one}`),
    );
    expect(next.next_page_token).toBe("");
    const stolen = await call("ListContacts", { client_ref: "mine", page_token: first.next_page_token });
    expect(fieldsAtFault(stolen)).toEqual(["page_token"]);
  });
});

describe("a conversation", () => {
  test("comes in pages, newest first", async () => {
    const { user_id } = await aContactOf("620000000000011", "15550002001");
    for (let index = 0; index < 4; index++) await say("620000000000011", "15550002001");
    const contents: string[] = [];
    for (let page_token = ""; ; ) {
      const { body } = await call("GetConversation", { user_id, page_size: 2, page_token });
      expect(body.phone_number_id).toBe("620000000000011");
      contents.push(...body.messages.map(({ content }: Json) => content));
      page_token = body.next_page_token;
      if (page_token === "") break;
    }
    const last = messageCount;
    expect(contents).toEqual([0, 1, 2, 3, 4].map((back) => `wamid.rpc-${last - back}`));
  });

  test("tells of each message who, what, when, and what became of it", async () => {
    const { user_id } = await aContactOf("620000000000011", "15550002002");
    const revoked = `wamid.rpc-${messageCount}`;
    const revoke = { original_message_id: revoked };
    await say("620000000000011", "15550002002");
    await say("620000000000011", "15550002002", { type: "revoke", revoke, text: undefined });
    const { messages } = (await call("GetConversation", { user_id })).body;
    expect(messages).toEqual([
      {
        sender: "user",
        content: `wamid.rpc-${messageCount - 1}`,
        content_type: "text",
        sent_at: "2026-03-05T12:00:00Z",
        message_id: `wamid.rpc-${messageCount - 1}`,
        event_id: expect.stringMatching(/^[0-9a-f-]{36}$/),
        is_edited: false,
        is_revoked: false,
        is_imported: false,
      },
      expect.objectContaining({ content: "", message_id: revoked, is_edited: false, is_revoked: true }),
    ]);
  });

  test("is asked for by number where a contact has several", async () => {
    const { user_id } = await aContactOf("620000000000011", "15550002003");
    await say("620000000000012", "15550002003");
    const unclear = await call("GetConversation", { user_id });
    expect([unclear.status, unclear.body.code]).toEqual([400, "failed_precondition"]);
    expect(unclear.body.message).toContain("620000000000011, 620000000000012");
    const { body } = await call("GetConversation", { user_id, phone_number_id: "620000000000012" });
    expect(body.messages).toHaveLength(1);
    const none = await call("GetConversation", { user_id, phone_number_id: "620000000000022" });
    expect(none.status).toBe(404);
  });
});

describe("who may", () => {
  const calls: [string, string, Json][] = [
    ["GetContact", "contacts:read", {}],
    ["GetConversation", "contacts:read", {}],
    ["UpdateContact", "contacts:write", { note: "x" }],
    ["DeleteContact", "contacts:write", {}],
  ];

  test.each(calls)("%s needs the scope %s", async (method, scope, fields) => {
    const { user_id } = await aContactOf("620000000000011", "15550003001");
    const scopes = ["contacts:read", "contacts:write"].filter((one) => one !== scope);
    const { headers } = await gateway.createKey({ scopes }, "acme");
    const answer = await call(method, { user_id, ...fields }, headers);
    expect([answer.status, answer.body.message]).toEqual([403, `the key lacks the scope ${scope}`]);
  });

  test.each(calls)(
    "%s finds no contact of another tenant, or of another client than the key's",
    async (method, _, fields) => {
      const { user_id } = await aContactOf("620000000000022", "15550003002");
      const strangers = [
        (await gateway.createKey({}, "other")).headers,
        (await gateway.createKey({ client_ref: "mine" }, "acme")).headers,
        asTenant("default"),
      ];
      for (const headers of strangers) {
        const answer = await call(method, { user_id, ...fields }, headers);
        expect([answer.status, answer.body.code]).toEqual([404, "not_found"]);
        expect(await list({ phone: "15550003002" }, headers)).toEqual([]);
      }
      const narrowed = await gateway.createKey({ client_ref: "theirs" }, "acme");
      expect((await call(method, { user_id, ...fields }, narrowed.headers)).status).toBe(200);
    },
  );
});
