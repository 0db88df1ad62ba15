import { createHmac } from "node:crypto";
import { Webhook } from "standardwebhooks";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { startTestGateway, type TestGateway } from "../helpers/gateway.ts";
import { type ReceivedRequest, type Receiver, startReceiver } from "../helpers/receiver.ts";
import {
  aChange,
  aContact,
  anEcho,
  anEnvelope,
  anInboundBody,
  aStatus,
  aTextMessage,
  baseTimestamp,
  customer,
} from "../helpers/whatsapp-bodies.ts";

let gateway: TestGateway;
let receiver: Receiver;
beforeAll(async () => {
  gateway = await startTestGateway();
});
afterAll(() => gateway.close());
beforeEach(async () => {
  receiver = await startReceiver();
});
afterEach(() => receiver.close());

describe("the intelli payload at the receiver", () => {
  /** The contract's example came from these: the client's name is the number's id where clients are made by themselves. */
  const metadata = { display_phone_number: "1234567890", phone_number_id: "partner-123" };
  const contacts = [{ profile: { name: "John Doe" }, wa_id: "0987654321" }];
  const exampleBody = (lists: object) =>
    anEnvelope([{ field: "messages", value: { messaging_product: "whatsapp", metadata, ...lists } }]);

  test("is the contract's example to the byte, signed in both ways", async () => {
    const secret = "whsec_UG9zdGhvcm4tZXhhbXBsZS1zZWNyZXQtMzJieXRlcyE=";
    const webhook = await gateway.createWebhook({
      webhooks: receiver.url,
      transformer: "intelli",
      active_signature: true,
      signature_secret: secret,
    });
    expect(webhook.signature_secret).toBe(secret);
    const text = {
      from: "0987654321",
      id: "wamid.xxx",
      timestamp: "1772712000",
      text: { body: "Hello!" },
      type: "text",
    };
    const reaction = {
      from: "0987654321",
      id: "wamid.yyy",
      timestamp: "1772712060",
      type: "reaction",
      reaction: { message_id: "wamid.xxx", emoji: "👍" },
    };
    const status = {
      id: "wamid.zzz",
      status: "delivered",
      timestamp: "1772712061",
      recipient_id: "0987654321",
    };
    for (const lists of [
      { contacts, messages: [text] },
      { contacts, messages: [reaction] },
      { statuses: [status] },
    ]) {
      expect(await gateway.postBody(exampleBody(lists))).toBe(200);
    }
    const requests = await receiver.waitForRequests(3);
    const byEvent = new Map(requests.map((request) => [JSON.parse(request.body.toString()).event, request]));
    expect(byEvent.get("message.received")?.body.toString()).toBe(
      '{"event":"message.received","timestamp":"2026-03-05T12:00:00Z","client_ref":"partner-123","phone_number":"+1234567890","from":"+0987654321","message":{"id":"wamid.xxx","type":"text","text":{"body":"Hello!"},"timestamp":"1772712000"},"contact":{"name":"John Doe","wa_id":"0987654321"}}',
    );
    expect(byEvent.get("message.reaction")?.body.toString()).toBe(
      '{"event":"message.reaction","timestamp":"2026-03-05T12:01:00Z","client_ref":"partner-123","phone_number":"+1234567890","from":"+0987654321","message":{"id":"wamid.yyy","type":"reaction","reaction":{"message_id":"wamid.xxx","emoji":"👍"},"timestamp":"1772712060"},"contact":{"name":"John Doe","wa_id":"0987654321"}}',
    );
    expect(byEvent.get("message.status")?.body.toString()).toBe(
      '{"event":"message.status","timestamp":"2026-03-05T12:01:01Z","client_ref":"partner-123","phone_number":"+1234567890","to":"+0987654321","status":{"id":"wamid.zzz","status":"delivered","timestamp":"1772712061","recipient_id":"0987654321"}}',
    );
    for (const request of requests) {
      const expected = createHmac("sha256", secret).update(request.body).digest("hex");
      expect(request.headers["x-intelli-signature"]).toBe(`sha256=${expected}`);
      expect(() => verifyStandard(secret, request)).not.toThrow();
      expect(request.headers["content-type"]).toBe("application/json");
      expect(request.headers["user-agent"]).toMatch(/^Posthorn\/\d/);
    }
    const logged = await gateway.waitForStates(3, ["delivered"], { webhook_id: webhook.id });
    expect(new Set(requests.map((request) => request.headers["webhook-id"]))).toEqual(
      new Set(logged.map((delivery) => delivery.id)),
    );
    const { body: details } = await gateway.call("DeliveryService/GetDelivery", {
      id: byEvent.get("message.received")?.headers["webhook-id"],
    });
    expect(Buffer.from(details.body, "base64")).toEqual(byEvent.get("message.received")?.body);
  });

  test("of a webhook without a secret carries no signature of any kind", async () => {
    await gateway.createWebhook({ webhooks: receiver.url });
    await gateway.postBody(anInboundBody(aTextMessage({ id: "wamid.unsigned" })));
    const [request] = await receiver.waitForRequests(1);
    expect(Object.keys(request!.headers).filter((name) => name.includes("signature"))).toEqual([]);
  });
});

function verifyStandard(secret: string, request: ReceivedRequest): void {
  new Webhook(secret).verify(request.body.toString(), {
    "webhook-id": String(request.headers["webhook-id"]),
    "webhook-timestamp": String(request.headers["webhook-timestamp"]),
    "webhook-signature": String(request.headers["webhook-signature"]),
  });
}

describe("the insights payload", () => {
  const phone = "15558880777";
  const at = (second: number) => String(baseTimestamp + second);
  const inbound = (message: object) =>
    anEnvelope([
      aChange({ contacts: [aContact({ wa_id: phone })], messages: [{ from: phone, ...message }] }),
    ]);
  const say = (id: string, body: string, second: number) =>
    inbound(aTextMessage({ id, body, from: phone, timestamp: at(second) }));
  const edit = (id: string, of: string, body: string, second: number) => ({
    from: phone,
    id,
    timestamp: at(second),
    type: "edit",
    edit: { original_message_id: of, message: { type: "text", text: { body } } },
  });

  /** Payloads by the content of their newest message, and when it was said. */
  async function payloads(count: number) {
    const requests = await receiver.waitForRequests(count);
    return requests
      .map((request) => JSON.parse(request.body.toString()))
      .sort((first, second) =>
        first.last_messages[0].timestamp.localeCompare(second.last_messages[0].timestamp),
      );
  }

  test("shows the conversation as of its event, however late it is made", async () => {
    const { id } = await gateway.createWebhook({
      webhooks: receiver.url,
      transformer: "insights",
      outgoing: true,
      // Held, so that every payload is made only after all of this has happened.
      paused: true,
    });
    const echo = anEcho({ id: "wamid.h2", to: phone, body: "two", timestamp: at(2) });
    for (const body of [
      say("wamid.h1", "one", 1),
      anEnvelope([aChange({ message_echoes: [echo] }, "smb_message_echoes")]),
      say("wamid.h3", "three", 3),
      inbound(edit("wamid.h4", "wamid.h1", "one, edited", 4)),
      anEnvelope([
        aChange(
          {
            message_echoes: [
              {
                ...anEcho({ id: "wamid.h5", to: phone, timestamp: at(5), type: "revoke" }),
                text: undefined,
                revoke: { original_message_id: "wamid.h2" },
              },
            ],
          },
          "smb_message_echoes",
        ),
      ]),
      anEnvelope([
        aChange({ statuses: [aStatus({ id: "wamid.h2", recipient_id: phone, timestamp: at(6) })] }),
      ]),
      say("wamid.h7", "four", 7),
    ]) {
      expect(await gateway.postBody(body)).toBe(200);
    }
    await gateway.updateWebhook(id, { paused: false });

    const [one, two, three, four] = await payloads(4);
    const contents = (payload: { last_messages: { content: string }[] }) =>
      payload.last_messages.map(({ content }) => content);
    expect(contents(one)).toEqual(["one"]);
    expect(contents(two)).toEqual(["two", "one"]);
    expect(contents(three)).toEqual(["three", "two", "one"]);
    expect(contents(four)).toEqual(["four", "three", "", "one, edited"]);
    expect(three).toEqual({
      last_messages: [
        { type: "user", content: "three", timestamp: "2026-03-05T12:00:03.000Z", content_type: "text" },
        { type: "bot", content: "two", timestamp: "2026-03-05T12:00:02.000Z", content_type: "text" },
        { type: "user", content: "one", timestamp: "2026-03-05T12:00:01.000Z", content_type: "text" },
      ],
      conversation_paragraph: "User (12:00:03 PM): three ; Bot (12:00:02 PM): two ; User (12:00:01 PM): one",
      phone_number: phone,
      recipient_name: customer.name,
      user_id: expect.stringMatching(/^[0-9a-f-]{36}$/),
      last_message_of_user: "three",
      last_message_of_bot: "two",
      message_type: "text",
      user_last_message_time: baseTimestamp + 3,
      bot_last_message_time: baseTimestamp + 2,
      attachment_url: null,
      note: "",
      note_automation: "",
      labels: "",
    });
    expect(new Set([one, two, three, four].map((payload) => payload.user_id)).size).toBe(1);
    // The edit and the revoke are stored and skipped: they are no part of the conversation.
    await gateway.waitForStates(6, ["delivered", "skipped"], { webhook_id: id });
    expect(receiver.requests).toHaveLength(4);
  });

  test("follows the order of one body: an edit shows in the message after it, not in the one before", async () => {
    await gateway.createWebhook({ webhooks: receiver.url, transformer: "insights" });
    const messages = [
      { ...aTextMessage({ id: "wamid.o1", body: "draft", from: phone, timestamp: at(20) }) },
      { ...aTextMessage({ id: "wamid.o2", body: "before", from: phone, timestamp: at(21) }) },
      edit("wamid.o3", "wamid.o1", "final", 22),
      { ...aTextMessage({ id: "wamid.o4", body: "after", from: phone, timestamp: at(23) }) },
    ];
    await gateway.postBody(anEnvelope([aChange({ contacts: [aContact({ wa_id: phone })], messages })]));
    const [, before, after] = await payloads(3);
    expect(before.last_messages.slice(0, 2)).toMatchObject([{ content: "before" }, { content: "draft" }]);
    expect(after.last_messages.slice(0, 3)).toMatchObject([
      { content: "after" },
      { content: "before" },
      { content: "final" },
    ]);
  });
});
