import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { settleLost } from "../../server/domain/delivery.ts";
import type { ClaimedDelivery } from "../../server/domain/delivery-claim.ts";
import { claimDue } from "../../server/store/delivery-claims.ts";
import {
  listExpiredLeases,
  listLeases,
  loseAttempts,
  renewLeases,
} from "../../server/store/delivery-leases.ts";
import { settleAttempts } from "../../server/store/delivery-settlements.ts";
import { openStore, type Store, storeNow } from "./open-store.ts";
import { aSettledAttempt, type Outcome } from "./reports.ts";

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
const settle = (claimed: ClaimedDelivery, outcome: Outcome) =>
  settleAttempts(store.pool, [aSettledAttempt(claimed, outcome)], storeNow);

/** A delivery of a new webhook, claimed once. */
async function oneClaimed() {
  const webhookId = await store.addWebhook();
  const id = await store.addDelivery({ webhookId });
  const [claimed] = await claim(webhookId);
  return { webhookId, id, claimed: claimed! };
}

describe("leases", () => {
  test("that ran out are listed oldest first; those that hold are not", async () => {
    const webhookId = await store.addWebhook();
    const second = await store.addDelivery({ webhookId, leasedUntil: later(-1) });
    const first = await store.addDelivery({ webhookId, leasedUntil: later(-2), madeAt: later(-86_400_000) });
    await store.addDelivery({ webhookId, leasedUntil: later(1) });
    expect(idsOf(await listExpiredLeases(store.pool, storeNow, 10))).toEqual([first, second]);
    expect(idsOf(await listExpiredLeases(store.pool, storeNow, 1))).toEqual([first]);
  });

  test("that were renewed or ended after they were listed are not lost", async () => {
    const { claimed, id } = await oneClaimed();
    const [lease] = await listLeases(store.pool, [claimed]);
    const lost = [{ lease: lease!, settlement: settleLost(false, 1, storeNow), startedAt: storeNow }];
    await renewLeases(store.pool, [claimed], later(60_000));
    expect(await loseAttempts(store.pool, lost, storeNow)).toBe(0);
    await settle(claimed, "succeeded");
    expect(await loseAttempts(store.pool, lost, storeNow)).toBe(0);
    expect(await store.readAttempts(id)).toHaveLength(1);
    await renewLeases(store.pool, [claimed], later(60_000));
    expect(await store.readDelivery(id)).toMatchObject({ state: "delivered", leased_until: null });
  });
});
