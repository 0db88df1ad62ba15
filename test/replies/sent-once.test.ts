/** A message goes out once and is told of once, whatever comes first: answer, status, echo or the end of the process. */

import { describe, expect, test } from "vitest";
import { type Clock, systemClock } from "../../server/clock.ts";
import { openTestDatabase } from "../helpers/database.ts";
import { startTestGateway } from "../helpers/gateway.ts";
import { graphError } from "../helpers/graph.ts";
import { aStatusBody, type GraphSend } from "../helpers/graph-messages.ts";
import { queryRows } from "../helpers/query-rows.ts";
import {
  aChange,
  anEcho,
  anEnvelope,
  anInboundBody,
  aTextMessage,
  customer,
} from "../helpers/whatsapp-bodies.ts";
import { movedClock } from "./moved-clock.ts";
import { aSend, openReplies } from "./open-replies.ts";

const one = { messages: [{ text: "one", delay: 0 }] };
const unavailable = graphError(400, 131016, "Service unavailable");
const callLimit = graphError(400, 80007, "Rate limit issues");

function anEchoOf(send: GraphSend, overrides: Record<string, unknown> = {}) {
  const timestamp = String(Math.floor(Date.now() / 1000));
  const echo = anEcho({ id: send.wamid, timestamp, body: send.body.text?.body, ...overrides });
  return anEnvelope([aChange({ message_echoes: [echo] }, "smb_message_echoes")]);
}

describe("a status says that a message went out", () => {
  test("which WhatsApp refused for the moment: a reply is not sent again", async () => {
    const setup = await openReplies();
    try {
      setup.graph.messages.answerSends((_, number) => (number === 1 ? callLimit : "take"));
      setup.answer.body = one;
      await setup.userWrites();
      const [send] = await setup.waitForSends(1);
      await setup.waitForScheduled(["scheduled"]);
      await setup.gateway.postBody(aStatusBody(send!, "sent"));
      const [message] = await setup.scheduled();
      expect(message).toMatchObject({ state: "sent", message_id: send!.wamid });
      expect(setup.graph.messages.sends).toHaveLength(1);
    } finally {
      await setup.close();
    }
  });

  test("which WhatsApp refused for the moment: a call is not repeated, and succeeds", async () => {
    const setup = await openReplies();
    try {
      const came = Promise.withResolvers<GraphSend>();
      const told = Promise.withResolvers<void>();
      setup.graph.messages.answerSends(async (send, number) => {
        if (number > 1) return "take";
        came.resolve(send);
        await told.promise;
        return unavailable;
      });
      const call = setup.gateway.call("MessageService/SendMessage", aSend());
      const send = await came.promise;
      await setup.gateway.postBody(aStatusBody(send, "sent"));
      told.resolve();
      const { status, body } = await call;
      expect([status, body.message_id]).toEqual([200, send.wamid]);
      expect(setup.graph.messages.sends).toHaveLength(1);
    } finally {
      await setup.close();
    }
  });

  test("of which Graph says nothing: the call succeeds", async () => {
    const setup = await openReplies({ overrides: { graph: { timeoutMs: 4_000 } } });
    try {
      const came = Promise.withResolvers<GraphSend>();
      setup.graph.messages.answerSends((send) => {
        came.resolve(send);
        return "hang";
      });
      const call = setup.gateway.call("MessageService/SendMessage", aSend());
      const send = await came.promise;
      await setup.gateway.postBody(aStatusBody(send, "delivered"));
      const { status, body } = await call;
      expect([status, body.message_id]).toEqual([200, send.wamid]);
      await setup.gateway.waitForStates(1, ["delivered"], { event_type: "message.sent" });
    } finally {
      await setup.close();
    }
  });

  test("before Graph does: the message joins the conversation with the number as WhatsApp writes it", async () => {
    const setup = await openReplies();
    try {
      const written = "5215512345678";
      await setup.gateway.postBody(anInboundBody(aTextMessage({ id: "wamid.first", from: written })));
      const came = Promise.withResolvers<GraphSend>();
      const told = Promise.withResolvers<void>();
      setup.graph.messages.answerSends(async (send) => {
        came.resolve(send);
        await told.promise;
        return "take" as const;
      });
      // The caller leaves out the 1 that WhatsApp puts behind Mexico's code.
      const call = setup.gateway.call("MessageService/SendMessage", aSend({ to: "+525512345678" }));
      await setup.gateway.postBody(aStatusBody(await came.promise, "sent", { recipient_id: written }));
      told.resolve();
      expect((await call).status).toBe(200);
      await setup.gateway.waitForStates(1, ["delivered"], { event_type: "message.sent" });
      const { body } = await setup.gateway.call("ContactService/ListContacts", {});
      expect(body.contacts.map((contact: { phone: string }) => contact.phone.replace("+", ""))).toEqual([
        written,
      ]);
    } finally {
      await setup.close();
    }
  });
});

describe("an echo of what was sent through us is no second message", () => {
  test("if it comes before Graph's answer", async () => {
    const setup = await openReplies();
    try {
      const came = Promise.withResolvers<GraphSend>();
      const told = Promise.withResolvers<void>();
      setup.graph.messages.answerSends(async (send) => {
        came.resolve(send);
        await told.promise;
        return "take" as const;
      });
      const call = setup.gateway.call("MessageService/SendMessage", aSend());
      await setup.gateway.postBody(anEchoOf(await came.promise));
      told.resolve();
      expect((await call).status).toBe(200);
      const query = queryRows(setup.gateway.databaseUrl);
      await setup.gateway.waitForStates(1, ["delivered"], { event_type: "message.sent" });
      await expect
        .poll(() => query("SELECT FROM outgoing_message WHERE is_published"), { timeout: 10_000 })
        .toHaveLength(1);
      expect(await query("SELECT content FROM message")).toEqual([{ content: "Hello from us" }]);
      expect(await setup.gateway.deliveries({ event_type: "message.sent" })).toHaveLength(1);
    } finally {
      await setup.close();
    }
  });

  test("if it comes as another type", async () => {
    const setup = await openReplies();
    try {
      await setup.gateway.call("MessageService/SendMessage", aSend());
      await setup.gateway.waitForStates(1, ["delivered"], { event_type: "message.sent" });
      const [send] = setup.graph.messages.sends;
      const echo = anEchoOf(send!, { type: "interactive", text: undefined, interactive: {} });
      expect(await setup.gateway.postBody(echo)).toBe(200);
      expect(await setup.gateway.deliveries({ event_type: "message.sent" })).toHaveLength(1);
    } finally {
      await setup.close();
    }
  });

  test.for([
    ["after midnight, of a message from before it", -2_000, 1],
    ["before midnight, of a message from after it", 1_000, -2],
  ] as [string, number, number][])("if it says that it is from %s", async ([, sentMs, echoSeconds]) => {
    const dayMs = 24 * 3_600_000;
    const midnightMs = Math.ceil(Date.now() / dayMs) * dayMs;
    const clock = movedClock(midnightMs + sentMs - Date.now());
    const setup = await openReplies({ clock });
    try {
      // The clock goes on while the gateway starts.
      clock.aheadMs = midnightMs + sentMs - Date.now();
      expect((await setup.gateway.call("MessageService/SendMessage", aSend())).status).toBe(200);
      await setup.gateway.waitForStates(1, ["delivered"], { event_type: "message.sent" });
      const [event] = await queryRows(setup.gateway.databaseUrl)(
        "SELECT occurred_at < $1 AS is_before FROM event WHERE type = 'message.sent'",
        [new Date(midnightMs)],
      );
      expect(event.is_before).toBe(sentMs < 0);
      const timestamp = String(midnightMs / 1_000 + echoSeconds);
      const [send] = setup.graph.messages.sends;
      expect(await setup.gateway.postBody(anEchoOf(send!, { timestamp }))).toBe(200);
      expect(await setup.gateway.deliveries({ event_type: "message.sent" })).toHaveLength(1);
    } finally {
      await setup.close();
    }
  });
});

test("a reply that waits for its place when the gateway stops goes out after the next start", async () => {
  const testDatabase = await openTestDatabase();
  const replies = { perNumberSecond: 1.25 };
  // What can be broken off lasts so long that a slow machine stops the gateway in time.
  const clock: Clock = {
    ...systemClock,
    sleep: (ms, signal) => systemClock.sleep(signal ? ms * 20 : ms, signal),
  };
  const setup = await openReplies({ databaseUrl: testDatabase.url, overrides: { replies }, clock });
  try {
    setup.answer.body = one;
    await setup.userWrites();
    await setup.waitForSends(1);
    await setup.userWrites({ from: "15558889999" });
    await setup.waitForScheduled(["sent", "sending"]);
    expect(setup.graph.messages.sends).toHaveLength(1);
    await setup.gateway.close();
    const states = await queryRows(testDatabase.url)("SELECT state FROM outgoing_message ORDER BY id");
    expect(states.map(({ state }) => state)).toEqual(["sent", "scheduled"]);
    const next = await startTestGateway({
      databaseUrl: testDatabase.url,
      env: { WHATSAPP_GRAPH_URL: setup.graph.url },
    });
    try {
      const sends = await setup.waitForSends(2);
      expect(sends.map(({ body }) => body.to)).toEqual([`+${customer.phone}`, "+15558889999"]);
    } finally {
      await next.close();
    }
  } finally {
    await setup.close();
    await testDatabase.close();
  }
});
