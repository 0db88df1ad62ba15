/** A scene of its own: an endpoint answers a message with three timed replies, which go out over WhatsApp and are read. */

import type { ConversationMessage } from "../../gen/posthorn/v1/contact_service_pb.ts";
import type { ScheduledMessage } from "../../gen/posthorn/v1/message_service_pb.ts";
import type { TestGraph } from "../helpers/graph.ts";
import type { GraphSend } from "../helpers/graph-messages.ts";
import { type ReceivedRequest, startReceiver } from "../helpers/receiver.ts";
import { waitFor } from "../helpers/wait.ts";
import { aChange, anEnvelope, type Json, toBytes } from "../helpers/whatsapp-bodies.ts";
import type { Business, Person } from "./expected.ts";
import type { Gateway } from "./gateway.ts";
import * as print from "./print.ts";

export const question = "Do you open on Sunday?";
/** What the endpoint answers to every request; delays in milliseconds after the answer. */
export const replies = [
  { text: "Hello, dear Fay!", delay: 0 },
  { text: "On Sunday we are open from noon to four.", delay: 400 },
  { text: "Shall we keep a seat for you?", delay: 900 },
];
export const statuses = ["sent", "delivered", "read"];

/** All that was seen of the scene. */
export interface RepliesAccount {
  /** What came to the endpoint: the message, the replies sent, their statuses. */
  requests: ReceivedRequest[];
  sends: GraphSend[];
  /** By their place in the answer. */
  scheduled: ScheduledMessage[];
  conversation: ConversationMessage[];
  /** How posts were answered other than with 200. */
  wrongAnswers: string[];
  /** Signing secret and access token. */
  secrets: string[];
}

const branch: Business = { phone: "15557770155", phoneNumberId: "620000000000003" };
const fay: Person = { name: "Fay Lund", phone: "4790000123", bsuid: null };
const clientRef = "branch";
const accessToken = "token-of-the-branch";
const boundMs = 3_000;

/** Other webhooks of the tenant must be off, since the events of this scene are theirs too. */
export async function playReplies(gateway: Gateway, graph: TestGraph): Promise<RepliesAccount> {
  const receiver = await startReceiver({ answer: { body: JSON.stringify({ messages: replies }) } });
  try {
    graph.addNumber(branch.phoneNumberId, accessToken, `+${branch.phone}`);
    await gateway.clients.createClient({
      clientRef,
      phoneNumbers: [{ phoneNumberId: branch.phoneNumberId, displayPhoneNumber: `+${branch.phone}` }],
      accessToken,
    });
    const { id: webhookId, signatureSecret = "" } = await gateway.webhooks.createWebhook({
      webhooks: receiver.url,
      status: true,
      incoming: true,
      outgoing: true,
      scheduleActivity: true,
      waitingDuration: 15,
      activeSignature: true,
      transformer: "raw",
      eventTypes: ["message.received", "message.sent", "message.status"],
      clientRef,
    });
    print.printFact(`webhook ${webhookId}`, `${receiver.url}  its answers schedule replies`);

    const wrongAnswers: string[] = [];
    const post = async (title: string, body: Json) => {
      print.printPosted(title);
      const { status } = await gateway.post(toBytes(body));
      if (status !== 200) wrongAnswers.push(`${title}: ${status}`);
    };
    await post(`${fay.name} asks: ${question}`, aQuestion());
    const { sends } = graph.messages;
    await reach(
      () => sends,
      ({ length }) => length >= replies.length,
    );
    const answeredMs = receiver.requests[0]?.receivedAt.getTime() ?? Number.NaN;
    for (const { body, receivedAt } of sends) {
      const afterMs = receivedAt.getTime() - answeredMs;
      print.printNote(`WhatsApp is asked to send, ${afterMs} ms after the answer: “${body.text?.body}”`);
    }
    for (const status of statuses) await post(`the three are ${status}`, aStatusBody(sends, status));

    const requestCount = 1 + replies.length * (1 + statuses.length);
    await reach(
      () => receiver.requests,
      ({ length }) => length >= requestCount,
    );
    await reach(
      () => gateway.deliveries.listDeliveries({ webhookId, pageSize: 500 }),
      ({ deliveries }) => deliveries.every(({ state }) => state === "delivered"),
    );
    const { messages } = await gateway.messages.listScheduledMessages({ clientRef });
    const { contacts } = await gateway.contacts.listContacts({ clientRef });
    const { messages: conversation } = await gateway.contacts.getConversation({
      userId: contacts[0]?.userId ?? "",
      phoneNumberId: branch.phoneNumberId,
    });
    printConversation(conversation);
    return {
      requests: receiver.requests,
      sends,
      scheduled: messages.toSorted((one, other) => one.position - other.position),
      conversation,
      wrongAnswers,
      secrets: [signatureSecret, accessToken],
    };
  } finally {
    await receiver.close();
  }
}

/** Waits for what the checks will find missing if it does not come. */
async function reach<T>(look: () => T | Promise<T>, isWanted: (seen: T) => boolean): Promise<void> {
  const endMs = performance.now() + boundMs;
  await waitFor(
    "end of the wait",
    look,
    (seen) => isWanted(seen) || performance.now() > endMs,
    boundMs + 2_000,
  );
}

function aQuestion(): Json {
  const message = {
    from: fay.phone,
    id: "wamid.demo-question",
    timestamp: String(Math.floor(Date.now() / 1000)),
    text: { body: question },
    type: "text",
  };
  return aBody({ contacts: [{ profile: { name: fay.name }, wa_id: fay.phone }], messages: [message] });
}

function aStatusBody(sends: GraphSend[], status: string): Json {
  const timestamp = String(Math.floor(Date.now() / 1000));
  return aBody({
    statuses: sends.map(({ wamid, body }) => ({
      id: wamid,
      status,
      timestamp,
      recipient_id: fay.phone,
      biz_opaque_callback_data: body.biz_opaque_callback_data,
    })),
  });
}

function aBody(lists: Json): Json {
  const metadata = { display_phone_number: branch.phone, phone_number_id: branch.phoneNumberId };
  return anEnvelope([aChange({ metadata, ...lists })], { id: "510000000000003" });
}

function printConversation(conversation: ConversationMessage[]): void {
  print.printHeading(`The conversation with ${fay.name}, newest first`);
  print.printTable([
    ["sender", "status", "content"],
    ...conversation.map(({ sender, status = "", content }) => [sender, status, content]),
  ]);
}
