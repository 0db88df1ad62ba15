import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { ClaimedDelivery } from "../../server/domain/delivery-claim.ts";
import { cancelUnfinished, retryDelivery } from "../../server/store/delivery-changes.ts";
import { claimDue } from "../../server/store/delivery-claims.ts";
import { settleAttempts } from "../../server/store/delivery-settlements.ts";
import { openStore, type Store, storeNow } from "./open-store.ts";
import { aSettledAttempt, type Outcome } from "./reports.ts";

const leaseEnd = new Date(storeNow.getTime() + 20_000);
const later = (ms: number) => new Date(storeNow.getTime() + ms);

let store: Store;
beforeAll(async () => {
  store = await openStore();
});
afterAll(() => store.close());
afterEach(async () => {
  await store.pool.query("TRUNCATE delivery, attempt");
});

async function claim(webhookId: number, room = 10): Promise<ClaimedDelivery[]> {
  return (await claimDue(store.pool, [{ webhookId, room }], storeNow, leaseEnd)).deliveries;
}
const settle = (claimed: ClaimedDelivery, outcome: Outcome) =>
  settleAttempts(store.pool, [aSettledAttempt(claimed, outcome)], storeNow);

/** A delivery of a new webhook, claimed once. */
async function oneClaimed() {
  const webhookId = await store.addWebhook();
  const id = await store.addDelivery({ webhookId });
  const [claimed] = await claim(webhookId);
  return { webhookId, id, claimed: claimed! };
}

describe("settleAttempts", () => {
  test.for([
    ["succeeded", { state: "delivered", finished_at: storeNow, attempt_number: 1, reason: null }],
    ["failed", { state: "pending", finished_at: null, attempt_number: 1, due_at: later(13 + 10_000) }],
    ["skipped", { state: "skipped", finished_at: storeNow, attempt_number: 0 }],
    [
      "transformer_error",
      { state: "failed", reason: "transformer_error", reason_detail: "it threw", attempt_number: 0 },
    ],
  ] satisfies [Outcome, object][])(
    "after an attempt that %s: the state that follows, and the log",
    async ([outcome, row]) => {
      const { id, claimed } = await oneClaimed();
      expect(await settle(claimed, outcome)).toEqual(new Set([id]));
      const found = await store.readDelivery(id);
      expect(found).toMatchObject({ ...row, leased_until: null });
      const isRequest = outcome === "succeeded" || outcome === "failed";
      expect(found.round_attempt_count).toBe(isRequest ? 1 : 0);
      expect(await store.readAttempts(id)).toMatchObject(
        isRequest
          ? [
              {
                number: 1,
                started_at: storeNow,
                duration_ms: 13,
                outcome,
                error_kind: outcome === "failed" ? "timeout" : null,
                response_status: outcome === "failed" ? null : 204,
                response_body: outcome === "failed" ? null : Buffer.of(0, 255),
              },
            ]
          : [],
      );
    },
  );

  test("keeps the payload of the attempt that made it, for all that follow", async () => {
    const { webhookId, id, claimed } = await oneClaimed();
    await settle(claimed, "failed");
    await store.pool.query("UPDATE delivery SET due_at = $2 WHERE id = $1", [id, storeNow]);
    const [second] = await claim(webhookId);
    expect(second).toMatchObject({ attemptNumber: 2, roundAttemptCount: 1 });
    expect(second!.payload).toMatchObject({ contentType: "text/plain", headers: { "x-kind": "greeting" } });
    await settle(second!, "succeeded");
    const row = await store.readDelivery(id);
    expect(row.body.toString()).toBe("made by the first attempt");
    expect(row).toMatchObject({ transformer: "raw", transformer_version: "1.0.0", state: "delivered" });
  });

  test.for([
    ["succeeded", { state: "delivered", reason: null }],
    ["failed", { state: "canceled", reason: "webhook_disabled", due_at: null, finished_at: later(1) }],
    ["skipped", { state: "canceled", reason: "webhook_disabled", finished_at: later(1) }],
    ["transformer_error", { state: "canceled", reason: "webhook_disabled", reason_detail: null }],
  ] satisfies [Outcome, object][])(
    "of a delivery that was canceled meanwhile: %s",
    async ([outcome, row]) => {
      const { webhookId, id, claimed } = await oneClaimed();
      await store.setWebhook(webhookId, { isEnabled: false });
      expect(await cancelUnfinished(store.database, webhookId, "webhook_disabled", later(1))).toBe(1);
      await settle(claimed, outcome);
      expect(await store.readDelivery(id)).toMatchObject({ ...row, leased_until: null });
    },
  );

  test.for(["succeeded", "failed"] as const)(
    "of one that is sent once more leaves it delivered: %s",
    async (outcome) => {
      const { webhookId, id, claimed } = await oneClaimed();
      await settle(claimed, "succeeded");
      await retryDelivery(store.database, { tenantId: 1, clientId: null }, id, later(5));
      const [again] = (await claimDue(store.pool, [{ webhookId, room: 1 }], later(5), leaseEnd)).deliveries;
      expect(again).toMatchObject({ isResend: true, attemptNumber: 2 });
      await settle(again!, outcome);
      expect(await store.readDelivery(id)).toMatchObject({
        state: "delivered",
        due_at: null,
        finished_at: storeNow,
      });
      expect(await store.readAttempts(id)).toHaveLength(2);
    },
  );
});
