/** Who plays in the demo, and WhatsApp items of theirs, each a second later than the one made before. */

import type { Json } from "../helpers/whatsapp-bodies.ts";
import type { Business, Item, Person } from "./expected.ts";

export const shop: Business = { phone: "15557770100", phoneNumberId: "620000000000001" };
export const workshop: Business = { phone: "15557770199", phoneNumberId: "620000000000002" };
export const ada: Person = { name: "Ada Müller", phone: "15558880200", bsuid: "US.70000000000000000001" };
export const ben: Person = { name: "Ben Okafor 🎺", phone: "447700900123", bsuid: null };
export const chloe: Person = { name: "Chloé", phone: null, bsuid: "FR.70000000000000000003" };

/** The message of the shop to Ada that replies, reactions and statuses are about. */
const offerId = "wamid.demo-offer";

/** @param startAtSeconds  Unix time of the first item */
export function createItems(startAtSeconds: number) {
  let itemCount = 0;
  const nextPlace = () => {
    itemCount++;
    return { id: `wamid.demo-${itemCount}`, timestamp: String(startAtSeconds + itemCount) };
  };

  /** `content` is the object named after the type; `rest` what stands beside it. */
  function received(
    person: Person,
    type: string,
    content: Json | Json[],
    shown: Item["shown"],
    rest: Json = {},
  ): Item {
    const json = { ...senderOf(person), ...nextPlace(), [type]: content, type, ...rest };
    return { eventType: "message.received", business: shop, person, json, shown };
  }

  return {
    text(person: Person, body: string, rest?: Json): Item {
      return received(person, "text", { body }, asText(body), rest);
    },
    image(person: Person, caption: string): Item {
      const content = { caption, mime_type: "image/jpeg", sha256: "q83vEjRWeJA=", id: "1480000000000001" };
      return received(person, "image", content, { content: caption, contentType: "image" });
    },
    voice(person: Person): Item {
      const content = {
        mime_type: "audio/ogg; codecs=opus",
        sha256: "q83vEjRWeJB=",
        id: "1480000000000002",
        voice: true,
      };
      return received(person, "audio", content, { content: "", contentType: "audio" });
    },
    location(person: Person): Item {
      const content = {
        latitude: asWritten("52.5200"),
        longitude: 13.405,
        name: "Workshop",
        address: "Hornweg 1",
      };
      const shown = { content: "Workshop, Hornweg 1 (52.5200, 13.405)", contentType: "location" };
      return received(person, "location", content, shown);
    },
    buttonReply(person: Person, title: string): Item {
      const content = { type: "button_reply", button_reply: { id: "reply-1", title } };
      return received(person, "interactive", content, asText(title), {
        context: { from: shop.phone, id: offerId },
      });
    },
    templateButton(person: Person, text: string): Item {
      return received(person, "button", { payload: "button-1", text }, asText(text));
    },
    order(person: Person): Item {
      const product = {
        product_retailer_id: "polish-250",
        quantity: 2,
        item_price: asWritten("12.50"),
        currency: "EUR",
      };
      const content = { catalog_id: "900000000000001", text: "", product_items: [product] };
      return received(person, "order", content, asText("1 item, 25.00 EUR"));
    },
    cards(person: Person, names: string[]): Item {
      const cards = names.map((name) => ({
        name: { formatted_name: name },
        phones: [{ phone: "+49 30 5550123" }],
      }));
      return received(person, "contacts", cards, asText(names.join(", ")));
    },
    unsupported(person: Person): Item {
      const errors = [{ code: 131051, title: "Message type unknown" }];
      return received(person, "unsupported", { type: "poll_creation" }, null, { errors });
    },
    /** Without an emoji: the reaction is taken back. */
    reaction(person: Person, emoji?: string): Item {
      const content = { message_id: offerId, ...(emoji === undefined ? {} : { emoji }) };
      return { ...received(person, "reaction", content, null), eventType: "message.reaction" };
    },
    echo(person: Person, body: string): Item {
      const json = { from: shop.phone, to: person.phone, ...nextPlace(), text: { body }, type: "text" };
      return { eventType: "message.sent", business: shop, person, json, shown: asText(body) };
    },
    /** Of the offer; WhatsApp names the number only. */
    status(person: Person, status: string, rest: Json = {}): Item {
      const { timestamp } = nextPlace();
      const json = { id: offerId, status, timestamp, recipient_id: person.phone, ...rest };
      return {
        eventType: "message.status",
        business: shop,
        person: { ...person, bsuid: null },
        json,
        shown: null,
      };
    },
    templateApproved(): Item {
      const json = {
        event: "APPROVED",
        message_template_id: 1_689_000_000_000_001,
        message_template_name: "polish_back_in_stock",
        message_template_language: "en_US",
        reason: null,
      };
      return {
        eventType: "whatsapp.message_template_status_update",
        business: shop,
        person: null,
        json,
        shown: null,
      };
    },
  };
}

function senderOf({ phone, bsuid }: Person): Json {
  return {
    ...(phone === null ? {} : { from: phone }),
    ...(bsuid === null ? {} : { from_user_id: bsuid }),
  };
}

function asText(content: string) {
  return { content, contentType: "text" };
}

/** A number with the very digits that WhatsApp writes, which JavaScript would shorten. */
function asWritten(digits: string): unknown {
  return (JSON as unknown as { rawJSON(text: string): unknown }).rawJSON(digits);
}
