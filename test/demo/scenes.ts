/** The WhatsApp bodies of the demo in the order in which they are posted, with the items that each holds. */

import { aChange, anAccountChange, anEnvelope, type Json } from "../helpers/whatsapp-bodies.ts";
import type { Item } from "./expected.ts";
import { ada, ben, chloe, createItems, workshop } from "./items.ts";

export interface Scene {
  title: string;
  body: Json;
  /** The items in it that are new, by their time. */
  items: Item[];
}

/** @param startAtSeconds  Unix time of the first item; each one after it is a second later */
export function makeScenes(startAtSeconds: number): Scene[] {
  const a = createItems(startAtSeconds);
  const scenes: Scene[] = [
    inbound("a text", [a.text(ada, "Hello! Is the brass polish in stock?")]),
    echoed("an answer from the Business app", a.echo(ada, "Yes, twelve tins. Shall we put one aside?")),
    inbound("an image with a caption", [a.image(ben, "Mine looks like this 😬")]),
    inbound("a voice message", [a.voice(ada)]),
    inbound("a location", [a.location(ben)]),
    inbound("a tap on a reply button", [a.buttonReply(ada, "I will pick it up")]),
    inbound("a tap on a template's button", [a.templateButton(ada, "Remind me")]),
    inbound("an order from the catalogue", [a.order(ben)]),
    inbound("two address cards", [a.cards(ben, ["Dora Lind", "Emil Lind"])]),
    inbound("a reaction", [a.reaction(ada, "👍")]),
    inbound("the reaction taken back", [a.reaction(ada)]),
    inbound("a kind that WhatsApp hides", [a.unsupported(ben)]),
    inbound("a user without a phone number", [a.text(chloe, "Bonjour, livrez-vous à Lyon ?")]),
    statuses(
      "three statuses in one body",
      ["sent", "delivered", "read"].map((status) => a.status(ada, status)),
    ),
    statuses("a message that failed", [
      a.status(ada, "failed", { errors: [{ code: 131026, title: "Undeliverable" }] }),
    ]),
    accountNews("a template was approved", a.templateApproved(), startAtSeconds),
    mixed([
      [a.text(ada, "One more thing:"), a.text(ada, "do you mend horns?", { context: { forwarded: true } })],
      [a.status(ada, "played", { pricing: { billable: true, category: "utility", pricing_model: "PMP" } })],
      [{ ...a.text(ben, "Is my trombone ready?"), business: workshop }],
    ]),
  ];
  return [...scenes, { ...scenes[0]!, title: "the first body once more", items: [] }];
}

function inbound(title: string, items: Item[]): Scene {
  return { title, body: anEnvelope([messagesChange(items)]), items };
}

function statuses(title: string, items: Item[]): Scene {
  return { title, body: anEnvelope([changeOf(items, "statuses")]), items };
}

function echoed(title: string, item: Item): Scene {
  return {
    title,
    body: anEnvelope([changeOf([item], "message_echoes", "smb_message_echoes")]),
    items: [item],
  };
}

function accountNews(title: string, item: Item, atSeconds: number): Scene {
  const field = item.eventType.replace("whatsapp.", "");
  return { title, body: anEnvelope([anAccountChange(field, item.json)], { time: atSeconds }), items: [item] };
}

/** Two accounts in one body, the second with another business number. */
function mixed([messages, statuses, elsewhere]: [Item[], Item[], Item[]]): Scene {
  const first = {
    id: "510000000000001",
    changes: [messagesChange(messages), changeOf(statuses, "statuses")],
  };
  const second = { id: "510000000000002", changes: [messagesChange(elsewhere)] };
  return {
    title: "two accounts, three changes, four items",
    body: { object: "whatsapp_business_account", entry: [first, second] },
    items: [...messages, ...statuses, ...elsewhere],
  };
}

function messagesChange(items: Item[]): Json {
  const people = new Set(items.flatMap(({ person }) => person ?? []));
  const contacts = [...people].map(({ name, phone, bsuid }) => ({
    profile: { name },
    ...(phone === null ? {} : { wa_id: phone }),
    ...(bsuid === null ? {} : { user_id: bsuid }),
  }));
  return changeOf(items, "messages", "messages", { contacts });
}

function changeOf(items: Item[], key: string, field = "messages", beside: Json = {}): Json {
  const { phone, phoneNumberId } = items[0]!.business;
  const metadata = { display_phone_number: phone, phone_number_id: phoneNumberId };
  return aChange({ metadata, ...beside, [key]: items.map(({ json }) => json) }, field);
}
