/** What ends scheduled messages besides their webhook: the end of their client or tenant, and of the number. */

import { expect, test } from "vitest";
import { operatorKey } from "../helpers/gateway.ts";
import { queryRows } from "../helpers/query-rows.ts";
import { waitFor } from "../helpers/wait.ts";
import { aChange, anEnvelope, business, customer } from "../helpers/whatsapp-bodies.ts";
import { accessToken, clientRef, openReplies, type RepliesSetup } from "./open-replies.ts";

const later = { messages: [{ text: "later", delay: 50_000 }] };

const statesOf = (setup: RepliesSetup) =>
  queryRows(setup.gateway.databaseUrl)("SELECT state, reason FROM outgoing_message ORDER BY position");

test("DeleteClient is refused while messages are scheduled, and cancels them at once with force", async () => {
  const setup = await openReplies();
  try {
    setup.answer.body = later;
    await setup.userWrites();
    await setup.waitForScheduled(["scheduled"]);
    const remove = (force: boolean) =>
      setup.gateway.call("ClientService/DeleteClient", { client_ref: clientRef, force });
    const refused = await remove(false);
    expect(refused.body.code).toBe("failed_precondition");
    expect(refused.body.message).toContain("1 messages are scheduled");
    expect((await remove(true)).status).toBe(200);
    expect(await statesOf(setup)).toEqual([{ state: "canceled", reason: "client_deleted" }]);
  } finally {
    await setup.close();
  }
});

test("DeleteTenant with force cancels what is scheduled at once", async () => {
  const setup = await openReplies();
  try {
    const asTenant = async (method: string, body: unknown, tenant: string | null) => {
      const response = await fetch(`${setup.gateway.url()}/posthorn.v1.${method}`, {
        method: "POST",
        headers: {
          "Content-Type": "application/json",
          Authorization: `Bearer ${operatorKey}`,
          ...(tenant !== null && { "Posthorn-Tenant": tenant }),
        },
        body: JSON.stringify(body),
      });
      expect([response.status, method]).toEqual([200, method]);
    };
    await asTenant("TenantService/CreateTenant", { name: "acme" }, null);
    const phone_numbers = [{ phone_number_id: "620000000000077" }];
    await asTenant(
      "ClientService/CreateClient",
      { client_ref: "a", phone_numbers, access_token: accessToken },
      "acme",
    );
    const webhook = {
      webhooks: setup.receiver.url,
      status: true,
      incoming: true,
      schedule_activity: true,
      waiting_duration: 60,
      active_signature: false,
      transformer: "raw",
    };
    await asTenant("WebhookService/CreateWebhook", webhook, "acme");
    setup.answer.body = later;
    const change = aChange({ messages: [{ ...aMessageNow(), id: "wamid.acme" }] });
    (change.value as { metadata: object }).metadata = phone_numbers[0]!;
    expect(await setup.gateway.postBody(anEnvelope([change]))).toBe(200);
    await waitFor(
      "scheduled message",
      () => statesOf(setup),
      (rows) => rows.length === 1,
    );
    await asTenant("TenantService/DeleteTenant", { name: "acme", force: true }, null);
    expect(await statesOf(setup)).toEqual([{ state: "canceled", reason: "webhook_deleted" }]);
  } finally {
    await setup.close();
  }
});

test("an answer to an event that is part of no conversation schedules nothing, and the log says so", async () => {
  const setup = await openReplies();
  try {
    setup.answer.body = later;
    const unsupported = { ...aMessageNow(), id: "wamid.poll", type: "unsupported", text: undefined };
    expect(await setup.gateway.postBody(anEnvelope([aChange({ messages: [unsupported] })]))).toBe(200);
    const [delivery] = await setup.gateway.waitForStates(1, ["delivered"]);
    const [attempt] = (await setup.gateway.attempts(delivery!.id)) as { reply_fault?: string }[];
    expect(attempt!.reply_fault).toBe(
      "messages: cannot be sent, since this event is part of no conversation",
    );
    expect(await setup.scheduled()).toEqual([]);
  } finally {
    await setup.close();
  }
});

test("a number that leaves its client sends nothing more for it", async () => {
  const setup = await openReplies();
  try {
    setup.answer.body = { messages: [{ text: "soon", delay: 1_500 }] };
    await setup.userWrites();
    await setup.waitForScheduled(["scheduled"]);
    const removal = { client_ref: clientRef, update_mask: "phone_numbers" };
    expect((await setup.gateway.call("ClientService/UpdateClient", removal)).status).toBe(200);
    const [message] = await setup.waitForScheduled(["canceled"]);
    expect(message!.reason).toBe("number_removed");
    expect(setup.graph.messages.sends).toEqual([]);
  } finally {
    await setup.close();
  }
});

function aMessageNow(): Record<string, unknown> {
  const timestamp = String(Math.floor(Date.now() / 1000));
  return { from: customer.phone, timestamp, type: "text", text: { body: "Hi" }, to: business.phone };
}
