import { expect, test } from "vitest";
import { openTestDatabase } from "../helpers/database.ts";
import { spawnGateway } from "../helpers/gateway.ts";
import { openTestGraph } from "../helpers/graph.ts";
import { startReceiver } from "../helpers/receiver.ts";
import { waitFor } from "../helpers/wait.ts";
import { anInboundBody, aTextMessage, business } from "../helpers/whatsapp-bodies.ts";
import { accessToken, addClient, type Scheduled } from "./open-replies.ts";

/** Kills the gateway once `count` messages are at Graph, starts it again, and waits for the states. */
async function surviving(options: {
  messages: { text: string; delay: number }[];
  killAfter: number;
  hangs?: boolean;
  states: string[];
}) {
  const testDatabase = await openTestDatabase();
  const graph = await openTestGraph();
  graph.addNumber(business.phoneNumberId, accessToken);
  if (options.hangs) graph.messages.answerSends((_, number) => (number === 1 ? "hang" : "take"));
  const receiver = await startReceiver({ answer: { body: JSON.stringify({ messages: options.messages }) } });
  const gateway = await spawnGateway({ DATABASE_URL: testDatabase.url, WHATSAPP_GRAPH_URL: graph.url });
  try {
    await addClient(gateway);
    await gateway.createWebhook({ webhooks: receiver.url, schedule_activity: true, waiting_duration: 60 });
    const timestamp = String(Math.floor(Date.now() / 1000));
    await gateway.postBody(anInboundBody(aTextMessage({ id: "wamid.crash", timestamp })));
    const scheduled = async () => {
      const { body } = await gateway.call("MessageService/ListScheduledMessages", {});
      return (body.messages as Scheduled[]).reverse();
    };
    await waitFor("messages in the table", scheduled, (found) => found.length === options.messages.length);
    await waitFor(
      "messages at Graph",
      () => graph.messages.sends,
      (sends) => sends.length === options.killAfter,
    );
    if (!options.hangs) await waitFor("outcome", scheduled, (found) => found[0]!.state === "sent");
    await gateway.kill("SIGKILL");
    await gateway.restart();
    const messages = await waitFor(
      `messages that are ${options.states.join()}`,
      scheduled,
      (found) => found.map(({ state }) => state).join() === options.states.join(),
      40_000,
    );
    return { messages, sends: graph.messages.sends, attempts: receiver.requests };
  } finally {
    await gateway.close();
    await receiver.close();
    await graph.close();
    await testDatabase.close();
  }
}

test("kill -9 between the first and the second message: the second goes out once, on time", async () => {
  const { sends } = await surviving({
    messages: [
      { text: "one", delay: 0 },
      { text: "two", delay: 6_000 },
    ],
    killAfter: 1,
    states: ["sent", "sent"],
  });
  expect(sends.map(({ body }) => body.text.body)).toEqual(["one", "two"]);
  const apartMs = sends[1]!.receivedAt.getTime() - sends[0]!.receivedAt.getTime();
  expect(apartMs).toBeGreaterThan(5_800);
  expect(apartMs).toBeLessThan(6_300);
}, 60_000);

test("kill -9 between the first and the second message: the second goes out once, at once if late", async () => {
  const { sends } = await surviving({
    messages: [
      { text: "one", delay: 0 },
      { text: "two", delay: 300 },
    ],
    killAfter: 1,
    states: ["sent", "sent"],
  });
  expect(sends.map(({ body }) => body.text.body)).toEqual(["one", "two"]);
}, 60_000);

test("kill -9 while a message is under way: it is unknown, and not sent again", async () => {
  const { sends } = await surviving({
    messages: [{ text: "one", delay: 0 }],
    killAfter: 1,
    hangs: true,
    states: ["unknown"],
  });
  expect(sends).toHaveLength(1);
}, 60_000);
