/** A gateway, an endpoint and WhatsApp users who write to it, for tests of what conversations become in payloads. */

import { afterAll, afterEach, beforeAll, beforeEach, expect } from "vitest";
import { startTestGateway, type TestGateway } from "../helpers/gateway.ts";
import { type QueryRows, queryRows } from "../helpers/query-rows.ts";
import { type Receiver, startReceiver } from "../helpers/receiver.ts";
import { aChange, aContact, anEnvelope, aTextMessage, type Json } from "../helpers/whatsapp-bodies.ts";

/** Of the test file; set once its tests run. */
export let gateway: TestGateway;
/** A new one for each test; its webhooks go with it. */
export let receiver: Receiver;
/** Looks into the gateway's database. */
export let rows: QueryRows;

/** To be called at the top of a test file. */
export function useConversations(): void {
  beforeAll(async () => {
    gateway = await startTestGateway();
    rows = queryRows(gateway.databaseUrl);
  });
  afterAll(() => gateway.close());
  beforeEach(async () => {
    receiver = await startReceiver();
  });
  afterEach(async () => {
    const { body } = await gateway.call("WebhookService/ListWebhooks", {});
    for (const { id } of body.webhooks) await gateway.call("WebhookService/DeleteWebhook", { id });
    await receiver.close();
  });
}

let userCount = 0;
export const aPhone = () => `1555${String(2_000_000 + ++userCount)}`;
export const aBsuid = () => `US.${9_000_000 + ++userCount}`;
let messageCount = 0;
export const anId = () => `wamid.c${++messageCount}`;

export interface Sender {
  phone?: string;
  bsuid?: string;
  name?: string;
}

export function fromUser({ phone, bsuid, name }: Sender, message: Json): Json {
  const contact = aContact({ wa_id: phone, user_id: bsuid, ...(name && { profile: { name } }) });
  const messages = [{ ...message, from: phone, from_user_id: bsuid }];
  return anEnvelope([aChange({ contacts: [contact], messages })]);
}

export async function say(sender: Sender, body: string, overrides: Json = {}): Promise<string> {
  const id = anId();
  expect(await gateway.postBody(fromUser(sender, aTextMessage({ id, body, ...overrides })))).toBe(200);
  return id;
}

export async function call(method: string, body: unknown) {
  const answer = await gateway.call(`ContactService/${method}`, body);
  if (answer.status !== 200) throw new Error(`${method}: ${answer.status} ${JSON.stringify(answer.body)}`);
  return answer.body;
}
export const contactsOf = async (filter: Json): Promise<Json[]> =>
  (await call("ListContacts", filter)).contacts;
export const conversationOf = async (userId: unknown, fields: Json = {}) =>
  (await call("GetConversation", { user_id: userId, ...fields })).messages as Json[];
export const contents = (messages: Json[]) => messages.map(({ content }) => content);

/** Payloads by the content of their newest message. */
export async function payloads(count: number): Promise<Map<string, Json & { last_messages: Json[] }>> {
  const requests = await receiver.waitForRequests(count);
  const bodies = requests.map((request) => JSON.parse(request.body.toString()));
  return new Map(bodies.map((body) => [body.last_messages[0].content, body]));
}
