/** What holds numbers and recipients back, and what lets them go again. */

import { expect, test } from "vitest";
import { graphError } from "../helpers/graph.ts";
import { queryRows } from "../helpers/query-rows.ts";
import { waitFor } from "../helpers/wait.ts";
import { business, customer } from "../helpers/whatsapp-bodies.ts";
import { movedClock } from "./moved-clock.ts";
import { accessToken, aSend, clientRef, openReplies, type RepliesSetup } from "./open-replies.ts";

const one = { messages: [{ text: "one", delay: 0 }] };
const otherPhone = "15558889999";
const refusal = graphError(401, 190, "Invalid OAuth access token");

async function stopReason({ gateway }: RepliesSetup): Promise<string | undefined> {
  const { body } = await gateway.call("ClientService/GetClient", { client_ref: clientRef });
  return body.client.phone_numbers[0].sends_stopped_reason;
}

test("a number that was stopped is tried again with one message, and with the others once that went out", async () => {
  const clock = movedClock();
  const setup = await openReplies({ clock });
  try {
    const looked = Promise.withResolvers<void>();
    setup.graph.messages.answerSends(async (_, number) => {
      if (number === 1) return refusal;
      await looked.promise;
      return "take";
    });
    setup.answer.body = one;
    await setup.userWrites();
    await waitFor(
      "stop",
      () => stopReason(setup),
      (reason) => reason === "access_token_refused",
    );
    await setup.userWrites({ from: otherPhone });
    await setup.waitForScheduled(["scheduled", "scheduled"]);
    const held = `SELECT FROM outgoing_message WHERE ready_at > $1`;
    await waitFor(
      "two messages that wait",
      () => queryRows(setup.gateway.databaseUrl)(held, [new Date(Date.now() + 60_000)]),
      (rows) => rows.length === 2,
    );
    clock.aheadMs = 15 * 60_000;
    await setup.waitForSends(2);
    expect(await stopReason(setup)).toBe("access_token_refused");
    looked.resolve();
    await waitFor(
      "end of the stop",
      () => stopReason(setup),
      (reason) => reason === undefined,
    );
    expect(setup.graph.messages.sends).toHaveLength(2);
    clock.aheadMs += 60_000;
    await setup.waitForScheduled(["sent", "sent"]);
  } finally {
    await setup.close();
  }
}, 30_000);

test("a clock that was ahead and is set right holds nothing back", async () => {
  const clock = movedClock(3_600_000);
  const replies = { pairBurst: 3, pairIntervalMs: 100 };
  const setup = await openReplies({ clock, overrides: { replies } });
  try {
    expect((await setup.gateway.call("MessageService/SendMessage", aSend())).status).toBe(200);
    clock.aheadMs = 0;
    expect((await setup.gateway.call("MessageService/SendMessage", aSend())).status).toBe(200);
  } finally {
    await setup.close();
  }
});

test("a number that another client takes over is not stopped for it", async () => {
  const setup = await openReplies();
  try {
    setup.graph.messages.answerSends((_, number) => (number === 1 ? refusal : "take"));
    await setup.gateway.call("MessageService/SendMessage", aSend());
    expect(await stopReason(setup)).toBe("access_token_refused");
    const deletion = { client_ref: clientRef, force: true };
    expect((await setup.gateway.call("ClientService/DeleteClient", deletion)).status).toBe(200);
    const phone_numbers = [{ phone_number_id: business.phoneNumberId }];
    const next = { client_ref: "next", phone_numbers, access_token: "token-of-next" };
    expect((await setup.gateway.call("ClientService/CreateClient", next)).status).toBe(200);
    const sent = await setup.gateway.call("MessageService/SendMessage", aSend({ client_ref: "next" }));
    expect(sent.status).toBe(200);
  } finally {
    await setup.close();
  }
});

test("a refusal of the former access token does not stop a number that has a new one", async () => {
  const setup = await openReplies();
  try {
    const came = Promise.withResolvers<void>();
    const changed = Promise.withResolvers<void>();
    setup.graph.messages.answerSends(async (send) => {
      if (send.accessToken !== accessToken) return "take";
      came.resolve();
      await changed.promise;
      return refusal;
    });
    setup.answer.body = one;
    await setup.userWrites();
    await came.promise;
    const update = { client_ref: clientRef, access_token: "a-new-token" };
    expect((await setup.gateway.call("ClientService/UpdateClient", update)).status).toBe(200);
    changed.resolve();
    await setup.waitForScheduled(["sent"]);
    expect(await stopReason(setup)).toBeUndefined();
  } finally {
    await setup.close();
  }
});

test("a status of 429 without Graph's code holds the number back instead of failing the message", async () => {
  const setup = await openReplies();
  try {
    setup.graph.messages.answerSends((_, number) =>
      number === 1 ? { status: 429, body: "Too Many Requests" } : "take",
    );
    setup.answer.body = one;
    await setup.userWrites();
    await setup.waitForSends(2, 15_000);
    await setup.waitForScheduled(["sent"]);
  } finally {
    await setup.close();
  }
}, 30_000);

test("a call is told how long WhatsApp's limit holds its recipient", async () => {
  const setup = await openReplies();
  try {
    setup.graph.messages.answerSends(graphError(400, 131056, "Pair rate limit hit"));
    const send = () => setup.gateway.call("MessageService/SendMessage", aSend({ to: customer.phone }));
    const limited = await send();
    expect([limited.status, limited.headers.get("Retry-After")]).toEqual([429, "1"]);
  } finally {
    await setup.close();
  }
});

test("messages to one recipient that are refused together count as one refusal", async () => {
  const setup = await openReplies();
  try {
    const all = Promise.withResolvers<void>();
    setup.graph.messages.answerSends(async (_, number) => {
      if (number === 4) all.resolve();
      await all.promise;
      return graphError(400, 131056, "Pair rate limit hit");
    });
    const send = () => setup.gateway.call("MessageService/SendMessage", aSend());
    const answers = await Promise.all([send(), send(), send(), send()]);
    const waits = answers.map(({ headers }) => Number(headers.get("Retry-After")));
    // Each one in a row would have to wait four times as long as the one before: 1, 4, 16 and 64 seconds.
    expect(Math.min(...waits)).toBe(1);
    expect(Math.max(...waits)).toBeLessThanOrEqual(4);
  } finally {
    await setup.close();
  }
});

test("a reply that was held back often is not given up at the first failure of WhatsApp's own", async () => {
  const clock = movedClock();
  const setup = await openReplies({ clock });
  try {
    setup.graph.messages.answerSends((_, number) => {
      if (number === 1) return graphError(400, 130429, "Rate limit hit");
      return number === 2 ? graphError(400, 131016, "Service unavailable") : "take";
    });
    setup.answer.body = one;
    await setup.userWrites();
    await setup.waitForSends(1);
    await setup.waitForScheduled(["scheduled"]);
    // As if it had met with that all day long.
    await queryRows(setup.gateway.databaseUrl)("UPDATE outgoing_message SET attempt_count = 20");
    clock.aheadMs = 10_000;
    await setup.waitForSends(2);
    await setup.waitForScheduled(["sent"]);
  } finally {
    await setup.close();
  }
}, 30_000);
