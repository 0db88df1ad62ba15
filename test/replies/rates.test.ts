import { expect, test } from "vitest";
import { openTestDatabase } from "../helpers/database.ts";
import { startTestGateway } from "../helpers/gateway.ts";
import { customer } from "../helpers/whatsapp-bodies.ts";
import { aSend, openReplies } from "./open-replies.ts";

test("a number's rate holds for two gateways together", async () => {
  const testDatabase = await openTestDatabase();
  const replies = { perNumberSecond: 20 };
  const setup = await openReplies({ databaseUrl: testDatabase.url, overrides: { replies } });
  const other = await startTestGateway({
    databaseUrl: testDatabase.url,
    env: { WHATSAPP_GRAPH_URL: setup.graph.url },
    overrides: { replies },
  });
  try {
    const answers = await Promise.all(
      Array.from({ length: 16 }, (_, index) =>
        (index % 2 === 0 ? setup.gateway : other).call(
          "MessageService/SendMessage",
          aSend({ to: `+1555888${1000 + index}` }),
        ),
      ),
    );
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
    const times = setup.graph.messages.sends
      .map(({ receivedAt }) => receivedAt.getTime())
      .sort((a, b) => a - b);
    // Sixteen messages, 50 ms apart, whose way to the server varies; two gateways that did not share the rate would be
    // done after 350 ms.
    expect(times.at(-1)! - times[0]!).toBeGreaterThan(500);
  } finally {
    await other.close();
    await setup.close();
    await testDatabase.close();
  }
});

test("a recipient gets a burst, then has to wait, and others do not", async () => {
  const setup = await openReplies({ overrides: { replies: { pairBurst: 3, pairIntervalMs: 6_000 } } });
  try {
    const send = (to: string) => setup.gateway.call("MessageService/SendMessage", aSend({ to }));
    for (let count = 0; count < 3; count++) expect((await send(customer.phone)).status).toBe(200);
    const limited = await send(customer.phone);
    expect([limited.status, limited.body.code]).toEqual([429, "resource_exhausted"]);
    const waitSeconds = Number(limited.headers.get("Retry-After"));
    expect(waitSeconds).toBeGreaterThan(3);
    expect(waitSeconds).toBeLessThanOrEqual(6);
    expect((await send("15558889999")).status).toBe(200);
    expect(setup.graph.messages.sends).toHaveLength(4);
  } finally {
    await setup.close();
  }
});

test("replies to a recipient wait for their turn instead of failing", async () => {
  const setup = await openReplies({ overrides: { replies: { pairBurst: 1, pairIntervalMs: 700 } } });
  try {
    setup.answer.body = {
      messages: [
        { text: "one", delay: 0 },
        { text: "two", delay: 0 },
        { text: "three", delay: 0 },
      ],
    };
    await setup.userWrites();
    const sends = await setup.waitForSends(3);
    const times = sends.map(({ receivedAt }) => receivedAt.getTime());
    expect(sends.map(({ body }) => body.text.body)).toEqual(["one", "two", "three"]);
    expect(times[1]! - times[0]!).toBeGreaterThan(640);
    expect(times[2]! - times[1]!).toBeGreaterThan(640);
  } finally {
    await setup.close();
  }
});

test("requests under way at one moment do not go out twice when the gateway stops", async () => {
  const testDatabase = await openTestDatabase();
  const setup = await openReplies({ databaseUrl: testDatabase.url });
  try {
    setup.graph.messages.answerSends({ delayMs: 300 });
    setup.answer.body = {
      messages: [
        { text: "one", delay: 0 },
        { text: "two", delay: 0 },
      ],
    };
    await setup.userWrites();
    await setup.waitForSends(1);
    await setup.gateway.close();
    const next = await startTestGateway({
      databaseUrl: testDatabase.url,
      env: { WHATSAPP_GRAPH_URL: setup.graph.url },
    });
    try {
      await setup.waitForSends(2);
      expect(setup.graph.messages.sends.map(({ body }) => body.text.body)).toEqual(["one", "two"]);
    } finally {
      await next.close();
    }
  } finally {
    await setup.close();
    await testDatabase.close();
  }
});

test("two gateways send each reply once, and those of one answer in order", async () => {
  const testDatabase = await openTestDatabase();
  const setup = await openReplies({ databaseUrl: testDatabase.url });
  const other = await startTestGateway({
    databaseUrl: testDatabase.url,
    env: { WHATSAPP_GRAPH_URL: setup.graph.url },
  });
  try {
    const texts = ["one", "two", "three"];
    setup.answer.body = { messages: texts.map((text) => ({ text, delay: 0 })) };
    const phones = Array.from({ length: 12 }, (_, index) => `1555888${2_000 + index}`);
    for (const from of phones) await setup.userWrites({ from });
    await setup.waitForScheduled(
      phones.flatMap(() => texts.map(() => "sent")),
      30_000,
    );
    const { sends } = setup.graph.messages;
    expect(new Set(sends.map(({ body }) => body.biz_opaque_callback_data)).size).toBe(sends.length);
    for (const phone of phones) {
      const ours = sends.filter(({ body }) => body.to === `+${phone}`);
      expect(ours.map(({ body }) => body.text.body)).toEqual(texts);
    }
  } finally {
    await other.close();
    await setup.close();
    await testDatabase.close();
  }
}, 60_000);
