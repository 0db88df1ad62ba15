/** The scene before the first: each endpoint is registered as a webhook. */

import type { EndpointName } from "./expected.ts";
import type { Gateway } from "./gateway.ts";
import * as print from "./print.ts";
import type { Endpoint } from "./receiver.ts";

/** Gives the ids of the webhooks; each endpoint knows its secret from then on. */
export async function registerAll(gateway: Gateway, endpoints: Endpoint[]): Promise<number[]> {
  const webhookIds: number[] = [];
  for (const endpoint of endpoints) webhookIds.push(await register(gateway, endpoint));
  return webhookIds;
}

const wishes: Record<EndpointName, { outgoing: boolean; eventTypes: string[] }> = {
  intelli: { outgoing: true, eventTypes: [] },
  insights: { outgoing: true, eventTypes: [] },
  raw: { outgoing: false, eventTypes: ["whatsapp.*"] },
};

async function register(gateway: Gateway, endpoint: Endpoint): Promise<number> {
  const created = await gateway.webhooks.createWebhook({
    webhooks: endpoint.url,
    status: true,
    incoming: true,
    scheduleActivity: false,
    waitingDuration: 0,
    activeSignature: endpoint.name !== "raw",
    transformer: endpoint.name,
    ...wishes[endpoint.name],
  });
  endpoint.secret = created.signatureSecret ?? null;
  const signing = created.activeSignature ? "signed" : `unsigned, only ${created.eventTypes}`;
  print.printFact(`webhook ${created.id}`, `${endpoint.name.padEnd(9)} ${endpoint.url}  ${signing}`);
  return created.id;
}
