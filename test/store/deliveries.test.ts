import fc from "fast-check";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { settleLost } from "../../server/domain/delivery.ts";
import type { ClaimedDelivery } from "../../server/domain/delivery-claim.ts";
import { cancelUnfinished, retryDelivery } from "../../server/store/delivery-changes.ts";
import { claimDue, listDueWebhooks } from "../../server/store/delivery-claims.ts";
import {
  listExpiredLeases,
  listLeases,
  loseAttempts,
  releaseLeases,
  renewLeases,
} from "../../server/store/delivery-leases.ts";
import { settleAttempts } from "../../server/store/delivery-settlements.ts";
import { waitFor } from "../helpers/wait.ts";
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

  test("by many at once gives each delivery to one of them", async () => {
    const webhookId = await store.addWebhook();
    for (let count = 0; count < 60; count++) await store.addDelivery({ webhookId });
    const given = (await Promise.all(Array.from({ length: 8 }, () => claim(webhookId, 20)))).flat();
    given.push(...(await claim(webhookId, 60)));
    expect(given).toHaveLength(60);
    expect(new Set(idsOf(given)).size).toBe(60);
  });

  test.for([{ isEnabled: false }, { isPaused: true }])(
    "gives nothing of a webhook that is %o",
    async (row) => {
      const webhookId = await store.addWebhook(row);
      await store.addDelivery({ webhookId });
      expect(await claim(webhookId)).toEqual([]);
    },
  );
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

  test("of an attempt whose lease was taken over leaves no trace, even beside its successor in one batch", async () => {
    const { webhookId, id, claimed } = await oneClaimed();
    const [lease] = await listExpiredLeases(store.pool, later(30_000), 10);
    await loseAttempts(
      store.pool,
      [{ lease: lease!, settlement: settleLost(false, 1, storeNow), startedAt: storeNow }],
      storeNow,
    );
    expect(await settle(claimed, "succeeded")).toEqual(new Set());
    const [second] = await claim(webhookId);
    expect(await settle(claimed, "succeeded")).toEqual(new Set());
    expect(await store.readDelivery(id)).toMatchObject({
      state: "delivering",
      attempt_number: 2,
      body: null,
    });
    const both = [aSettledAttempt(claimed, "succeeded"), aSettledAttempt(second!, "failed")];
    expect(await settleAttempts(store.pool, both, storeNow)).toEqual(new Set([id]));
    expect((await store.readAttempts(id)).map(({ number, outcome }) => `${number} ${outcome}`)).toEqual([
      "1 lost",
      "2 failed",
    ]);
    expect(await store.readDelivery(id)).toMatchObject({ state: "pending", round_attempt_count: 1 });
  });
});

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

  test("five lost in a row end in failed, and a loss is none of the round's attempts", async () => {
    const webhookId = await store.addWebhook();
    const id = await store.addDelivery({ webhookId });
    for (let count = 1; count <= 5; count++) {
      expect((await store.readDelivery(id)).state).toBe("pending");
      const [claimed] = await claim(webhookId);
      const [lease] = await listLeases(store.pool, [claimed!]);
      expect(lease).toMatchObject({ attemptNumber: count, lostInARow: count - 1 });
      const settlement = settleLost(false, lease!.lostInARow + 1, storeNow);
      expect(
        await loseAttempts(store.pool, [{ lease: lease!, settlement, startedAt: storeNow }], storeNow),
      ).toBe(1);
    }
    expect(await store.readDelivery(id)).toMatchObject({
      state: "failed",
      reason: "lost_repeatedly",
      attempt_number: 5,
      round_attempt_count: 0,
    });
    expect((await store.readAttempts(id)).map(({ outcome }) => outcome)).toEqual(Array(5).fill("lost"));
  });

  test("that are given back make their deliveries due again, under the same number", async () => {
    const { webhookId, id, claimed } = await oneClaimed();
    await releaseLeases(store.pool, [claimed], storeNow);
    expect(await store.readDelivery(id)).toMatchObject({
      state: "pending",
      attempt_number: 0,
      due_at: storeNow,
    });
    const [again] = await claim(webhookId);
    expect(again).toMatchObject({ id, attemptNumber: 1 });
    await settle(again!, "succeeded");
    await releaseLeases(store.pool, [claimed], storeNow);
    expect(await store.readDelivery(id)).toMatchObject({ state: "delivered", attempt_number: 1 });
  });
});

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

/** What a delivery is by the contract: the moves below are made on it and on the row, and both must agree. */
interface Model {
  state: string;
  reason: string | null;
  number: number;
  roundCount: number;
  isDue: boolean;
  isLeased: boolean;
  outcomes: Record<number, string>;
}

type Move =
  | { kind: "claim" | "lose" | "release" | "turn off and on" | "retry" | "renew" }
  | { kind: "report"; outcome: Outcome; which: number };

const moves = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: fc.constant<Move>({ kind: "claim" }) },
    {
      weight: 6,
      arbitrary: fc.record({
        kind: fc.constant("report" as const),
        outcome: fc.constantFrom<Outcome>(
          "succeeded",
          "failed",
          "failed",
          "failed",
          "skipped",
          "transformer_error",
        ),
        // Mostly the newest attempt, now and then one that lost its lease.
        which: fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, fc.nat(3)),
      }),
    },
    fc.constantFrom<Move>(
      { kind: "lose" },
      { kind: "lose" },
      { kind: "release" },
      { kind: "turn off and on" },
      { kind: "retry" },
      { kind: "retry" },
      { kind: "renew" },
    ),
  ),
  { minLength: 5, maxLength: 40 },
);

test("whatever happens in whatever order, a delivery goes the ways of the contract and no constraint is in them", async () => {
  const webhookId = await store.addWebhook();
  const seen = new Set<string>();
  await fc.assert(
    fc.asyncProperty(moves, async (sequence) => {
      await store.pool.query("TRUNCATE delivery, attempt");
      const id = await store.addDelivery({ webhookId });
      const model: Model = {
        state: "pending",
        reason: null,
        number: 0,
        roundCount: 0,
        isDue: true,
        isLeased: false,
        outcomes: {},
      };
      let lostInARow = 0;
      // Newest first.
      let claims: ClaimedDelivery[] = [];
      for (const move of sequence) {
        if (move.kind === "claim") {
          await store.pool.query("UPDATE delivery SET due_at = $2 WHERE id = $1 AND due_at IS NOT NULL", [
            id,
            storeNow,
          ]);
          const claimed = await claim(webhookId);
          expect(claimed).toHaveLength(model.isDue ? 1 : 0);
          if (model.isDue) {
            claims.unshift(claimed[0]!);
            expect(claimed[0]!.isResend).toBe(model.state === "delivered");
            Object.assign(model, { isDue: false, isLeased: true, number: model.number + 1 });
            if (model.state === "pending") model.state = "delivering";
          }
        } else if (move.kind === "report") {
          const claimed = claims[Math.min(move.which, claims.length - 1)];
          if (!claimed) continue;
          const isCurrent = model.isLeased && claimed.attemptNumber === model.number;
          const settled = aSettledAttempt(claimed, move.outcome);
          expect((await settleAttempts(store.pool, [settled], storeNow)).size).toBe(isCurrent ? 1 : 0);
          if (!isCurrent) continue;
          const isRequest = move.outcome === "succeeded" || move.outcome === "failed";
          model.isLeased = false;
          lostInARow = 0;
          if (isRequest) {
            model.outcomes[model.number] = move.outcome;
            model.roundCount += 1;
          } else {
            model.number -= 1;
            claims = claims.filter((one) => one !== claimed);
          }
          if (model.state === "delivered") continue;
          if (move.outcome === "succeeded") Object.assign(model, { state: "delivered", reason: null });
          else if (model.state === "canceled") continue;
          else if (move.outcome === "skipped") model.state = "skipped";
          else if (move.outcome === "transformer_error")
            Object.assign(model, { state: "failed", reason: move.outcome });
          else if (model.roundCount === 4)
            Object.assign(model, { state: "failed", reason: "attempts_exhausted" });
          else Object.assign(model, { state: "pending", isDue: true });
        } else if (move.kind === "lose") {
          const leases = await listExpiredLeases(store.pool, later(3_600_000), 10);
          expect(leases).toHaveLength(model.isLeased ? 1 : 0);
          if (!model.isLeased) continue;
          const settlement = settleLost(leases[0]!.isResend, leases[0]!.lostInARow + 1, storeNow);
          await loseAttempts(store.pool, [{ lease: leases[0]!, settlement, startedAt: storeNow }], storeNow);
          lostInARow += 1;
          model.isLeased = false;
          model.outcomes[model.number] = "lost";
          if (model.state !== "delivering") continue;
          if (lostInARow === 5) Object.assign(model, { state: "failed", reason: "lost_repeatedly" });
          else Object.assign(model, { state: "pending", isDue: true });
        } else if (move.kind === "release") {
          const current = claims.find((one) => model.isLeased && one.attemptNumber === model.number);
          if (!current) continue;
          await releaseLeases(store.pool, [current], storeNow);
          claims = claims.filter((one) => one !== current);
          Object.assign(model, {
            isLeased: false,
            number: model.number - 1,
            isDue: model.state !== "canceled",
          });
          if (model.state === "delivering") model.state = "pending";
        } else if (move.kind === "turn off and on") {
          await store.setWebhook(webhookId, { isEnabled: false });
          await cancelUnfinished(store.database, webhookId, "webhook_disabled", storeNow);
          await store.setWebhook(webhookId, { isEnabled: true });
          if (["pending", "delivering"].includes(model.state)) {
            Object.assign(model, { state: "canceled", reason: "webhook_disabled" });
          }
          model.isDue = false;
        } else if (move.kind === "retry") {
          const isAllowed =
            ["failed", "canceled", "delivered"].includes(model.state) && !model.isDue && !model.isLeased;
          const asked = retryDelivery(store.database, { tenantId: 1, clientId: null }, id, storeNow);
          if (!isAllowed) await expect(asked).rejects.toMatchObject({ kind: "wrong_state" });
          else {
            await asked;
            lostInARow = 0;
            Object.assign(model, { isDue: true, roundCount: 0, reason: null });
            if (model.state !== "delivered") model.state = "pending";
          }
        } else if (claims[0]) {
          await renewLeases(store.pool, [claims[0]], later(60_000));
        }
        const row = await store.readDelivery(id);
        const attempts = await store.readAttempts(id);
        expect({
          state: row.state,
          reason: row.reason,
          number: row.attempt_number,
          roundCount: row.round_attempt_count,
          isDue: row.due_at !== null,
          isLeased: row.leased_until !== null,
          outcomes: Object.fromEntries(attempts.map(({ number, outcome }) => [number, outcome])),
        }).toEqual(model);
        seen.add(`${model.state} ${model.reason}`);
      }
    }),
    { numRuns: 120 },
  );
  // Chance led to every state, or this test has shown less than it says.
  expect([...seen].map((one) => one.split(" ")[0])).toEqual(
    expect.arrayContaining(["pending", "delivering", "delivered", "failed", "canceled", "skipped"]),
  );
}, 60_000);
