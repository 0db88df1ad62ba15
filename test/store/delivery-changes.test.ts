import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { ClaimedDelivery } from "../../server/domain/delivery-claim.ts";
import { cancelUnfinished, retryDelivery } from "../../server/store/delivery-changes.ts";
import { claimDue } from "../../server/store/delivery-claims.ts";
import { waitFor } from "../helpers/wait.ts";
import { openStore, type Store, storeNow } from "./open-store.ts";

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

describe("cancelUnfinished", () => {
  test("cancels everything in more than one batch, and nothing of another webhook", async () => {
    const [webhookId, other] = [
      await store.addWebhook({ isEnabled: false }),
      await store.addWebhook({ isEnabled: false }),
    ];
    const ids = Array.from({ length: 11_000 }, () => store.newId());
    await store.pool.query(
      `INSERT INTO delivery (webhook_id, id, tenant_id, event_id, event_type, state, attempt_number, due_at, leased_until)
       SELECT $1, id, 1, id, 'message.received', CASE WHEN n % 2 = 0 THEN 'pending' ELSE 'delivering' END, n % 2,
         CASE WHEN n % 2 = 0 THEN now() END, CASE WHEN n % 2 = 1 THEN now() END
       FROM unnest($2::uuid[]) WITH ORDINALITY AS u(id, n)`,
      [webhookId, ids],
    );
    const kept = await store.addDelivery({ webhookId: other });
    expect(await cancelUnfinished(store.database, webhookId, "webhook_deleted", storeNow)).toBe(11_000);
    const found = await store.pool.query(
      "SELECT state, reason, count(*)::int FROM delivery WHERE webhook_id = $1 GROUP BY 1, 2",
      [webhookId],
    );
    expect(found.rows).toEqual([{ state: "canceled", reason: "webhook_deleted", count: 11_000 }]);
    expect((await store.readDelivery(kept)).state).toBe("pending");
  });

  test("of a webhook that is on does nothing", async () => {
    const webhookId = await store.addWebhook();
    const id = await store.addDelivery({ webhookId });
    expect(await cancelUnfinished(store.database, webhookId, "webhook_disabled", storeNow)).toBe(0);
    expect((await store.readDelivery(id)).state).toBe("pending");
  });

  test("tries again when recording attempts is in its way", async () => {
    const webhookId = await store.addWebhook({ isEnabled: false });
    const [first, second] = [
      await store.addDelivery({ webhookId, dueAt: later(-2) }),
      await store.addDelivery({ webhookId, dueAt: later(-1) }),
    ];
    // Locks in the other order, as a batch of reports may.
    const recording = await store.pool.connect();
    await recording.query("BEGIN");
    // So that PostgreSQL breaks the circle at the other side.
    await recording.query("SET LOCAL deadlock_timeout = '15s'");
    await recording.query("SELECT FROM delivery WHERE id = $1 FOR UPDATE", [second]);
    const canceling = cancelUnfinished(store.database, webhookId, "webhook_disabled", storeNow);
    const waitingCount = async () =>
      (
        await store.pool.query(
          "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
        )
      ).rowCount;
    await waitFor("cancellation to wait", waitingCount, (count) => count === 1);
    await recording.query("SELECT FROM delivery WHERE id = $1 FOR UPDATE", [first]);
    await recording.query("COMMIT");
    recording.release();
    expect(await canceling).toBe(2);
  });
});

describe("retryDelivery", () => {
  test.for([
    ["pending", {}, /pending/],
    ["delivering", { leasedUntil: leaseEnd }, /delivering/],
    ["skipped", { state: "skipped", dueAt: null }, /skipped/],
  ] as const)("of one that is %s is refused and says so", async ([, row, message]) => {
    const id = await store.addDelivery({ webhookId: await store.addWebhook(), ...row });
    const before = await store.readDelivery(id);
    await expect(
      retryDelivery(store.database, { tenantId: 1, clientId: null }, id, storeNow),
    ).rejects.toMatchObject({
      kind: "wrong_state",
      message: expect.stringMatching(message),
    });
    expect(await store.readDelivery(id)).toEqual(before);
  });

  test.for(["failed", "canceled"])("of one that %s starts a new round whose numbers go on", async (state) => {
    const webhookId = await store.addWebhook();
    const id = await store.addDelivery({ webhookId, state, dueAt: null, attemptNumber: 4 });
    await retryDelivery(store.database, { tenantId: 1, clientId: null }, id, storeNow);
    expect(await store.readDelivery(id)).toMatchObject({ state: "pending", reason: null, finished_at: null });
    expect(await claim(webhookId)).toMatchObject([
      { id, attemptNumber: 5, roundAttemptCount: 0, isResend: false },
    ]);
  });

  test("of another tenant's, of an unknown one, and of something that is no id, is not found", async () => {
    const id = await store.addDelivery({ webhookId: await store.addWebhook(), state: "failed", dueAt: null });
    for (const [tenantId, asked] of [
      [2, id],
      [1, store.newId()],
      [1, "' or true"],
    ] as const) {
      await expect(
        retryDelivery(store.database, { tenantId, clientId: null }, asked, storeNow),
      ).rejects.toMatchObject({ kind: "not_found" });
    }
  });

  test("of a webhook that is off or deleted is refused", async () => {
    const webhookId = await store.addWebhook({ isEnabled: false });
    const id = await store.addDelivery({ webhookId, state: "canceled", dueAt: null });
    await expect(
      retryDelivery(store.database, { tenantId: 1, clientId: null }, id, storeNow),
    ).rejects.toMatchObject({ kind: "wrong_state" });
    await store.pool.query("UPDATE webhook SET deleted_at = now() WHERE id = $1", [webhookId]);
    await expect(
      retryDelivery(store.database, { tenantId: 1, clientId: null }, id, storeNow),
    ).rejects.toMatchObject({ message: /deleted/ });
  });
});
