/** The messages of one answer among themselves: each waits for the one before, and none waits for ever. */

import pg from "pg";
import { expect, test } from "vitest";
import { aStatusBody } from "../helpers/graph-messages.ts";
import { queryRows } from "../helpers/query-rows.ts";
import { waitFor } from "../helpers/wait.ts";
import { movedClock } from "./moved-clock.ts";
import { openReplies } from "./open-replies.ts";

const textsOf = (sends: { body: { text?: { body: string } } }[]) => sends.map(({ body }) => body.text?.body);

test("the one behind two that end at the same moment goes out", async () => {
  const setup = await openReplies();
  const holder = new pg.Client({ connectionString: setup.gateway.databaseUrl });
  try {
    const isCancelWaiting = Promise.withResolvers<void>();
    setup.graph.messages.answerSends(async (_, number) => {
      if (number === 1) await isCancelWaiting.promise;
      return "take" as const;
    });
    setup.answer.body = {
      messages: ["one", "two", "three"].map((text) => ({ text, delay: 0 })),
    };
    await setup.userWrites();
    const [, second] = await setup.waitForScheduled(["sending", "scheduled", "scheduled"]);
    await setup.waitForSends(1);
    // Both ends stop at this row, the canceling first, and go on together.
    await holder.connect();
    await holder.query("BEGIN");
    await holder.query("SELECT FROM outgoing_message WHERE id = $1 FOR UPDATE", [second!.id]);
    const canceled = setup.gateway.call("MessageService/CancelScheduledMessage", { id: second!.id });
    const query = queryRows(setup.gateway.databaseUrl);
    const waiting = async () =>
      (
        await query(`SELECT count(*)::int AS count FROM pg_stat_activity
          WHERE datname = current_database() AND wait_event_type = 'Lock'`)
      )[0].count as number;
    await waitFor("the canceling at the lock", waiting, (count) => count >= 1);
    isCancelWaiting.resolve();
    await waitFor("both at the lock", waiting, (count) => count >= 2);
    await holder.query("ROLLBACK");
    expect((await canceled).body.message.state).toBe("canceled");
    await setup.waitForScheduled(["sent", "canceled", "sent"]);
    expect(textsOf(setup.graph.messages.sends)).toEqual(["one", "three"]);
  } finally {
    await holder.end();
    await setup.close();
  }
});

const two = {
  messages: [
    { text: "one", delay: 0 },
    { text: "two", delay: 0 },
  ],
};

test("the one behind an unclear outcome waits a minute for a status, then goes out", async () => {
  const clock = movedClock();
  const setup = await openReplies({ clock });
  try {
    setup.graph.messages.answerSends((_, number) => (number === 1 ? "cut" : "take"));
    setup.answer.body = two;
    await setup.userWrites();
    await setup.waitForScheduled(["unknown", "scheduled"]);
    const waits = await queryRows(setup.gateway.databaseUrl)(
      `SELECT extract(epoch FROM second.ready_at - first.settled_at)::float8 AS seconds
       FROM outgoing_message first JOIN outgoing_message second USING (delivery_id)
       WHERE first.position = 0 AND second.position = 1`,
    );
    expect(waits).toEqual([{ seconds: 60 }]);
    expect(setup.graph.messages.sends).toHaveLength(1);
    clock.aheadMs = 60_000;
    await setup.waitForScheduled(["unknown", "sent"]);
    expect(textsOf(setup.graph.messages.sends)).toEqual(["one", "two"]);
  } finally {
    await setup.close();
  }
});

test("the one behind an unclear outcome goes out as soon as a status clears it up", async () => {
  const setup = await openReplies();
  try {
    setup.graph.messages.answerSends((_, number) => (number === 1 ? "cut" : "take"));
    setup.answer.body = two;
    await setup.userWrites();
    await setup.waitForScheduled(["unknown", "scheduled"]);
    await setup.gateway.postBody(aStatusBody(setup.graph.messages.sends[0]!, "sent"));
    await setup.waitForScheduled(["sent", "sent"]);
  } finally {
    await setup.close();
  }
});

test("a new access token does not let the one behind an unclear outcome overtake it", async () => {
  const setup = await openReplies();
  try {
    setup.graph.messages.answerSends((_, number) => (number === 1 ? "cut" : "take"));
    setup.answer.body = two;
    await setup.userWrites();
    await setup.waitForScheduled(["unknown", "scheduled"]);
    const query = queryRows(setup.gateway.databaseUrl);
    const readyAt = "SELECT ready_at FROM outgoing_message WHERE position = 1";
    const before = await query(readyAt);
    const update = { client_ref: "partner-123", access_token: "token-of-partner-123" };
    expect((await setup.gateway.call("ClientService/UpdateClient", update)).status).toBe(200);
    expect(await query(readyAt)).toEqual(before);
  } finally {
    await setup.close();
  }
});
