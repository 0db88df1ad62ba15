import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { settleLost } from "../../server/domain/delivery.ts";
import type { ClaimedDelivery, SettledAttempt } from "../../server/domain/delivery-claim.ts";
import { cancelUnfinished } from "../../server/store/delivery-changes.ts";
import { claimDue } from "../../server/store/delivery-claims.ts";
import { listExpiredLeases, loseAttempts } from "../../server/store/delivery-leases.ts";
import { settleAttempts } from "../../server/store/delivery-settlements.ts";
import { claimNotices, deleteNotices } from "../../server/store/gateway-notices.ts";
import { openStore, type Store, storeNow } from "./open-store.ts";
import { aSettledAttempt, type Outcome } from "./reports.ts";

let store: Store;
let webhookId: number;
beforeAll(async () => {
  store = await openStore();
});
beforeEach(async () => {
  await store.pool.query("DELETE FROM gateway_notice");
  webhookId = await store.addWebhook();
});
afterAll(() => store.close());

const later = (seconds: number) => new Date(storeNow.getTime() + seconds * 1_000);

async function claimNew(): Promise<ClaimedDelivery> {
  await store.addDelivery({ webhookId });
  const { deliveries } = await claimDue(store.pool, [{ webhookId, room: 1 }], storeNow, later(20));
  return deliveries[0]!;
}

/** The last attempt of a round, whose end is told of to tenant 1. */
function lastAttempt(claimed: ClaimedDelivery, outcome: Outcome): SettledAttempt {
  return { ...aSettledAttempt({ ...claimed, roundAttemptCount: 3 }, outcome), toldTenantId: 1 };
}

const claim = () => claimNotices(store.pool, 10, later(1), later(31));

describe("a delivery that fails for good", () => {
  test("is noted with its attempt, by the statement that ends it", async () => {
    const claimed = await claimNew();
    await settleAttempts(store.pool, [lastAttempt(claimed, "failed")], storeNow);
    expect(await claim()).toEqual([
      {
        id: expect.any(String),
        type: "posthorn.delivery.failed",
        about: {
          occurredAt: storeNow,
          tenantId: 1,
          webhook: { id: webhookId, url: expect.any(String), clientId: null, clientRef: null },
        },
        delivery: {
          id: claimed.id,
          eventId: claimed.eventId,
          eventType: "message.received",
          reason: "attempts_exhausted",
          reasonDetail: null,
          attemptCount: 1,
          lastAttempt: {
            number: 1,
            outcome: "failed",
            errorKind: "timeout",
            errorMessage: "no answer",
            responseStatus: null,
          },
        },
      },
    ]);
  });

  test("is noted when its transformer throws, with what it threw", async () => {
    await settleAttempts(store.pool, [lastAttempt(await claimNew(), "transformer_error")], storeNow);
    expect(await claim()).toMatchObject([
      {
        delivery: {
          reason: "transformer_error",
          reasonDetail: "it threw",
          attemptCount: 0,
          lastAttempt: null,
        },
      },
    ]);
  });

  test("is noted when its attempts were lost", async () => {
    const claimed = await claimNew();
    const lease = (await listExpiredLeases(store.pool, later(60), 10)).find(({ id }) => id === claimed.id)!;
    const lost = { lease, settlement: settleLost(false, 5, later(60)), startedAt: storeNow };
    await loseAttempts(store.pool, [lost], storeNow, [1]);
    expect(await claim()).toMatchObject([
      { delivery: { reason: "lost_repeatedly", lastAttempt: { outcome: "lost" } } },
    ]);
  });

  test("is noted beside the replies that another answer of the same batch schedules", async () => {
    const [failed, answered] = [await claimNew(), await claimNew()];
    const success = aSettledAttempt(answered, "succeeded");
    if (success.report.kind !== "succeeded") throw new Error("it succeeded");
    success.report.replies = { kind: "parsed", texts: [{ text: "hi", delayMs: 0 }], answeredAtMs: 0 };
    success.replyIds = [store.newId()];
    const counted = await settleAttempts(store.pool, [lastAttempt(failed, "failed"), success], storeNow);
    expect([...counted].sort()).toEqual([failed.id, answered.id].sort());
    expect(await claim()).toMatchObject([{ delivery: { id: failed.id } }]);
  });
});

describe("nothing is noted", () => {
  test("of an attempt after which another one follows, or that succeeds", async () => {
    for (const outcome of ["failed", "succeeded", "skipped"] as const) {
      await settleAttempts(
        store.pool,
        [{ ...aSettledAttempt(await claimNew(), outcome), toldTenantId: 1 }],
        storeNow,
      );
    }
    expect(await claim()).toEqual([]);
  });

  test("if nobody of the tenant asks for it", async () => {
    const [other, own] = [await claimNew(), await claimNew()];
    const { toldTenantId: _, ...untold } = lastAttempt(other, "failed");
    await settleAttempts(store.pool, [untold], storeNow);
    await settleAttempts(store.pool, [{ ...lastAttempt(own, "failed"), toldTenantId: 2 }], storeNow);
    expect(await claim()).toEqual([]);
  });

  test("of a delivery that was canceled while its last attempt ran", async () => {
    const claimed = await claimNew();
    await store.setWebhook(webhookId, { isEnabled: false });
    await cancelUnfinished(store.database, webhookId, "webhook_disabled", storeNow);
    await settleAttempts(store.pool, [lastAttempt(claimed, "failed")], storeNow);
    expect((await store.readDelivery(claimed.id)).state).toBe("canceled");
    expect(await claim()).toEqual([]);
  });

  test("of the failure of a delivery that tells of such a thing itself", async () => {
    const claimed = await claimNew();
    await store.pool.query("UPDATE delivery SET event_type = 'posthorn.delivery.failed' WHERE id = $1", [
      claimed.id,
    ]);
    await settleAttempts(store.pool, [lastAttempt(claimed, "failed")], storeNow);
    expect((await store.readDelivery(claimed.id)).state).toBe("failed");
    expect(await claim()).toEqual([]);
  });
});

test("a notice is one process's until its lease ends, and gone once it was told of", async () => {
  await settleAttempts(store.pool, [lastAttempt(await claimNew(), "failed")], storeNow);
  const both = await Promise.all([claim(), claim()]);
  expect(both.flat()).toHaveLength(1);
  expect(await claim()).toEqual([]);
  const again = await claimNotices(store.pool, 10, later(31), later(61));
  expect(again).toEqual(both.flat());
  await deleteNotices(
    store.pool,
    again.map(({ id }) => id),
  );
  expect(await claimNotices(store.pool, 10, later(1_000), later(1_030))).toEqual([]);
});
