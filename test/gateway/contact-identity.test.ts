import { describe, expect, test } from "vitest";
import { startTestGateway } from "../helpers/gateway.ts";
import { queryRows } from "../helpers/query-rows.ts";
import {
  aChange,
  aContact,
  aMessage,
  anEnvelope,
  aReaction,
  aStatus,
  aTextMessage,
  baseTimestamp,
  type Json,
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
  payloads,
  receiver,
  type Sender,
  say,
  useConversations,
} from "./conversing.ts";

useConversations();

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

  const bothNamed = (phone: string, bsuid: string): [string, Json][] => [
    [
      "a status",
      anEnvelope([
        aChange({ statuses: [aStatus({ id: anId(), recipient_id: phone, recipient_user_id: bsuid })] }),
      ]),
    ],
    [
      "a status with a contact beside it",
      anEnvelope([
        aChange({
          contacts: [aContact({ wa_id: phone, user_id: bsuid })],
          statuses: [aStatus({ id: anId(), recipient_id: phone })],
        }),
      ]),
    ],
    ["a reaction", fromUser({ phone, bsuid }, aReaction({ id: anId() }))],
    [
      "a revoke",
      fromUser(
        { phone, bsuid },
        aMessage("revoke", { original_message_id: "wamid.unknown" }, { id: anId() }),
      ),
    ],
  ];

  test("are one once any event names both, be it no message; and such an event makes no contact", async () => {
    for (let kind = 0; kind < bothNamed("", "").length; kind++) {
      const [phone, bsuid] = [aPhone(), aBsuid()];
      const post = async (): Promise<string> => {
        const [name, body] = bothNamed(phone, bsuid)[kind]!;
        expect(await gateway.postBody(body)).toBe(200);
        return name;
      };
      const name = await post();
      expect(await contactsOf({ phone }), name).toEqual([]);
      await say({ phone }, "by phone");
      await post();
      const [paired] = await contactsOf({ phone });
      expect(paired, name).toMatchObject({ phone: `+${phone}`, bsuid });
      await say({ bsuid }, "by id");
      expect(contents(await conversationOf(paired!.user_id)), name).toEqual(["by id", "by phone"]);

      const [otherPhone, otherId] = [aPhone(), aBsuid()];
      await say({ bsuid: otherId }, "by id");
      await say({ phone: otherPhone }, "by phone");
      const [older] = await contactsOf({ bsuid: otherId });
      await gateway.postBody(bothNamed(otherPhone, otherId)[kind]![1]);
      expect((await contactsOf({ phone: otherPhone }))[0], name).toMatchObject({
        user_id: older!.user_id,
        bsuid: otherId,
      });
    }
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

  test("has the older UUID when two turn out to be one, whichever of the names is older", async () => {
    const [phone, next] = [aPhone(), aPhone()];
    await say({ phone: next }, "by the new number");
    await say({ phone }, "by the former number");
    const [older] = await contactsOf({ phone: next });
    const [younger] = await contactsOf({ phone });
    await gateway.postBody(notice({ phone }, { type: "user_changed_number", wa_id: next, body: "…" }));
    const [moved] = await contactsOf({ phone: next });
    expect(moved!.user_id).toBe(older!.user_id);
    expect((await call("GetContact", { user_id: younger!.user_id })).contact).toEqual(moved);
    expect(contents(await conversationOf(older!.user_id))).toEqual([
      "by the former number",
      "by the new number",
    ]);
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

test("the address book of the business's phone makes no contact, and names none: its entries are events of their own", async () => {
  const phone = aPhone();
  const sync = (second: number) => {
    const contact = { full_name: "Boss of Ann", first_name: "Boss", phone_number: phone };
    const metadata = { timestamp: String(baseTimestamp + second) };
    const entry = { type: "contact", contact, action: "add", metadata };
    return gateway.postBody(anEnvelope([aChange({ state_sync: [entry] }, "smb_app_state_sync")]));
  };
  await gateway.createWebhook({
    webhooks: receiver.url,
    transformer: "raw",
    event_types: ["whatsapp.smb_app_state_sync"],
  });
  await sync(1);
  expect(await contactsOf({ phone })).toEqual([]);
  await say({ phone, name: "Ann" }, "hello");
  await sync(2);
  const [contact] = await contactsOf({ phone });
  expect(contact).toMatchObject({ profile_name: "Ann" });
  expect(contact).not.toHaveProperty("name");
  expect((await receiver.waitForRequests(2)).map(({ body }) => body.toString())).toEqual([
    expect.stringContaining("Boss of Ann"),
    expect.stringContaining("Boss of Ann"),
  ]);
});
