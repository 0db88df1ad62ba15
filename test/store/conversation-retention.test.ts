import pino from "pino";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createHousekeeper } from "../../server/store/housekeeping.ts";
import { createRetention } from "../../server/store/retention.ts";
import { manualClock } from "../helpers/manual-clock.ts";
import { openStore, type Store, storeNow } from "./open-store.ts";

const dayMs = 86_400_000;
const daysAgo = (days: number) => new Date(storeNow.getTime() - days * dayMs);
const clock = manualClock(storeNow);
const log = pino({ level: "silent" });

let store: Store;
let clientId: number;
let numberId: number;
beforeAll(async () => {
  store = await openStore();
  ({ clientId, numberId } = await store.addClient("shop"));
});
afterAll(() => store.close());

async function sweep(conversationDays: number): Promise<void> {
  const parts = { database: store.database, clock, log };
  const retention = createRetention(
    { ...parts, failureToldTenants: () => [], onExpired: () => undefined },
    { logDays: 30, conversationDays, sweepMs: 1, retryMs: 1 },
  );
  await retention.sweep();
  await retention.close();
  const housekeeper = createHousekeeper(parts, { logDays: 30, conversationDays, auditDays: 400 });
  await housekeeper.sweep();
  await housekeeper.close();
}

let contactCount = 0;
async function addContact(updatedAt: Date): Promise<{ contactId: string; conversationId: string }> {
  const contactId = store.newId();
  await store.pool.query(
    `INSERT INTO contact (id, client_id, phone, created_at, updated_at) VALUES ($1, $2, $3, $4, $4)`,
    [contactId, clientId, String(1_000 + ++contactCount), updatedAt],
  );
  const made = await store.pool.query(
    "INSERT INTO conversation (number_id, contact_id) VALUES ($1, $2) RETURNING id",
    [numberId, contactId],
  );
  return { contactId, conversationId: made.rows[0].id };
}

async function addMessages(conversationId: string, sentAt: readonly Date[]): Promise<void> {
  await store.pool.query(
    `INSERT INTO message (conversation_id, sequence, visible_from, number_id, sender, content, content_type, sent_at)
     SELECT $1, n, n, $2, 'user', 'text ' || n, 'text', at
     FROM unnest($3::timestamptz[]) WITH ORDINALITY AS u(at, n)`,
    [conversationId, numberId, sentAt],
  );
}

const messagesOf = async (conversationId: string) =>
  (
    await store.pool.query("SELECT sequence::int FROM message WHERE conversation_id = $1 ORDER BY sequence", [
      conversationId,
    ])
  ).rows.map((row) => row.sequence);
const exists = async (table: string, id: string) =>
  (await store.pool.query(`SELECT FROM ${table} WHERE id = $1`, [id])).rowCount === 1;

test("without a number of days conversations are kept for ever", async () => {
  const { contactId, conversationId } = await addContact(daysAgo(5_000));
  await addMessages(conversationId, [daysAgo(5_000)]);
  const empty = await addContact(daysAgo(5_000));
  await sweep(0);
  expect(await messagesOf(conversationId)).toEqual([1]);
  expect(await exists("contact", contactId)).toBe(true);
  expect(await exists("contact", empty.contactId)).toBe(true);
});

test("older messages go with their edits and links to media, however many a conversation has", async () => {
  const { contactId, conversationId } = await addContact(daysAgo(200));
  const sentAt = [...Array.from({ length: 95 }, () => daysAgo(91)), daysAgo(89), daysAgo(1)];
  await addMessages(conversationId, sentAt);
  for (const sequence of [1, 96]) {
    await store.pool.query(
      `INSERT INTO message_revision (conversation_id, sequence, visible_from, event_id, content, content_type, revised_at)
       VALUES ($1, $2, 1, $3, 'edited', 'text', $4)`,
      [conversationId, sequence, store.newId(), daysAgo(91)],
    );
    await store.pool.query(
      `INSERT INTO media_link (token_digest, conversation_id, sequence, expires_at)
       VALUES (sha256(convert_to($2::text, 'UTF8')), $1, $2::int, $3)`,
      [conversationId, sequence, storeNow],
    );
  }
  await sweep(90);
  expect(await messagesOf(conversationId)).toEqual([96, 97]);
  expect(await exists("contact", contactId)).toBe(true);
  for (const table of ["message_revision", "media_link"]) {
    const left = await store.pool.query(`SELECT sequence::int FROM ${table} WHERE conversation_id = $1`, [
      conversationId,
    ]);
    expect(left.rows, table).toEqual([{ sequence: 96 }]);
  }
});

test("a message whose time lies far ahead does not keep those after it", async () => {
  const { conversationId } = await addContact(storeNow);
  await addMessages(conversationId, [
    new Date("2099-01-01"),
    ...Array.from({ length: 60 }, () => daysAgo(91)),
  ]);
  await sweep(90);
  expect(await messagesOf(conversationId)).toEqual([1]);
});

test("a contact goes with its last message, unless it was changed since", async () => {
  const gone = await addContact(daysAgo(91));
  await addMessages(gone.conversationId, [daysAgo(91)]);
  await store.pool.query("INSERT INTO contact_former_id VALUES ($1, $2)", [store.newId(), gone.contactId]);
  // What became part of another conversation stays with the contact until its messages are old.
  const merged = await addContact(daysAgo(91));
  await store.pool.query("UPDATE conversation SET merged_into = 1 WHERE id = $1", [merged.conversationId]);
  await addMessages(merged.conversationId, [daysAgo(89)]);
  const noted = await addContact(daysAgo(89));
  await addMessages(noted.conversationId, [daysAgo(91)]);
  await sweep(90);
  expect(await exists("contact", gone.contactId)).toBe(false);
  expect(await exists("conversation", gone.conversationId)).toBe(false);
  expect(await exists("contact", merged.contactId)).toBe(true);
  expect(await messagesOf(merged.conversationId)).toEqual([1]);
  expect(await exists("contact", noted.contactId)).toBe(true);
  expect(await messagesOf(noted.conversationId)).toEqual([]);
});

test("a contact that somebody is writing to at the moment stays", async () => {
  const { contactId } = await addContact(daysAgo(91));
  const writer = await store.pool.connect();
  await writer.query("BEGIN");
  await writer.query("SELECT FROM contact WHERE id = $1 FOR NO KEY UPDATE", [contactId]);
  await sweep(90);
  await writer.query("COMMIT");
  writer.release();
  expect(await exists("contact", contactId)).toBe(true);
  await sweep(90);
  expect(await exists("contact", contactId)).toBe(false);
});

test("messages that were sent go after their end; those that are not over or not told of stay", async () => {
  const add = async (state: string, madeAt: Date, settledAt: Date | null, isPublished: boolean) => {
    const id = store.newId(madeAt);
    const isSent = state === "sent";
    await store.pool.query(
      `INSERT INTO outgoing_message (id, tenant_id, client_id, number_id, phone, type, content, state, due_at,
         leased_until, attempt_count, wamid, accepted_at, is_published, reason, created_at, settled_at)
       VALUES ($1, 1, $2, $3, '1', 'text', '{}', $4, $5, $6, 1, $7, $8, $9, $10, $5, $11)`,
      [
        id,
        clientId,
        numberId,
        state,
        madeAt,
        state === "sending" ? storeNow : null,
        isSent ? `wamid.${id}` : null,
        isSent ? madeAt : null,
        isPublished,
        state === "failed" ? "rejected" : null,
        settledAt,
      ],
    );
    return id;
  };
  const gone = [
    await add("sent", daysAgo(91), daysAgo(91), true),
    await add("failed", daysAgo(100), daysAgo(91), false),
  ];
  const kept = [
    await add("sent", daysAgo(91), daysAgo(91), false),
    await add("sent", daysAgo(91), daysAgo(89), true),
    await add("sending", daysAgo(91), null, false),
  ];
  await sweep(90);
  for (const id of gone) expect(await exists("outgoing_message", id)).toBe(false);
  for (const id of kept) expect(await exists("outgoing_message", id)).toBe(true);
});

test("bodies that made no sense are kept as long as the log, and the audit for its own time", async () => {
  for (const days of [31, 29]) {
    await store.pool.query("INSERT INTO malformed_body (received_at, reason, body) VALUES ($1, $2, '')", [
      daysAgo(days),
      `${days} days`,
    ]);
  }
  for (const days of [401, 399]) {
    await store.pool.query(
      `INSERT INTO audit_entry (occurred_at, tenant_id, actor, action, subject_id, changes)
       VALUES ($1, 1, 'operator', 'webhook.updated', $2, '{}')`,
      [daysAgo(days), `${days} days`],
    );
  }
  await sweep(0);
  expect((await store.pool.query("SELECT reason FROM malformed_body")).rows).toEqual([{ reason: "29 days" }]);
  expect((await store.pool.query("SELECT subject_id FROM audit_entry")).rows).toEqual([
    { subject_id: "399 days" },
  ]);
});
