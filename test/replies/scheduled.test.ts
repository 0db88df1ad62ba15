import { beforeEach, describe, expect, test } from "vitest";
import { graphError } from "../helpers/graph.ts";
import { aStatusBody } from "../helpers/graph-messages.ts";
import { waitFor } from "../helpers/wait.ts";
import { anInboundBody, aTextMessage, customer } from "../helpers/whatsapp-bodies.ts";
import { openReplies, type RepliesSetup } from "./open-replies.ts";

let setup: RepliesSetup;
beforeEach(async () => {
  setup = await openReplies();
  return () => setup.close();
});

const bodiesOf = (sends: { body: { text?: { body: string } } }[]) => sends.map(({ body }) => body.text?.body);

describe("an answer with messages", () => {
  test("is sent to the contact in order, each at its time after the answer", async () => {
    setup.answer.body = {
      messages: [
        { text: "one", delay: 0 },
        { text: "two", delay: 400 },
        { text: "three", delay: 800 },
      ],
    };
    await setup.userWrites();
    const sends = await setup.waitForSends(3);
    const [delivery] = await setup.gateway.waitForStates(1, ["delivered"], {
      event_type: "message.received",
    });
    const [attempt] = await setup.gateway.attempts(delivery!.id);
    const endedMs = Date.parse(attempt!.started_at) + attempt!.duration_ms;
    expect(bodiesOf(sends)).toEqual(["one", "two", "three"]);
    for (const [index, delayMs] of [0, 400, 800].entries()) {
      const lateMs = sends[index]!.receivedAt.getTime() - endedMs - delayMs;
      expect(lateMs).toBeGreaterThan(-20);
      expect(lateMs).toBeLessThan(100);
    }
    expect(sends[0]!.body).toMatchObject({
      messaging_product: "whatsapp",
      to: `+${customer.phone}`,
      type: "text",
    });
    const messages = await setup.waitForScheduled(["sent", "sent", "sent"]);
    expect(messages.map(({ id }) => id)).toEqual(sends.map(({ body }) => body.biz_opaque_callback_data));
    expect(messages.map(({ message_id }) => message_id)).toEqual(sends.map(({ wamid }) => wamid));
  });

  test("becomes message.sent, which its webhook gets and which schedules nothing", async () => {
    setup.answer.body = { messages: [{ text: "thank you", delay: 0 }] };
    await setup.userWrites();
    const [send] = await setup.waitForSends(1);
    await setup.gateway.waitForStates(1, ["delivered"], { event_type: "message.sent" });
    const sent = setup.receiver.requests
      .map(({ body }) => JSON.parse(body.toString()))
      .find(({ id }) => id === send!.wamid);
    expect(sent).toMatchObject({ to: customer.phone, type: "text", text: { body: "thank you" } });
    await setup.gateway.postBody(aStatusBody(send!, "delivered"));
    await setup.gateway.waitForStates(1, ["delivered"], { event_type: "message.status" });
    expect(await setup.scheduled()).toHaveLength(1);
    expect(setup.graph.messages.sends).toHaveLength(1);
  });

  test("is scheduled once, though the delivery is sent once more", async () => {
    setup.answer.body = { messages: [{ text: "once", delay: 0 }] };
    await setup.userWrites();
    await setup.waitForSends(1);
    const [delivery] = await setup.gateway.waitForStates(1, ["delivered"], {
      event_type: "message.received",
    });
    await setup.gateway.call("DeliveryService/RetryDelivery", { id: delivery!.id });
    await waitFor(
      "second attempt",
      () => setup.gateway.attempts(delivery!.id),
      (attempts) => attempts.length === 2,
    );
    expect(await setup.scheduled()).toHaveLength(1);
    expect(setup.graph.messages.sends).toHaveLength(1);
  });

  test("schedules nothing for a message that found its client late", async () => {
    const body = JSON.parse(JSON.stringify(anInboundBody(aTextMessage({ id: "wamid.late" }))));
    body.entry[0].changes[0].value.metadata.phone_number_id = "620000000000002";
    const late = await openReplies({ env: { POSTHORN_AUTO_CLIENTS: "false" } });
    try {
      late.answer.body = { messages: [{ text: "too late", delay: 0 }] };
      expect(await late.gateway.postBody(body)).toBe(200);
      await late.gateway.call("ClientService/UpdateClient", {
        client_ref: "partner-123",
        phone_numbers: [{ phone_number_id: "620000000000002" }],
      });
      await late.gateway.waitForStates(1, ["delivered"]);
      expect(await late.scheduled()).toEqual([]);
    } finally {
      await late.close();
    }
  });

  test("is not sent by a test of the webhook", async () => {
    setup.answer.body = { messages: [{ text: "never", delay: 0 }] };
    const { status } = await setup.gateway.call("WebhookService/TestWebhook", { id: setup.webhookId });
    expect(status).toBe(200);
    expect(await setup.scheduled()).toEqual([]);
  });
});

describe("an answer that breaks a rule schedules nothing, and the log says which", () => {
  const tooLong = "x".repeat(4_097);
  test.for([
    ["no JSON", "ok", "body: is not JSON"],
    ["a list", [], "body: is not a JSON object"],
    ["messages that are no list", { messages: {} }, "messages: must be a list"],
    [
      "21 messages",
      { messages: Array.from({ length: 21 }, () => ({ text: "a", delay: 0 })) },
      "messages: must not hold more than 20",
    ],
    [
      "a text that is too long",
      { messages: [{ text: tooLong, delay: 0 }] },
      "messages[0].text: must have 1 to 4096 characters",
    ],
    [
      "an empty text",
      { messages: [{ text: "", delay: 0 }] },
      "messages[0].text: must have 1 to 4096 characters",
    ],
    ["no text", { messages: [{ delay: 0 }] }, "messages[0].text: must be a text"],
    ["no delay", { messages: [{ text: "a" }] }, "messages[0].delay: must be a whole number of milliseconds"],
    [
      "a delay below 0",
      { messages: [{ text: "a", delay: -1 }] },
      "messages[0].delay: must be 0 to 60000, the webhook's waiting_duration",
    ],
    [
      "a delay above waiting_duration",
      { messages: [{ text: "a", delay: 60_001 }] },
      "messages[0].delay: must be 0 to 60000, the webhook's waiting_duration",
    ],
    [
      "a delay that decreases",
      {
        messages: [
          { text: "a", delay: 10 },
          { text: "b", delay: 9 },
        ],
      },
      "messages[1].delay: must not be less than the one before",
    ],
    ["a body that is too long", "x".repeat(600_000), "body: is too long, or did not end in time"],
  ] as [string, unknown, string][])("%s", async ([, body, fault]) => {
    setup.answer.body = body;
    await setup.userWrites();
    const [delivery] = await setup.gateway.waitForStates(1, ["delivered"]);
    const [attempt] = (await setup.gateway.attempts(delivery!.id)) as { reply_fault?: string }[];
    expect(attempt!.reply_fault).toBe(fault);
    expect(await setup.scheduled()).toEqual([]);
  });

  test.for([
    ["an empty body", ""],
    ["an object without messages", { ok: true }],
    ["no messages", { messages: [] }],
  ] as [string, unknown][])("but %s breaks none", async ([, body]) => {
    setup.answer.body = body;
    await setup.userWrites();
    const [delivery] = await setup.gateway.waitForStates(1, ["delivered"]);
    const [attempt] = (await setup.gateway.attempts(delivery!.id)) as { reply_fault?: string }[];
    expect(attempt!.reply_fault).toBeUndefined();
  });
});

describe("what is scheduled", () => {
  const three = {
    messages: [
      { text: "one", delay: 0 },
      { text: "two", delay: 300 },
      { text: "three", delay: 30_000 },
    ],
  };

  test("waits for the outcome of the one before", async () => {
    setup.graph.messages.answerSends((_, number) => (number === 1 ? { delayMs: 900 } : "take"));
    setup.answer.body = three;
    await setup.userWrites();
    const [first, second] = await setup.waitForSends(2);
    expect(second!.receivedAt.getTime() - first!.receivedAt.getTime()).toBeGreaterThanOrEqual(890);
    expect(bodiesOf([first!, second!])).toEqual(["one", "two"]);
  });

  test("is canceled after a permanent failure before it", async () => {
    setup.graph.messages.answerSends(graphError(400, 131026, "Message undeliverable"));
    setup.answer.body = three;
    await setup.userWrites();
    const messages = await setup.waitForScheduled(["failed", "canceled", "canceled"]);
    expect(messages.map(({ reason }) => reason)).toEqual([
      "undeliverable",
      "earlier_failed",
      "earlier_failed",
    ]);
    expect(messages[0]!.error_code).toBe(131026);
    expect(setup.graph.messages.sends).toHaveLength(1);
  });

  test("is canceled when WhatsApp says later that the one before failed", async () => {
    setup.answer.body = three;
    await setup.userWrites();
    const [, second] = await setup.waitForSends(2);
    await setup.waitForScheduled(["sent", "sent", "scheduled"]);
    const errors = [{ code: 131026, title: "Message undeliverable" }];
    await setup.gateway.postBody(aStatusBody(second!, "failed", { errors }));
    const messages = await setup.waitForScheduled(["sent", "failed", "canceled"]);
    expect(messages[1]).toMatchObject({ reason: "undeliverable", error_code: 131026, status: "failed" });
  });

  test.for([
    ["the webhook is turned off", { status: false }, "webhook_disabled"],
    [
      "its scheduling is turned off",
      { schedule_activity: false, waiting_duration: 0 },
      "scheduling_disabled",
    ],
  ] as [string, object, string][])("is canceled when %s", async ([, change, reason]) => {
    setup.answer.body = three;
    await setup.userWrites();
    await setup.waitForScheduled(["sent", "sent", "scheduled"]);
    await setup.gateway.updateWebhook(setup.webhookId, change as Record<string, unknown>);
    const messages = await setup.scheduled();
    expect(messages.map(({ state }) => state)).toEqual(["sent", "sent", "canceled"]);
    expect(messages[2]!.reason).toBe(reason);
  });

  test("is canceled when the webhook is deleted", async () => {
    setup.answer.body = three;
    await setup.userWrites();
    await setup.waitForScheduled(["sent", "sent", "scheduled"]);
    await setup.gateway.call("WebhookService/DeleteWebhook", { id: setup.webhookId });
    expect((await setup.scheduled())[2]).toMatchObject({ state: "canceled", reason: "webhook_deleted" });
  });

  test("is not canceled by a newer message of the user", async () => {
    setup.answer.body = three;
    await setup.userWrites();
    await setup.waitForScheduled(["sent", "sent", "scheduled"]);
    setup.answer.body = {};
    await setup.userWrites();
    await setup.gateway.waitForStates(2, ["delivered"], { event_type: "message.received" });
    await setup.waitForScheduled(["sent", "sent", "scheduled"]);
  });

  test("can be canceled alone, once", async () => {
    setup.answer.body = {
      messages: [
        { text: "one", delay: 1_500 },
        { text: "two", delay: 1_500 },
      ],
    };
    await setup.userWrites();
    const [first] = await setup.waitForScheduled(["scheduled", "scheduled"]);
    const cancel = () => setup.gateway.call("MessageService/CancelScheduledMessage", { id: first!.id });
    expect((await cancel()).body.message).toMatchObject({ state: "canceled", reason: "requested" });
    expect((await cancel()).body).toMatchObject({ code: "failed_precondition" });
    const unknown = await setup.gateway.call("MessageService/CancelScheduledMessage", {
      id: "0199c0de-0000-7000-8000-000000000001",
    });
    expect(unknown.body).toMatchObject({ code: "not_found" });
    expect(bodiesOf(await setup.waitForSends(1))).toEqual(["two"]);
    await setup.waitForScheduled(["canceled", "sent"]);
  });

  test("is refused without a call outside the 24-hour window", async () => {
    setup.answer.body = three;
    const yesterday = Math.floor(Date.now() / 1000) - 25 * 3_600;
    await setup.userWrites({ timestamp: String(yesterday) });
    const messages = await setup.waitForScheduled(["failed", "canceled", "canceled"]);
    expect(messages[0]!.reason).toBe("outside_window");
    expect(setup.graph.messages.sends).toEqual([]);
  });

  test("is listed by state, webhook and delivery", async () => {
    setup.answer.body = three;
    await setup.userWrites();
    const all = await setup.waitForScheduled(["sent", "sent", "scheduled"]);
    const count = async (filter: object) => (await setup.scheduled({ ...filter })).length;
    expect(await count({ states: ["scheduled"] })).toBe(1);
    expect(await count({ webhook_id: setup.webhookId + 1 })).toBe(0);
    expect(await count({ delivery_id: all[0]!.delivery_id })).toBe(3);
    expect(await count({ client_ref: "partner-123" })).toBe(3);
    expect(all[0]).toMatchObject({ to: `+${customer.phone}`, text: "one", position: 0 });
  });
});

describe("when WhatsApp cannot take a message", () => {
  const one = { messages: [{ text: "one", delay: 0 }] };

  test.for([
    ["it is unavailable", graphError(400, 131016, "Service unavailable")],
    ["it limits the recipient", graphError(400, 131056, "Pair rate limit hit")],
    ["it limits the number", graphError(400, 130429, "Rate limit hit")],
  ] as const)("the message goes out later: %s", async ([, answer]) => {
    setup.graph.messages.answerSends((_, number) => (number === 1 ? answer : "take"));
    setup.answer.body = one;
    await setup.userWrites();
    const [first, second] = await setup.waitForSends(2, 15_000);
    expect(second!.receivedAt.getTime() - first!.receivedAt.getTime()).toBeGreaterThanOrEqual(900);
    expect(second!.body.biz_opaque_callback_data).toBe(first!.body.biz_opaque_callback_data);
    await setup.waitForScheduled(["sent"]);
  });

  test.for([
    ["the connection breaks", "cut"],
    ["it answers 500", { status: 500, body: { error: { code: 131000, message: "Something went wrong" } } }],
    ["it answers without an id", { status: 200, body: {} }],
  ] as const)("nobody knows, and it is never sent again: %s", async ([, answer]) => {
    setup.graph.messages.answerSends(answer as "cut");
    setup.answer.body = one;
    await setup.userWrites();
    await setup.waitForScheduled(["unknown"]);
    const [send] = setup.graph.messages.sends;
    await setup.gateway.postBody(aStatusBody(send!, "delivered"));
    const [message] = await setup.waitForScheduled(["sent"]);
    expect(message).toMatchObject({ message_id: send!.wamid, status: "delivered" });
    await setup.gateway.waitForStates(1, ["delivered"], { event_type: "message.sent" });
    expect(setup.graph.messages.sends).toHaveLength(1);
  });

  test("a token that is refused stops the number until the client gets a new one", async () => {
    setup.graph.messages.answerSends((send) =>
      send.accessToken === "a-new-token" ? "take" : graphError(401, 190, "Invalid OAuth access token"),
    );
    setup.answer.body = one;
    await setup.userWrites();
    const getNumber = async () => {
      const { body } = await setup.gateway.call("ClientService/GetClient", { client_ref: "partner-123" });
      return body.client.phone_numbers[0];
    };
    await waitFor("stop", getNumber, (number) => number.sends_stopped_reason === "access_token_refused");
    expect((await setup.scheduled())[0]!.state).toBe("scheduled");
    await setup.gateway.call("ClientService/UpdateClient", {
      client_ref: "partner-123",
      access_token: "a-new-token",
    });
    expect((await getNumber()).sends_stopped_reason).toBeUndefined();
    await setup.waitForScheduled(["sent"]);
    expect(setup.graph.messages.sends).toHaveLength(2);
  });
});
