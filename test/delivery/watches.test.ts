import pg from "pg";
import pino from "pino";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { systemClock } from "../../server/clock.ts";
import { loadConfig } from "../../server/config.ts";
import {
  createWatches,
  type WatchAsked,
  type WatchEntry,
  type Watches,
} from "../../server/delivery/watches.ts";
import { createHousekeeper } from "../../server/store/housekeeping.ts";
import { openStore, type Store } from "../store/open-store.ts";

const everything = { webhookId: null, states: [], eventType: null, since: null, until: null };
const settings = { ...loadConfig({}, { coreCount: 2 }).watches, pollMs: 20, gatherMs: 1 };

let store: Store;
let webhookId: number;
let watches: Watches;
let ahead: { ms: number };
beforeAll(async () => {
  store = await openStore();
  webhookId = await store.addWebhook();
});
afterAll(() => store.close());
beforeEach(() => {
  ahead = { ms: 0 };
  const clock = { now: () => new Date(Date.now() + ahead.ms), sleep: systemClock.sleep };
  watches = createWatches({ database: store.database, clock }, settings);
});

function watch(changes: Partial<WatchAsked> = {}): AsyncGenerator<WatchEntry, void> {
  return watches.watch({
    callerName: "operator",
    owner: { tenantId: 1, clientId: null },
    filter: everything,
    resumeToken: "",
    isWelcome: () => true,
    signal: new AbortController().signal,
    cutOff: () => undefined,
    ...changes,
  });
}

/** Logs an attempt in a transaction; gives the delivery's id. */
async function logAttempt(
  client: pg.ClientBase | pg.Pool,
  age = "0 s",
  webhook = webhookId,
): Promise<string> {
  const id = await store.addDelivery({
    webhookId: webhook,
    state: "delivered",
    dueAt: null,
    attemptNumber: 1,
  });
  await client.query(
    `INSERT INTO attempt (delivery_id, number, started_at, duration_ms, outcome, response_status, response_headers,
       response_body) VALUES ('${id}', 1, now(), 5, 'succeeded', 200, '{}', '')`,
  );
  await client.query(
    `INSERT INTO attempt_batch (recorded_at, webhook_ids, delivery_ids, numbers)
     VALUES (now() - interval '${age}', '{${webhook}}', '{${id}}', '{1}')`,
  );
  return id;
}

const nextId = async (stream: AsyncGenerator<WatchEntry, void>) =>
  (await stream.next()).value?.watched?.delivery.id;

test("an attempt whose transaction ends after that of a later one is not passed over, now or on the way back", async () => {
  const slow = new pg.Client({ connectionString: store.url });
  await slow.connect();
  const stream = watch();
  const start = (await stream.next()).value!.resumeToken;
  await slow.query("BEGIN");
  const early = await logAttempt(slow);
  const late = await logAttempt(store.pool);
  const seen = await stream.next();
  expect(seen.value?.watched?.delivery.id).toBe(late);
  const resumed = watch({ resumeToken: seen.value!.resumeToken });
  await resumed.next();
  await slow.query("COMMIT");
  await slow.end();
  expect(await nextId(stream)).toBe(early);
  expect(await nextId(resumed)).toBe(early);
  const again = watch({ resumeToken: start });
  await again.next();
  expect([await nextId(again), await nextId(again)].sort()).toEqual([early, late].sort());
  for (const one of [stream, resumed, again]) await one.return();
});

test("one that does not take what it is given for too long is told where it stood", async () => {
  const stream = watch();
  await stream.next();
  const [first, second] = [await logAttempt(store.pool), await logAttempt(store.pool)];
  expect(await nextId(stream)).toBe(first);
  ahead.ms = settings.stallMaxMs + 1_000;
  const error = await stream.next().catch((reason: unknown) => reason);
  expect(error).toMatchObject({ kind: "over_limit", resumeToken: expect.any(String) });
  const next = watch({ resumeToken: (error as { resumeToken: string }).resumeToken });
  await next.next();
  expect(await nextId(next)).toBe(second);
  await next.return();
});

test("one that is not welcome any more gets nothing of what was read for it already", async () => {
  let isWelcome = true;
  const stream = watch({ isWelcome: () => isWelcome });
  await stream.next();
  const slow = new pg.Client({ connectionString: store.url });
  await slow.connect();
  await slow.query("BEGIN");
  const first = await logAttempt(slow);
  await logAttempt(slow);
  await slow.query("COMMIT");
  await slow.end();
  expect(await nextId(stream)).toBe(first);
  isWelcome = false;
  ahead.ms = 1_000;
  const error = await stream.next().catch((reason: unknown) => reason);
  expect(error).toMatchObject({ kind: "unauthenticated" });
});

test("one that had caught up and falls behind is cut off; one that is catching up is not", async () => {
  const stream = watch();
  const start = (await stream.next()).value!.resumeToken;
  const taken = await logAttempt(store.pool);
  expect(await nextId(stream)).toBe(taken);
  const old = await logAttempt(store.pool, "1 min");
  const error = await stream.next().catch((reason: unknown) => reason);
  expect(error).toMatchObject({ kind: "over_limit", resumeToken: expect.any(String) });
  const next = watch({ resumeToken: start });
  await next.next();
  expect([await nextId(next), await nextId(next)]).toEqual([taken, old]);
  await next.return();
});

test("what a database brought along from another server is told to nobody, and deleted", async () => {
  await store.pool.query("UPDATE webhook SET client_id = NULL");
  const id = await logAttempt(store.pool);
  const stream = watch();
  await stream.next();
  // Numbers of transactions are kept by a dump, and begin anew where it is restored.
  const foreign = "(pg_snapshot_xmax(pg_current_snapshot())::text::bigint + 1000000)::text::xid8";
  await store.pool.query(
    `INSERT INTO attempt_batch (xid, webhook_ids, delivery_ids, numbers)
     VALUES (${foreign}, '{${webhookId}}', '{${id}}', '{1}')`,
  );
  const next = await logAttempt(store.pool);
  expect(await nextId(stream)).toBe(next);
  const last = await logAttempt(store.pool);
  expect(await nextId(stream)).toBe(last);
  await stream.return();
  const clock = { now: () => new Date(), sleep: systemClock.sleep };
  const housekeeper = createHousekeeper(
    { database: store.database, clock, log: pino({ level: "silent" }) },
    { logDays: 30, conversationDays: 0, auditDays: 400 },
  );
  await housekeeper.sweep();
  await housekeeper.close();
  const left = await store.pool.query(
    "SELECT FROM attempt_batch WHERE xid >= pg_snapshot_xmax(pg_current_snapshot())",
  );
  expect(left.rowCount).toBe(0);
  expect((await store.pool.query("SELECT FROM attempt_batch")).rowCount).toBeGreaterThan(0);
});

test("another tenant's attempts are not told, nor those of a webhook that a narrowed caller may not see", async () => {
  await store.pool.query(
    "INSERT INTO tenant (id, name, version, created_at) VALUES (7, 'rival', 1, now()) ON CONFLICT DO NOTHING",
  );
  const { clientId } = await store.addClient("narrow");
  const foreign = await store.addWebhook({ tenantId: 7 });
  const [mine, rivals, narrowed] = [
    watch(),
    watch({ owner: { tenantId: 7, clientId: null } }),
    watch({ owner: { tenantId: 1, clientId } }),
  ];
  for (const stream of [mine, rivals, narrowed]) await stream.next();
  const hers = await logAttempt(store.pool, "0 s", foreign);
  const own = await logAttempt(store.pool);
  await store.pool.query("UPDATE webhook SET client_id = $1 WHERE id = $2", [clientId, webhookId]);
  const last = await logAttempt(store.pool);
  expect([await nextId(mine), await nextId(mine)]).toEqual([own, last]);
  expect(await nextId(rivals)).toBe(hers);
  // The webhook is the client's from now on, and with it its log.
  expect([await nextId(narrowed), await nextId(narrowed)]).toEqual([own, last]);
  await store.pool.query("UPDATE webhook SET client_id = NULL");
  const unseen = await logAttempt(store.pool);
  expect(await nextId(mine)).toBe(unseen);
  const silence = narrowed.next();
  ahead.ms = settings.signOfLifeMs + 1;
  expect((await silence).value?.watched).toBeNull();
  for (const stream of [mine, rivals, narrowed]) await stream.return();
});

test("closing ends every stream with the place to go on from, and lets no new one begin", async () => {
  const stream = watch();
  await stream.next();
  const waiting = stream.next().catch((reason: unknown) => reason);
  await watches.close();
  expect(await waiting).toMatchObject({ kind: "unavailable", resumeToken: expect.any(String) });
  await expect(watch().next()).rejects.toMatchObject({ kind: "unavailable" });
});
