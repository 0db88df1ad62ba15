import { afterAll, beforeAll, expect, test } from "vitest";
import { settleLost } from "../../server/domain/delivery.ts";
import type { ClaimedDelivery, SettledAttempt } from "../../server/domain/delivery-claim.ts";
import { cancelUnfinished, retryDelivery } from "../../server/store/delivery-changes.ts";
import { claimDue, listDueWebhooks } from "../../server/store/delivery-claims.ts";
import {
  listExpiredLeases,
  listLeases,
  loseAttempts,
  releaseLeases,
  renewLeases,
} from "../../server/store/delivery-leases.ts";
import { storePayloads } from "../../server/store/delivery-payloads.ts";
import { settleAttempts } from "../../server/store/delivery-settlements.ts";
import { readEvents } from "../../server/store/events.ts";
import type { Database } from "../../server/store/orm.ts";
import { openStore, type Store, storeNow } from "./open-store.ts";
import { aSettledAttempt } from "./reports.ts";
import { scansOf, settleStatistics } from "./scans.ts";

const dayMs = 86_400_000;
const webhookCount = 20;
const dailyCount = 6_000;
const leaseEnd = new Date(storeNow.getTime() + 20_000);

let store: Store;
let webhookIds: number[];
let todaysIds: string[];
let doneId: string;
let claimed: ClaimedDelivery[];
beforeAll(async () => {
  store = await openStore();
  webhookIds = [];
  for (let count = 0; count < webhookCount; count++) webhookIds.push(await store.addWebhook());
  for (let day = 3; day >= 0; day--) {
    const at = new Date(storeNow.getTime() - day * dayMs);
    await store.partitions.ensureDay(at);
    const ids = Array.from({ length: dailyCount }, () => store.newId(at));
    await store.pool.query(
      `INSERT INTO delivery (webhook_id, id, tenant_id, event_id, event_type, state, finished_at)
       SELECT ($2::int[])[1 + n % $3], id, 1, id, 'message.received', 'delivered', now()
       FROM unnest($1::uuid[]) WITH ORDINALITY AS u(id, n)`,
      [ids, webhookIds, webhookCount],
    );
    await store.pool.query(
      `INSERT INTO event (tenant_id, id, type, received_at, details, item)
       SELECT 1, id, 'message.received', now(), '{}', '' FROM unnest($1::uuid[]) AS u(id)`,
      [ids],
    );
    todaysIds = ids.slice(-100);
    doneId = ids.at(-1)!;
  }
  for (const webhookId of webhookIds) {
    for (let count = 0; count < 20; count++) await store.addDelivery({ webhookId });
    await store.addDelivery({ webhookId, leasedUntil: new Date(storeNow.getTime() - 1) });
  }
  await store.pool.query("ANALYZE");
  await settleStatistics(store.url);
});
afterAll(() => store.close());

function withReply(settled: SettledAttempt, replyIds: string[]): SettledAttempt {
  const replies = { kind: "parsed" as const, texts: [{ text: "a", delayMs: 0 }], answeredAtMs: 0 };
  return { ...settled, replyIds, report: { ...settled.report, replies } as SettledAttempt["report"] };
}

const asked = () => webhookIds.map((webhookId) => ({ webhookId, room: 5 }));
const isPruned = true;

// In this order: each works on what the one before has left.
test.for<[string, (database: Database) => Promise<unknown>, number, boolean]>([
  ["listDueWebhooks", ({ pool }) => listDueWebhooks(pool), 500, !isPruned],
  [
    "claimDue",
    async ({ pool }) => {
      claimed = (await claimDue(pool, asked(), storeNow, leaseEnd)).deliveries;
      expect(claimed).toHaveLength(100);
    },
    1_000,
    !isPruned,
  ],
  [
    "storePayloads",
    async ({ pool }) => {
      const payload = {
        body: Buffer.from("a"),
        contentType: "text/plain",
        headers: {},
        transformerVersion: "1",
      };
      const made = claimed.map((one) => ({ claimed: one, transformer: "mine", payload }));
      expect((await storePayloads(pool, made)).size).toBe(100);
    },
    1_000,
    isPruned,
  ],
  [
    "readEvents",
    async ({ pool }) => {
      const events = await readEvents(
        pool,
        todaysIds.map((eventId) => ({ tenantId: 1, eventId })),
      );
      expect(events.size).toBe(100);
    },
    200,
    isPruned,
  ],
  ["renewLeases", ({ pool }) => renewLeases(pool, claimed, leaseEnd), 500, isPruned],
  [
    "settleAttempts",
    async ({ pool }) => {
      const settled = claimed.slice(0, 60).map((one) => aSettledAttempt(one, "failed"));
      expect((await settleAttempts(pool, settled, storeNow)).size).toBe(60);
    },
    500,
    isPruned,
  ],
  [
    "settleAttempts with replies",
    async ({ pool }) => {
      const replyIds = [store.newId(storeNow)];
      const settled = claimed
        .slice(60, 70)
        .map((one) => withReply(aSettledAttempt(one, "succeeded"), replyIds));
      expect((await settleAttempts(pool, settled, storeNow)).size).toBe(10);
    },
    500,
    isPruned,
  ],
  ["releaseLeases", ({ pool }) => releaseLeases(pool, claimed.slice(70, 80), storeNow), 300, isPruned],
  [
    "listLeases",
    async ({ pool }) => expect(await listLeases(pool, claimed.slice(80))).toHaveLength(20),
    100,
    isPruned,
  ],
  [
    "listExpiredLeases and loseAttempts",
    async ({ pool }) => {
      const leases = await listExpiredLeases(pool, storeNow, 500);
      expect(leases).toHaveLength(webhookCount);
      const lost = leases.map((lease) => ({
        lease,
        settlement: settleLost(false, 1, storeNow),
        startedAt: storeNow,
      }));
      expect(await loseAttempts(pool, lost, storeNow)).toBe(webhookCount);
    },
    500,
    !isPruned,
  ],
  [
    "retryDelivery",
    (database) => retryDelivery(database, { tenantId: 1, clientId: null }, doneId, storeNow),
    200,
    isPruned,
  ],
  [
    "cancelUnfinished",
    async (database) => {
      await store.setWebhook(webhookIds[0]!, { isEnabled: false });
      expect(await cancelUnfinished(database, webhookIds[0]!, "webhook_disabled", storeNow)).toBeGreaterThan(
        10,
      );
    },
    1_000,
    !isPruned,
  ],
])(
  "%s reads by index alone, about as many rows as it needs, and old days only if it must",
  async ([, act, rowsMax, mustPrune]) => {
    const scans = await scansOf(store.url, act);
    expect(scans.sequential).toBe(0);
    expect(scans.rows).toBeLessThanOrEqual(rowsMax);
    if (mustPrune) expect(scans.scansOfOldDays).toBe(0);
  },
);
