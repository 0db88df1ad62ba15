import { randomBytes, randomFillSync } from "node:crypto";
import pino from "pino";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createPublisher } from "../../server/delivery/publish.ts";
import { createIdSource } from "../../server/domain/ids.ts";
import { createMediaLinks } from "../../server/domain/media-link.ts";
import { openDirectory } from "../../server/store/directory.ts";
import { openDatabase } from "../../server/store/orm.ts";
import { createPartitions } from "../../server/store/partitions.ts";
import { createPostgresQueue } from "../../server/store/postgres-queue.ts";
import { createSealer } from "../../server/store/sealer.ts";
import { splitBody } from "../../server/whatsapp/envelope.ts";
import { queryRows } from "../helpers/query-rows.ts";
import { waitFor } from "../helpers/wait.ts";
import { aChange, anEnvelope, anInboundBody, aTextMessage, toBytes } from "../helpers/whatsapp-bodies.ts";
import { openStore, type Store } from "../store/open-store.ts";

let store: Store;
beforeEach(async () => {
  store = await openStore();
});
afterEach(() => store.close());

const log = pino({ level: "silent" });
const eventsOf = (body: unknown) => splitBody(toBytes(body), new Date()).events;

/** A process's publisher, with connections and a directory of its own; nothing is sent. */
async function openPublisher(options: { autoClients?: boolean; now?: () => number } = {}) {
  const now = options.now ?? Date.now;
  const database = await openDatabase(store.url, { onConnectionError: () => undefined });
  const directory = await openDirectory(database, store.url, createSealer([new Uint8Array(32)]), log);
  const publisher = createPublisher(
    {
      queue: createPostgresQueue(database.pool),
      database,
      directory,
      partitions: createPartitions(database.pool),
      handover: {
        waitForRoom: () => Promise.resolve(),
        reserve: () => false,
        release: () => undefined,
        start: () => undefined,
      },
      handlesOf: () => ["*"],
      ids: createIdSource(now, (bytes) => randomFillSync(bytes)),
      makeMediaLink: createMediaLinks(() => "https://gateway.example", randomBytes),
      clock: { now: () => new Date(now()), sleep: () => Promise.resolve() },
      log,
    },
    {
      autoClients: options.autoClients ?? true,
      leaseMs: 20_000,
      batchEventsMax: 500,
      batchBytesMax: 4 * 1024 * 1024,
      queueEventsMax: 10_000,
    },
  );
  return {
    directory,
    publish: (body: unknown) => publisher.publish(eventsOf(body), { tenantId: null }),
    async close() {
      await publisher.close();
      await directory.close();
      await database.close();
    },
  };
}

test("sequence numbers of a conversation have no gap and no double, whichever process stored its messages", async () => {
  const publishers = await Promise.all([openPublisher(), openPublisher()]);
  try {
    await publishers[0].publish(anInboundBody(aTextMessage({ id: "wamid.seq-first" })));
    await Promise.all(
      Array.from({ length: 100 }, (_, index) => {
        const messages = ["15558880201", "15558880202", "15558880203"].flatMap((from) => [
          aTextMessage({ id: `wamid.seq-${from}-${index}`, from }),
          aTextMessage({ id: `wamid.seq-${from}-${index}-2`, from, timestamp: "1772712001" }),
        ]);
        const order = index % 2 === 0 ? messages : messages.toReversed();
        return publishers[index % 2]!.publish(anEnvelope([aChange({ messages: order })]));
      }),
    );
    const rows = await queryRows(store.url)(
      `SELECT m.conversation_id, count(*)::int, min(m.sequence)::int, max(m.sequence)::int, v.last_sequence::int AS last,
         v.last_user_sequence::int AS last_user, v.last_bot_sequence::int AS last_bot
       FROM message m JOIN conversation v ON v.id = m.conversation_id GROUP BY 1, 5, 6, 7 ORDER BY 2`,
    );
    expect(rows.map(({ conversation_id: _, ...row }) => row)).toEqual([
      { count: 1, min: 1, max: 1, last: 1, last_user: 1, last_bot: 0 },
      ...Array(3).fill({ count: 200, min: 1, max: 200, last: 200, last_user: 200, last_bot: 0 }),
    ]);
    // Each event remembers the place of its own message.
    const astray = await queryRows(store.url)(
      `SELECT FROM message m LEFT JOIN event e ON e.tenant_id = 1 AND e.id = m.event_id
       WHERE e.sequence IS DISTINCT FROM m.sequence OR e.conversation_id IS DISTINCT FROM m.conversation_id`,
    );
    expect(astray).toEqual([]);
  } finally {
    await Promise.all(publishers.map((publisher) => publisher.close()));
  }
}, 30_000);

test("two processes that meet a number for the first time make one client", async () => {
  const publishers = await Promise.all([openPublisher(), openPublisher(), openPublisher()]);
  try {
    const bodies = publishers.map((_, index) => anInboundBody(aTextMessage({ id: `wamid.new-${index}` })));
    await Promise.all(publishers.map((publisher, index) => publisher.publish(bodies[index])));
    expect(await queryRows(store.url)("SELECT client_ref FROM client")).toHaveLength(1);
    expect(await queryRows(store.url)("SELECT FROM event WHERE client_id IS NOT NULL")).toHaveLength(3);
    expect(await queryRows(store.url)("SELECT FROM contact")).toHaveLength(1);
  } finally {
    await Promise.all(publishers.map((publisher) => publisher.close()));
  }
});

test("an event that is on its way while its number gets a client is that client's", async () => {
  const publisher = await openPublisher({ autoClients: false });
  const holders = [await store.pool.connect(), await store.pool.connect()] as const;
  const lock = "SELECT pg_advisory_xact_lock(7305003)";
  try {
    // A change of configuration is being made, and one more waits in line before the event.
    await holders[0].query("BEGIN");
    await holders[0].query(lock);
    await holders[1].query("BEGIN");
    const secondLock = holders[1].query(lock);
    const waitingCount = async () =>
      (
        await queryRows(store.url)(
          "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
        )
      ).length;
    await waitFor("the second change to wait", waitingCount, (count) => count === 1);
    const metadata = { display_phone_number: "15557770100", phone_number_id: "number-of-late" };
    const published = publisher.publish(
      anEnvelope([
        { field: "messages", value: { metadata, messages: [aTextMessage({ id: "wamid.late" })] } },
      ]),
    );
    await waitFor("the event to wait", waitingCount, (count) => count === 2);
    // The first change adds the client; this process hears of it before the event may go on.
    await holders[0].query("UPDATE configuration SET version = version + 1");
    await holders[0].query(
      `WITH added AS (
         INSERT INTO client (tenant_id, client_ref, version, created_at)
         SELECT 1, 'late', version, now() FROM configuration RETURNING id, version)
       INSERT INTO phone_number (phone_number_id, client_id, version, created_at)
       SELECT 'number-of-late', id, version, now() FROM added`,
    );
    await holders[0].query("COMMIT");
    await secondLock;
    await publisher.directory.refresh();
    expect(publisher.directory.current.numbers.has("number-of-late")).toBe(true);
    await holders[1].query("COMMIT");
    await published;
    expect(await queryRows(store.url)("SELECT tenant_id FROM event")).toEqual([{ tenant_id: 1 }]);
  } finally {
    for (const holder of holders) holder.release();
    await publisher.close();
  }
});

test("an event is stored however fast one change of configuration follows another", async () => {
  const publisher = await openPublisher({ autoClients: false });
  const changer = await store.pool.connect();
  const change = async () => {
    await changer.query("BEGIN; SET LOCAL lock_timeout = 100; SELECT pg_advisory_xact_lock(7305003)");
    await changer.query("UPDATE configuration SET version = version + 1; COMMIT");
  };
  try {
    // Whenever the publisher has learnt of a change, the next one is made, unless the publisher keeps it out.
    const { refresh } = publisher.directory;
    publisher.directory.refresh = async (client) => {
      await refresh(client);
      await change().catch(() => changer.query("ROLLBACK"));
    };
    await change();
    expect(await publisher.publish(anInboundBody())).toMatchObject([{ isDuplicate: false }]);
    expect(await queryRows(store.url)("SELECT FROM event")).toHaveLength(1);
  } finally {
    changer.release();
    await publisher.close();
  }
});

test("events around midnight find their day, and repeats across it are known", async () => {
  let nowMs = Date.parse("2026-09-30T23:59:59.970Z");
  // Every look at the clock takes a few milliseconds, so a commit begins on one day and ends on the next.
  const publisher = await openPublisher({ now: () => (nowMs += 2) });
  try {
    const bodies = Array.from({ length: 20 }, (_, index) =>
      anInboundBody(aTextMessage({ id: `wamid.midnight-${index}` })),
    );
    for (const body of bodies) expect(await publisher.publish(body)).toMatchObject([{ isDuplicate: false }]);
    for (const body of bodies) expect(await publisher.publish(body)).toMatchObject([{ isDuplicate: true }]);
    const days = await queryRows(store.url)(
      "SELECT tableoid::regclass::text AS day FROM event GROUP BY 1 ORDER BY 1",
    );
    expect(days.map(({ day }) => day)).toEqual(["event_2026_09_30", "event_2026_10_01"]);
    expect(await queryRows(store.url)("SELECT FROM malformed_body")).toEqual([]);
  } finally {
    await publisher.close();
  }
});

test("an event is stored as what it is although the clock leaps into another day while it is committed", async () => {
  const dayMs = 86_400_000;
  let nowMs = Date.parse("2026-09-30T12:00:00Z");
  let lookCount = 0;
  let leapAtLook = Number.POSITIVE_INFINITY;
  const now = () => {
    lookCount += 1;
    if (lookCount === leapAtLook) nowMs += 3 * dayMs;
    return nowMs;
  };
  const publisher = await openPublisher({ now });
  try {
    // At each look that a commit takes at the clock, and so between any two of its steps.
    for (let step = 1; step <= 12; step++) {
      leapAtLook = lookCount + step;
      const [published] = await publisher.publish(anInboundBody(aTextMessage({ id: `wamid.leap-${step}` })));
      expect([step, published!.eventId]).toEqual([step, expect.any(String)]);
    }
    expect(await queryRows(store.url)("SELECT FROM malformed_body")).toEqual([]);
  } finally {
    await publisher.close();
  }
});

test("an event does not wait for the thousands that another tenant has queued before it", async () => {
  const query = queryRows(store.url);
  await query("UPDATE configuration SET version = version + 1");
  const version = "(SELECT version FROM configuration)";
  await query(`INSERT INTO tenant (id, name, version, created_at) VALUES (2, 'small', ${version}, now())`);
  await query(
    `INSERT INTO client (id, tenant_id, client_ref, version, created_at) VALUES (900, 2, 'small', ${version}, now())`,
  );
  await query(
    `INSERT INTO phone_number (phone_number_id, client_id, version, created_at) VALUES ('902', 900, ${version}, now())`,
  );
  const publisher = await openPublisher();
  try {
    await publisher.publish(anInboundBody(aTextMessage({ id: "wamid.large-first" })));
    let storedCount = 0;
    const large = Array.from({ length: 50 }, async (_, call) => {
      const messages = Array.from({ length: 100 }, (_, index) =>
        aTextMessage({ id: `wamid.large-${call}-${index}` }),
      );
      const published = await publisher.publish(anEnvelope([aChange({ messages })]));
      storedCount += published.length;
    });
    const metadata = { phone_number_id: "902" };
    const messages = [aTextMessage({ id: "wamid.small" })];
    await publisher.publish(anEnvelope([{ field: "messages", value: { metadata, messages } }]));
    // The commit that was under way, and the next, which it shares.
    expect(storedCount).toBeLessThanOrEqual(1_000);
    await Promise.all(large);
    expect(storedCount).toBe(5_000);
  } finally {
    await publisher.close();
  }
});

test("a refused call stores nothing of its events", async () => {
  const publisher = await openPublisher();
  await publisher.close();
  await expect(publisher.publish(anInboundBody())).rejects.toMatchObject({ kind: "unavailable" });
  expect(await queryRows(store.url)("SELECT FROM event")).toEqual([]);
});
