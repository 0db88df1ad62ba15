import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestGateway, type TestGateway } from "../helpers/gateway.ts";
import { type Receiver, startReceiver } from "../helpers/receiver.ts";
import {
  aChange,
  aContact,
  aMessage,
  anAccountChange,
  anEcho,
  anEnvelope,
  anInboundBody,
  aReaction,
  aStatus,
  aTextMessage,
  customer,
} from "../helpers/whatsapp-bodies.ts";

let gateway: TestGateway;
let receiver: Receiver;
beforeAll(async () => {
  gateway = await startTestGateway();
  receiver = await startReceiver();
  await gateway.createWebhook({
    webhooks: receiver.url,
    outgoing: true,
    event_types: ["message.*", "whatsapp.*"],
  });
});
afterAll(async () => {
  await gateway.close();
  await receiver.close();
});

const media = { id: "1234567890123456", mime_type: "application/octet-stream", sha256: "x" };
const received = (type: string, content: unknown) => [
  anInboundBody(aMessage(type, content, { id: `wamid.kind-${type}` })),
  ["message.received"],
];

test.for([
  ["a text", ...received("text", { body: "Hello!" })],
  ["an image", ...received("image", media)],
  ["a video", ...received("video", media)],
  ["an audio", ...received("audio", { ...media, voice: true })],
  ["a document", ...received("document", { ...media, filename: "a.pdf" })],
  ["a sticker", ...received("sticker", media)],
  ["a location", ...received("location", { latitude: 37.1, longitude: -122.5, name: "Here" })],
  ["contacts", ...received("contacts", [{ name: { formatted_name: "Bob" } }])],
  ["a button", ...received("button", { text: "Yes", payload: "yes" })],
  [
    "an answer to a list",
    ...received("interactive", { type: "list_reply", list_reply: { id: "1", title: "One" } }),
  ],
  ["an order", ...received("order", { catalog_id: "1", product_items: [] })],
  [
    "a system notice",
    ...received("system", { type: "user_changed_number", wa_id: "15558880201", body: "changed" }),
  ],
  ["a kind that nobody knows yet", ...received("hologram", { depth: 3 })],
  [
    "a message without any type",
    anInboundBody({ from: customer.phone, id: "wamid.kind-none", timestamp: "1772712000" }),
    ["message.received"],
  ],
  ["a reaction", anInboundBody(aReaction({ id: "wamid.kind-reaction" })), ["message.reaction"]],
  [
    "the removal of a reaction",
    anInboundBody(aReaction({ id: "wamid.kind-unreaction", reaction: { message_id: "wamid.kind-text" } })),
    ["message.reaction"],
  ],
  [
    "statuses of four kinds",
    anEnvelope([
      aChange({
        statuses: ["sent", "delivered", "read", "failed"].map((status) =>
          aStatus({ id: "wamid.kind-status", status }),
        ),
      }),
    ]),
    Array(4).fill("message.status"),
  ],
  [
    "an echo from the app",
    anEnvelope([aChange({ message_echoes: [anEcho({ id: "wamid.kind-echo" })] }, "smb_message_echoes")]),
    ["message.sent"],
  ],
  [
    "an echo of another kind",
    anEnvelope([aChange({ message_echoes: [anEcho({ id: "wamid.kind-echo-2" })] }, "message_echoes")]),
    ["message.sent"],
  ],
  [
    "two errors",
    anEnvelope(
      [
        aChange({
          errors: [
            { code: 130429, title: "first" },
            { code: 131000, title: "second" },
          ],
        }),
      ],
      {
        time: 1772712000,
      },
    ),
    ["whatsapp.error", "whatsapp.error"],
  ],
  [
    "a user action",
    anEnvelope([aChange({ user_actions: [{ action_type: "x", timestamp: "1772712000" }] })]),
    ["whatsapp.user_action"],
  ],
  ...[
    "account_update",
    "phone_number_quality_update",
    "message_template_status_update",
    "flows",
    "security",
  ].map(
    (field) =>
      [`the field ${field}`, anEnvelope([anAccountChange(field, { field })]), [`whatsapp.${field}`]] as const,
  ),
  [
    "calls",
    anEnvelope([aChange({ calls: [{ id: "wacid.1", event: "connect" }] }, "calls")]),
    ["whatsapp.calls"],
  ],
  ["history", anEnvelope([aChange({ history: [{ threads: [] }] }, "history")]), ["whatsapp.history"]],
  [
    "standby",
    anEnvelope([aChange({ messages: [aTextMessage({ id: "wamid.s" })] }, "standby")]),
    ["whatsapp.standby"],
  ],
  [
    "a field that nobody knows yet",
    anEnvelope([anAccountChange("dreams", { of: "sheep" })]),
    ["whatsapp.dreams"],
  ],
  [
    "everything in one body",
    anEnvelope([
      aChange({
        contacts: [aContact()],
        messages: [aTextMessage({ id: "wamid.all-1" }), aReaction({ id: "wamid.all-2" })],
      }),
      aChange({ statuses: [aStatus({ id: "wamid.all-3" })] }),
      aChange({ message_echoes: [anEcho({ id: "wamid.all-4" })] }, "message_echoes"),
      anAccountChange("account_alerts", { alert: 1 }),
    ]),
    ["message.received", "message.reaction", "message.status", "message.sent", "whatsapp.account_alerts"],
  ],
] as [string, unknown, string[]][])(
  "%s becomes its events and one delivery each",
  async ([, body, types]) => {
    const before = (await gateway.deliveries()).length;
    const sentBefore = receiver.requests.length;
    expect(await gateway.postBody(body)).toBe(200);
    const made = (await gateway.waitForStates(before + types.length, ["delivered"])).slice(before);
    expect(made.map(({ event_type }) => event_type).sort()).toEqual([...types].sort());
    expect(receiver.requests).toHaveLength(sentBefore + types.length);
    // A repeat is known by its key, whatever its kind.
    expect(await gateway.postBody(body)).toBe(200);
    expect(await gateway.deliveries()).toHaveLength(before + types.length);
  },
);
