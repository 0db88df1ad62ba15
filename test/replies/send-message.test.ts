import { fromBinary } from "@bufbuild/protobuf";
import { beforeEach, describe, expect, test } from "vitest";
import { SendFailureSchema } from "../../gen/posthorn/v1/message_service_pb.ts";
import type { Answer } from "../helpers/gateway.ts";
import { graphError } from "../helpers/graph.ts";
import { aStatusBody, type SendAnswer } from "../helpers/graph-messages.ts";
import { queryRows } from "../helpers/query-rows.ts";
import { aChange, anEcho, anEnvelope, business, customer } from "../helpers/whatsapp-bodies.ts";
import { accessToken, aSend, openReplies, type RepliesSetup } from "./open-replies.ts";

let setup: RepliesSetup;
beforeEach(async () => {
  setup = await openReplies();
  return () => setup.close();
});

const send = (changes: Record<string, unknown> = {}) =>
  setup.gateway.call("MessageService/SendMessage", aSend(changes));

function failureOf(answer: Answer) {
  const detail = answer.body.details?.find((one: { type: string }) => one.type === "posthorn.v1.SendFailure");
  return detail && fromBinary(SendFailureSchema, Buffer.from(detail.value, "base64"));
}

describe("SendMessage", () => {
  const { text: _, ...withoutText } = aSend();
  test.for([
    ["text", { body: "Hi", preview_url: true }, { body: "Hi", preview_url: true }],
    [
      "image",
      { link: "https://example.com/a.png", caption: "A" },
      { link: "https://example.com/a.png", caption: "A" },
    ],
    ["audio", { id: "123" }, { id: "123" }],
    ["video", { id: "123", caption: "A" }, { id: "123", caption: "A" }],
    ["document", { id: "123", filename: "a.pdf" }, { id: "123", filename: "a.pdf" }],
    [
      "location",
      { latitude: 1.5, longitude: -2, name: "Here" },
      { latitude: 1.5, longitude: -2, name: "Here" },
    ],
    [
      "template",
      { name: "hello", language: { code: "en_US" }, components: [{ type: "body", parameters: [] }] },
      { name: "hello", language: { code: "en_US" }, components: [{ type: "body", parameters: [] }] },
    ],
    ["reaction", { message_id: "wamid.x", emoji: "👍" }, { message_id: "wamid.x", emoji: "👍" }],
  ] as [string, object, object][])("sends a message of type %s", async ([type, content, expected]) => {
    const { status, body } = await setup.gateway.call("MessageService/SendMessage", {
      ...withoutText,
      [type]: content,
    });
    expect(body).toEqual({ id: expect.any(String), message_id: setup.graph.messages.sends[0]!.wamid });
    expect(status).toBe(200);
    expect(setup.graph.messages.sends[0]).toMatchObject({
      phoneNumberId: business.phoneNumberId,
      accessToken,
    });
    expect(setup.graph.messages.sends[0]!.body).toEqual({
      messaging_product: "whatsapp",
      recipient_type: "individual",
      to: `+${customer.phone}`,
      type,
      [type]: expected,
      biz_opaque_callback_data: body.id,
    });
  });

  test("sends to a business-scoped id, and quotes a message", async () => {
    expect((await send({ to: customer.bsuid, reply_to: "wamid.quoted" })).status).toBe(200);
    const { body } = setup.graph.messages.sends[0]!;
    expect(body).toMatchObject({ recipient: customer.bsuid, context: { message_id: "wamid.quoted" } });
    expect(body.to).toBeUndefined();
  });

  test("is told of as message.sent once, though WhatsApp echoes it", async () => {
    await send();
    const [sent] = setup.graph.messages.sends;
    await setup.gateway.waitForStates(1, ["delivered"], { event_type: "message.sent" });
    const later = String(Math.floor(Date.now() / 1000) + 2);
    const echo = anEcho({ id: sent!.wamid, timestamp: later, body: "Hello from us" });
    expect(
      await setup.gateway.postBody(anEnvelope([aChange({ message_echoes: [echo] }, "smb_message_echoes")])),
    ).toBe(200);
    expect(await setup.gateway.deliveries({ event_type: "message.sent" })).toHaveLength(1);
    const rows = await queryRows(setup.gateway.databaseUrl)("SELECT sender, content FROM message");
    expect(rows).toEqual([{ sender: "bot", content: "Hello from us" }]);
  });

  test("shows a template in the conversation by its name and what fills it", async () => {
    const text = (value: string) => ({ type: "text", text: value });
    const template = {
      name: "order_ready",
      language: { code: "en_US" },
      components: [
        { type: "header", parameters: [{ type: "image", image: { id: "1" } }] },
        { type: "body", parameters: [text("Ada"), text("1234")] },
      ],
    };
    expect((await send({ text: undefined, template })).status).toBe(200);
    expect((await send({ text: undefined, template: { ...template, components: [] } })).status).toBe(200);
    await setup.gateway.waitForStates(2, ["delivered"], { event_type: "message.sent" });
    const rows = await queryRows(setup.gateway.databaseUrl)(
      "SELECT content, content_type FROM message ORDER BY sequence",
    );
    expect(rows).toEqual([
      { content: "order_ready: Ada, 1234", content_type: "text" },
      { content: "order_ready", content_type: "text" },
    ]);
  });

  test("gives the caller's own value back in statuses, and leaves nothing of ours where there was none", async () => {
    await send({ callback_data: "order-7" });
    await send();
    for (const one of setup.graph.messages.sends) await setup.gateway.postBody(aStatusBody(one, "sent"));
    await setup.gateway.waitForStates(2, ["delivered"], { event_type: "message.status" });
    const statuses = setup.receiver.requests
      .map(({ body }) => JSON.parse(body.toString()))
      .filter(({ status }) => status !== undefined);
    const [first, second] = setup.graph.messages.sends.map(({ wamid }) =>
      statuses.find(({ id }) => id === wamid),
    );
    expect(first.biz_opaque_callback_data).toBe("order-7");
    expect(Object.keys(second)).not.toContain("biz_opaque_callback_data");
  });

  test("sends once for an idempotency key", async () => {
    const first = await send({ idempotency_key: "k1" });
    const second = await send({ idempotency_key: "k1" });
    expect(second.body).toEqual(first.body);
    const other = await send({ idempotency_key: "k1", text: { body: "another" } });
    expect(other.body.code).toBe("invalid_argument");
    expect(setup.graph.messages.sends).toHaveLength(1);
  });

  test("sends once for an idempotency key, though the calls come at the same time", async () => {
    setup.graph.messages.answerSends({ delayMs: 300 });
    const answers = await Promise.all([1, 2, 3].map(() => send({ idempotency_key: "k1" })));
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200]);
    expect(new Set(answers.map(({ body }) => body.id)).size).toBe(1);
    expect(setup.graph.messages.sends).toHaveLength(1);
  });

  test("does not send again for the key of a call whose outcome is unclear", async () => {
    setup.graph.messages.answerSends("cut");
    const first = await send({ idempotency_key: "k1" });
    setup.graph.messages.answerSends("take");
    const second = await send({ idempotency_key: "k1" });
    expect([first.status, second.status]).toEqual([500, 500]);
    expect(failureOf(second)!.messageId).toBe(failureOf(first)!.messageId);
    const [sent] = setup.graph.messages.sends;
    await setup.gateway.postBody(aStatusBody(sent!, "sent"));
    expect((await send({ idempotency_key: "k1" })).body.message_id).toBe(sent!.wamid);
    expect(setup.graph.messages.sends).toHaveLength(1);
  });

  test("sends for the key of a call of which is known that nothing was sent", async () => {
    setup.graph.messages.answerSends(graphError(400, 131026, "Message undeliverable"));
    expect((await send({ idempotency_key: "k1" })).status).toBe(400);
    setup.graph.messages.answerSends("take");
    expect((await send({ idempotency_key: "k1" })).status).toBe(200);
  });
});

describe("SendMessage tells why nothing was sent", () => {
  test.for([
    [131047, "failed_precondition", "outside_window"],
    [131026, "failed_precondition", "undeliverable"],
    [131049, "failed_precondition", "held_back"],
    [131021, "invalid_argument", "recipient_invalid"],
    [131051, "invalid_argument", "unsupported_type"],
    [131053, "invalid_argument", "media_invalid"],
    [131009, "invalid_argument", "request_invalid"],
    [132001, "invalid_argument", "template_not_found"],
    [132012, "invalid_argument", "template_invalid"],
    [132015, "failed_precondition", "template_stopped"],
    [999_999, "failed_precondition", "refused"],
    [131056, "resource_exhausted", "recipient_rate_limited"],
    [130429, "resource_exhausted", "rate_limited"],
    [190, "failed_precondition", "access_token_refused"],
    [131005, "failed_precondition", "permission_missing"],
    [201, "failed_precondition", "permission_missing"],
    [131031, "failed_precondition", "account_restricted"],
    [131042, "failed_precondition", "payment_problem"],
  ] as [number, string, string][])("code %s of Graph is %s, %s", async ([code, kind, reason]) => {
    setup.graph.messages.answerSends(graphError(400, code, `because of ${accessToken}`));
    const answer = await send();
    expect(answer.body.code).toBe(kind);
    expect(failureOf(answer)).toMatchObject({ reason, code, messageId: expect.any(String) });
    expect(answer.body.message).toContain("because of [token]");
    expect(JSON.stringify(setup.gateway.logged)).not.toContain(accessToken);
  });

  test.for([
    ["a reset", "reset"],
    ["status 500 without Graph's error", { status: 500, body: "oops" }],
    ["status 503 with a transient code", graphError(503, 131016, "x")],
    ["status 200 without an id", { status: 200, body: "{}" }],
    ["status 200 with an answer that is too long", { status: 200, body: "x".repeat(300_000) }],
    ["status 200 with an id that is none", { status: 200, body: { messages: [{ id: "x".repeat(300) }] } }],
  ] as [string, SendAnswer][])("%s leaves the outcome unknown, with our id", async ([, answer]) => {
    setup.graph.messages.answerSends(answer);
    const { status, body } = await send();
    expect([status, body.code]).toEqual([500, "unknown"]);
    const id = setup.graph.messages.sends[0]!.body.biz_opaque_callback_data;
    expect(failureOf({ body } as Answer)!.messageId).toBe(id);
    expect(setup.graph.messages.sends).toHaveLength(1);
  });

  test("a stopped number is not asked again", async () => {
    setup.graph.messages.answerSends(graphError(401, 190, "x"));
    await send();
    const again = await send();
    expect(failureOf(again)!.reason).toBe("access_token_refused");
    expect(setup.graph.messages.sends).toHaveLength(1);
  });

  test("a transient refusal is repeated within the call", async () => {
    setup.graph.messages.answerSends((_, number) => (number === 1 ? graphError(400, 131016, "x") : "take"));
    expect((await send()).status).toBe(200);
    expect(setup.graph.messages.sends).toHaveLength(2);
  });

  test.for([
    ["an unknown client", { client_ref: "nobody" }, "not_found"],
    ["a number of nobody", { phone_number_id: "77" }, "not_found"],
    ["no recipient", { to: undefined }, "invalid_argument"],
    ["a recipient that is none", { to: "asdf" }, "invalid_argument"],
    ["nothing to send", { text: undefined }, "invalid_argument"],
    [
      "a file with two names",
      { text: undefined, image: { id: "1", link: "https://a.example" } },
      "invalid_argument",
    ],
    ["a sound with a caption", { text: undefined, audio: { id: "1", caption: "a" } }, "invalid_argument"],
    ["a text that is too long", { text: { body: "x".repeat(4_097) } }, "invalid_argument"],
  ] as [string, Record<string, unknown>, string][])("%s", async ([, changes, code]) => {
    expect((await send(changes)).body.code).toBe(code);
    expect(setup.graph.messages.sends).toEqual([]);
  });
});

describe("statuses", () => {
  const statusOf = async () =>
    (await queryRows(setup.gateway.databaseUrl)("SELECT state, status FROM outgoing_message"))[0];

  test.for([
    [["sent", "delivered", "read", "played"], "sent", "played"],
    [["delivered", "sent"], "sent", "delivered"],
    [["read", "delivered"], "sent", "read"],
    [["sent", "failed"], "failed", "failed"],
    [["failed", "sent"], "failed", "failed"],
    [["delivered", "failed"], "sent", "delivered"],
    [["failed", "delivered"], "sent", "delivered"],
    [["warning"], "sent", null],
  ] as [string[], string, string | null][])(
    "%j move a message forward only",
    async ([statuses, state, status]) => {
      await send();
      for (const one of statuses) {
        await setup.gateway.postBody(aStatusBody(setup.graph.messages.sends[0]!, one));
      }
      expect(await statusOf()).toEqual({ state, status });
    },
  );

  test("find their message by WhatsApp's id alone", async () => {
    await send();
    const overrides = { biz_opaque_callback_data: undefined };
    await setup.gateway.postBody(aStatusBody(setup.graph.messages.sends[0]!, "read", overrides));
    expect(await statusOf()).toEqual({ state: "sent", status: "read" });
  });

  test("of another number with our id move nothing", async () => {
    await send();
    const body = JSON.parse(JSON.stringify(aStatusBody(setup.graph.messages.sends[0]!, "read")));
    body.entry[0].changes[0].value.metadata.phone_number_id = "620000000000099";
    await setup.gateway.postBody(body);
    expect(await statusOf()).toEqual({ state: "sent", status: null });
  });
});

test("MarkRead tells WhatsApp, with a typing indicator if asked", async () => {
  const { status } = await setup.gateway.call("MessageService/MarkRead", {
    client_ref: "partner-123",
    message_id: "wamid.in",
    typing_indicator: true,
  });
  expect(status).toBe(200);
  expect(setup.graph.messages.sends[0]!.body).toEqual({
    messaging_product: "whatsapp",
    status: "read",
    message_id: "wamid.in",
    typing_indicator: { type: "text" },
  });
  setup.graph.messages.answerSends(graphError(400, 131009, "no such message"));
  const refused = await setup.gateway.call("MessageService/MarkRead", {
    client_ref: "partner-123",
    message_id: "x",
  });
  expect(refused.body.code).toBe("invalid_argument");
  expect(refused.body.message).toBe(
    "the message was not marked as read (request_invalid, code 131009): no such message",
  );
});
