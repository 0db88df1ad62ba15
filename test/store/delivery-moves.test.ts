import fc from "fast-check";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { settleLost } from "../../server/domain/delivery.ts";
import type { ClaimedDelivery } from "../../server/domain/delivery-claim.ts";
import { cancelUnfinished, retryDelivery } from "../../server/store/delivery-changes.ts";
import { claimDue } from "../../server/store/delivery-claims.ts";
import {
  listExpiredLeases,
  loseAttempts,
  releaseLeases,
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
});
afterAll(() => store.close());
afterEach(async () => {
  await store.pool.query("TRUNCATE delivery, attempt");
});

async function claim(webhookId: number, room = 10): Promise<ClaimedDelivery[]> {
  return (await claimDue(store.pool, [{ webhookId, room }], storeNow, leaseEnd)).deliveries;
}

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
