import { describe, expect, test } from "vitest";
import { aChange, anEnvelope, baseTimestamp, business, type Json } from "../helpers/whatsapp-bodies.ts";
import {
  aPhone,
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
