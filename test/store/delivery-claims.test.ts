import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { ClaimedDelivery } from "../../server/domain/delivery-claim.ts";
import { claimDue, listDueWebhooks } from "../../server/store/delivery-claims.ts";
import { openStore, type Store, storeNow } from "./open-store.ts";

const leaseEnd = new Date(storeNow.getTime() + 20_000);
const later = (ms: number) => new Date(storeNow.getTime() + ms);

let store: Store;
beforeAll(async () => {
  store = await openStore();
  await store.partitions.ensureDay(later(-86_400_000));
});
afterAll(() => store.close());
afterEach(async () => {
  await store.pool.query("TRUNCATE delivery, attempt");
});

async function claim(webhookId: number, room = 10): Promise<ClaimedDelivery[]> {
  return (await claimDue(store.pool, [{ webhookId, room }], storeNow, leaseEnd)).deliveries;
}
const idsOf = (claimed: readonly { id: string }[]) => claimed.map(({ id }) => id);

describe("claimDue", () => {
  test("gives of each webhook its oldest due deliveries, of yesterday and today, as many as there is room for", async () => {
    const [first, second] = [await store.addWebhook(), await store.addWebhook()];
    const today = await store.addDelivery({ webhookId: first, dueAt: later(-1_000) });
    const yesterday = await store.addDelivery({
      webhookId: first,
      dueAt: later(-3_000),
      madeAt: later(-86_400_000),
    });
    const third = await store.addDelivery({ webhookId: first, dueAt: later(-2_000) });
    await store.addDelivery({ webhookId: first, dueAt: later(1) });
    const others = [
      await store.addDelivery({ webhookId: second }),
      await store.addDelivery({ webhookId: second }),
    ];
    const asked = [
      { webhookId: first, room: 2 },
      { webhookId: second, room: 5 },
    ];
    const { deliveries, configurationVersion } = await claimDue(store.pool, asked, storeNow, leaseEnd);
    expect(new Set(idsOf(deliveries))).toEqual(new Set([yesterday, third, ...others]));
    expect(configurationVersion).toBe(1n);
    expect(idsOf(await claim(first))).toEqual([today]);
    expect(await claim(first)).toEqual([]);
  });

  test("marks what it gives as under way, with the number of the attempt to come", async () => {
    const webhookId = await store.addWebhook();
    const id = await store.addDelivery({ webhookId, attemptNumber: 2, body: "as before" });
    const [claimed] = await claim(webhookId);
    expect(claimed).toMatchObject({
      id,
      webhookId,
      tenantId: 1,
      eventId: id,
      attemptNumber: 3,
      isResend: false,
    });
    expect(claimed!.payload).toMatchObject({ contentType: "text/plain", headers: {} });
    expect(Buffer.from(claimed!.payload!.body).toString()).toBe("as before");
    expect(await store.readDelivery(id)).toMatchObject({
      state: "delivering",
      attempt_number: 3,
      due_at: null,
      leased_until: leaseEnd,
    });
  });

  test("passes over what another claimer has locked, without waiting", async () => {
    const webhookId = await store.addWebhook();
    const first = await store.addDelivery({ webhookId, dueAt: later(-2) });
    const second = await store.addDelivery({ webhookId, dueAt: later(-1) });
    const other = await store.pool.connect();
    await other.query("BEGIN");
    await other.query("SELECT FROM delivery WHERE id = $1 FOR UPDATE", [first]);
    try {
      expect(idsOf(await claim(webhookId, 1))).toEqual([second]);
      expect(await claim(webhookId)).toEqual([]);
    } finally {
      await other.query("ROLLBACK");
      other.release();
    }
    expect(idsOf(await claim(webhookId))).toEqual([first]);
  });
});

test("listDueWebhooks names each webhook once, with the time of its earliest delivery, due or not", async () => {
  const [first, second, idle] = [
    await store.addWebhook(),
    await store.addWebhook(),
    await store.addWebhook(),
  ];
  await store.addDelivery({ webhookId: first, dueAt: later(50) });
  await store.addDelivery({ webhookId: first, dueAt: later(20), madeAt: later(-86_400_000) });
  await store.addDelivery({ webhookId: second, dueAt: later(-5) });
  await store.addDelivery({ webhookId: idle, leasedUntil: leaseEnd });
  expect(await listDueWebhooks(store.pool)).toEqual([
    { webhookId: first, dueAt: later(20) },
    { webhookId: second, dueAt: later(-5) },
  ]);
});
