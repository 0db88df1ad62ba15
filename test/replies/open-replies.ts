/** A gateway with a client that may send, a stand-in for Graph, and a webhook whose endpoint schedules replies. */

import { startTestGateway, type TestGateway, type TestGatewayOptions } from "../helpers/gateway.ts";
import { openTestGraph, type TestGraph } from "../helpers/graph.ts";
import type { GraphSend } from "../helpers/graph-messages.ts";
import { type Receiver, startReceiver } from "../helpers/receiver.ts";
import { waitFor } from "../helpers/wait.ts";
import { anInboundBody, aTextMessage, business, customer } from "../helpers/whatsapp-bodies.ts";

export const accessToken = "token-of-partner-123";
export const clientRef = "partner-123";

export interface Scheduled {
  id: string;
  text: string;
  state: string;
  position: number;
  reason?: string;
  status?: string;
  message_id?: string;
  error_code?: number;
  delivery_id: string;
  to: string;
}

export interface RepliesSetup {
  gateway: TestGateway;
  graph: TestGraph;
  /** What the endpoint answers to everything from now on. */
  answer: { body: unknown; delayMs?: number };
  receiver: Receiver;
  webhookId: number;
  /** A message of the user that is written now; gives its id. */
  userWrites(overrides?: Record<string, unknown>): Promise<string>;
  scheduled(filter?: Record<string, unknown>): Promise<Scheduled[]>;
  /** Settles once there are so many scheduled messages, in these states by their place. */
  waitForScheduled(states: string[], boundMs?: number): Promise<Scheduled[]>;
  waitForSends(count: number, boundMs?: number): Promise<GraphSend[]>;
  close(): Promise<void>;
}

let messageCount = 0;

export async function openReplies(
  options: TestGatewayOptions & { webhook?: Record<string, unknown> } = {},
): Promise<RepliesSetup> {
  const graph = await openTestGraph();
  graph.addNumber(business.phoneNumberId, accessToken);
  const answer: RepliesSetup["answer"] = { body: {} };
  const receiver = await startReceiver({
    answer: () => ({
      body: typeof answer.body === "string" ? answer.body : JSON.stringify(answer.body),
      delayMs: answer.delayMs ?? 0,
    }),
  });
  const gateway = await startTestGateway({
    ...options,
    env: { WHATSAPP_GRAPH_URL: graph.url, ...options.env },
  });
  await addClient(gateway);
  const { id: webhookId } = await gateway.createWebhook({
    webhooks: receiver.url,
    outgoing: true,
    schedule_activity: true,
    waiting_duration: 60,
    event_types: ["message.received", "message.sent", "message.status"],
    ...options.webhook,
  });

  async function scheduled(filter: Record<string, unknown> = {}): Promise<Scheduled[]> {
    const { body } = await gateway.call("MessageService/ListScheduledMessages", filter);
    return (body.messages as Scheduled[]).reverse();
  }

  return {
    gateway,
    graph,
    answer,
    receiver,
    webhookId,
    async userWrites(overrides = {}) {
      messageCount += 1;
      const id = `wamid.in-${messageCount}`;
      const timestamp = String(Math.floor(Date.now() / 1000));
      const status = await gateway.postBody(anInboundBody(aTextMessage({ id, timestamp, ...overrides })));
      if (status !== 200) throw new Error(`the intake answered ${status}`);
      return id;
    },
    scheduled,
    waitForScheduled: (states, boundMs) =>
      waitFor(
        `messages that are ${states.join(", ")}`,
        () => scheduled(),
        (found) => found.map(({ state }) => state).join() === states.join(),
        boundMs,
      ),
    waitForSends: (count, boundMs) =>
      waitFor(
        `${count} messages at Graph`,
        () => graph.messages.sends,
        (found) => found.length >= count,
        boundMs,
      ),
    async close() {
      await gateway.close();
      await receiver.close();
      await graph.close();
    },
  };
}

export async function addClient(gateway: Pick<TestGateway, "call">): Promise<void> {
  const { status, body } = await gateway.call("ClientService/CreateClient", {
    client_ref: clientRef,
    phone_numbers: [{ phone_number_id: business.phoneNumberId, display_phone_number: `+${business.phone}` }],
    waba_ids: [business.wabaId],
    access_token: accessToken,
  });
  if (status !== 200) throw new Error(JSON.stringify(body));
}

/** A text to the customer. */
export function aSend(changes: Record<string, unknown> = {}): Record<string, unknown> {
  return { client_ref: clientRef, to: `+${customer.phone}`, text: { body: "Hello from us" }, ...changes };
}
