import { describe, expect, test } from "vitest";
import { splitBody } from "../../server/whatsapp/envelope.ts";
import { aMessage, anEcho, anInboundBody } from "../helpers/whatsapp-bodies.ts";
import { eventOf, receivedAt } from "./split.ts";

const media = { id: "900000000000001", mime_type: "x/y" };
const line = (item_price: unknown, quantity: unknown, currency: unknown = "USD") => ({
  item_price,
  quantity,
  currency,
});

describe("a conversation shows", () => {
  test.each([
    ["text", { body: "Hi" }, "Hi", "text"],
    ["text", null, "", "text"],
    ["text", { body: "a\u0000b\ud800" }, "a\uFFFDb\uFFFD", "text"],
    ["image", { ...media, caption: "A cat" }, "A cat", "image"],
    ["image", media, "", "image"],
    ["image", { ...media, caption: 5 }, "5", "image"],
    ["video", { ...media, caption: null }, "", "video"],
    ["document", { ...media, filename: "a.pdf" }, "", "document"],
    ["document", { ...media, caption: "Bill", filename: "a.pdf" }, "Bill", "document"],
    ["audio", { ...media, voice: true }, "", "audio"],
    ["voice", media, "", "audio"],
    ["sticker", { ...media, animated: true }, "", "image"],
    [
      "location",
      { latitude: 1.5, longitude: -2, name: "Office", address: "Main St 1" },
      "Office, Main St 1 (1.5, -2)",
      "location",
    ],
    ["location", { latitude: 0, longitude: 0.5 }, "(0, 0.5)", "location"],
    [
      "location",
      { latitude: "north", longitude: 31, address: "Main St 1", name: null },
      "Main St 1",
      "location",
    ],
    ["location", [], "", "location"],
    [
      "contacts",
      [{ name: { formatted_name: "Ann" } }, null, { name: { formatted_name: "Bob B." } }],
      "Ann, Bob B.",
      "text",
    ],
    ["contacts", [{ vcard: "BEGIN:VCARD\r\nFN:Cleo C.\r\nEND:VCARD" }, { phones: [] }], "Cleo C.", "text"],
    ["contacts", "none", "", "text"],
    ["button", { payload: "p", text: "Yes" }, "Yes", "text"],
    ["interactive", { type: "button_reply", button_reply: { id: "1", title: "Prices" } }, "Prices", "text"],
    ["interactive", { type: "list_reply", list_reply: { id: "1", title: "Row" } }, "Row", "text"],
    ["interactive", { type: "nfm_reply", nfm_reply: { response_json: '{"a":1}' } }, '{"a":1}', "text"],
    ["interactive", { type: "nfm_reply", nfm_reply: { response_json: "{broken" } }, "{broken", "text"],
    ["interactive", { type: "call_permission_reply", call_permission_reply: {} }, "", "text"],
    ["interactive", undefined, "", "text"],
    ["order", { product_items: [line(30, 2), line(25, 1)] }, "2 items, 85 USD", "text"],
    ["order", { product_items: [line("0.10", 3)] }, "1 item, 0.30 USD", "text"],
    ["order", { product_items: [line(30, 2), line(5.5, 1, "EUR")] }, "2 items, 60 USD + 5.5 EUR", "text"],
    ["order", { product_items: [line(30, "many"), null] }, "2 items", "text"],
    ["order", { product_items: null }, "0 items", "text"],
    ["hologram", { body: "?" }, "", "text"],
    ["constructor", { body: "?" }, "", "text"],
  ])("%s %j as %j (%s)", (type, content, shown, contentType) => {
    expect(eventOf(aMessage(type, content)).entry).toMatchObject({
      sender: "user",
      content: shown,
      contentType,
    });
  });

  test.each(["image", "video", "document", "audio", "voice", "sticker"])("the media id of %s", (type) => {
    expect(eventOf(aMessage(type, media)).entry?.mediaId).toBe("900000000000001");
    expect(eventOf(aMessage(type, null)).entry?.mediaId).toBeNull();
  });

  test("coordinates and prices with the digits that they were sent with", () => {
    const text = (message: object) => JSON.stringify(anInboundBody(message as Record<string, unknown>));
    const at = text(aMessage("location", { latitude: "LAT", longitude: 7 })).replace('"LAT"', "37.10");
    const order = text(aMessage("order", { product_items: [line("PRICE", 3)] })).replace('"PRICE"', "37.10");
    const contents = [at, order].map(
      (body) => splitBody(Buffer.from(body), receivedAt).events[0]?.entry?.content,
    );
    expect(contents).toEqual(["(37.10, 7)", "1 item, 111.30 USD"]);
  });

  test("an echo as said by the business", () => {
    const event = eventOf(anEcho({ body: "Done." }), "message_echoes", "smb_message_echoes");
    expect(event.entry).toMatchObject({ sender: "bot", wamid: "wamid.sent-1", content: "Done." });
  });
});

test.each(["reaction", "system", "edit", "revoke", "request_welcome", "unsupported", "unknown"])(
  "%s is no part of a conversation",
  (type) => {
    expect(eventOf(aMessage(type, {})).entry).toBeNull();
  },
);

test.each([[undefined], [null], [""], [{}]])("type %j counts as unsupported", (type) => {
  expect(eventOf({ ...aMessage("text", { body: "Hi" }), type }).entry).toBeNull();
});

describe("an edit or revoke", () => {
  const edited = { type: "image", image: { id: "1", caption: "new" } };
  test.each([
    [
      "edit",
      { original_message_id: "w", message: edited },
      { wamid: "w", content: "new", contentType: "image" },
    ],
    ["edit", { original_message_id: "w" }, null],
    ["edit", { message: edited }, null],
    ["revoke", { original_message_id: "w" }, { wamid: "w", content: null, contentType: "text" }],
    ["revoke", null, null],
  ])("%s %j changes %j", (type, content, revision) => {
    expect(eventOf(aMessage(type, content)).revision).toEqual(revision);
    const echo = { ...anEcho(), type, [type]: content };
    expect(eventOf(echo, "message_echoes", "message_echoes").revision).toEqual(revision);
  });
});
