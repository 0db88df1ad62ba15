import { describe, expect, test } from "vitest";
import { waitFor } from "../helpers/wait.ts";
import { aChange, aMessage, anEcho, anEnvelope, baseTimestamp } from "../helpers/whatsapp-bodies.ts";
import {
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
  say,
  useConversations,
} from "./conversing.ts";

useConversations();

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

describe("edits and revokes", () => {
  const edit = (phone: string, wamid: string, body: string, second: number) =>
    gateway.postBody(
      fromUser(
        { phone },
        aMessage(
          "edit",
          { original_message_id: wamid, message: { type: "text", text: { body } } },
          { id: anId(), timestamp: String(baseTimestamp + second) },
        ),
      ),
    );

  test("show the last edit made, in whatever order they come, in payloads that come after", async () => {
    const phone = aPhone();
    const { id } = await gateway.createWebhook({
      webhooks: receiver.url,
      transformer: "insights",
      paused: true,
    });
    const wamid = await say({ phone }, "first");
    await edit(phone, wamid, "third", 20);
    await say({ phone }, "between");
    await edit(phone, wamid, "second", 10);
    await say({ phone }, "after");
    await gateway.updateWebhook(id, { paused: false });
    const found = await payloads(3);
    const shown = (content: string) => contents(found.get(content)!.last_messages);
    expect(shown("first")).toEqual(["first"]);
    expect(shown("between")).toEqual(["between", "third"]);
    expect(shown("after")).toEqual(["after", "between", "third"]);
  });

  test("show nothing of a revoked message any more, not even when an edit comes late", async () => {
    const phone = aPhone();
    await gateway.createWebhook({ webhooks: receiver.url, transformer: "insights" });
    const wamid = await say({ phone }, "regretted");
    const revoke = aMessage(
      "revoke",
      { original_message_id: wamid },
      { id: anId(), timestamp: String(baseTimestamp + 10) },
    );
    await gateway.postBody(fromUser({ phone }, revoke));
    await edit(phone, wamid, "regretted too", 20);
    await say({ phone }, "after");
    expect(contents((await payloads(2)).get("after")!.last_messages)).toEqual(["after", ""]);
    const [contact] = await contactsOf({ phone });
    expect((await conversationOf(contact!.user_id))[1]).toMatchObject({
      content: "",
      is_revoked: true,
      is_edited: false,
    });
  });
});
