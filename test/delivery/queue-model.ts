/** A queue of deliveries in a few lines, which says what the answers of a real one should be. */

import { expect } from "vitest";
import { lostInARowMax, type Settlement } from "../../server/domain/delivery.ts";
import type { BrokenLease, ClaimedDelivery } from "../../server/domain/delivery-claim.ts";
import type { Outcome } from "../store/reports.ts";
import type { Logged } from "./queue-lab.ts";

export type Model = ReturnType<typeof createModel>;

/** Either it waits, or it is leased, or it has ended. */
type Place = { dueAt: Date } | { leasedUntil: Date } | { state: string; reason: string | null };

export function createModel() {
  const deliveries = new Map<string, ReturnType<typeof createDelivery>>();
  const ofWebhook = (webhookId: number) =>
    [...deliveries.entries()].filter(([, one]) => one.webhookId === webhookId);

  return {
    all: () => deliveries.entries(),
    of: (id: string) => deliveries.get(id)!,
    add(id: string, webhookId: number, dueAt: Date, leasedUntil: Date | null): void {
      deliveries.set(id, createDelivery(webhookId, leasedUntil ? { leasedUntil } : { dueAt }));
    },
    lose: (id: string, now: Date) => deliveries.get(id)!.lose(now),
    /** Those that were claimed are due and as many as there may be, and none of the rest has waited longer. */
    expectClaim(
      claimed: readonly ClaimedDelivery[],
      webhookId: number,
      room: number,
      now: Date,
      leasedUntil: Date,
    ): void {
      const dueMs = new Map(
        ofWebhook(webhookId)
          .filter(([, one]) => one.dueMs() <= now.getTime())
          .map(([id, one]) => [id, one.dueMs()]),
      );
      const sorted = [...dueMs.values()].toSorted((a, b) => a - b);
      const claimedMs = claimed.map(({ id }) => dueMs.get(id) ?? Number.NaN);
      expect(claimedMs.toSorted((a, b) => a - b)).toEqual(sorted.slice(0, room));
      expect(new Set(claimed.map(({ id }) => id)).size).toBe(claimed.length);
      for (const { id, attemptNumber, roundAttemptCount } of claimed) {
        const expected = deliveries.get(id)!.claim(leasedUntil);
        expect({ attemptNumber, roundAttemptCount }).toEqual(expected);
      }
    },
    expectBroken(broken: readonly BrokenLease[], now: Date, limit: number): void {
      const ends = [...deliveries.values()]
        .map((one) => one.leasedMs())
        .filter((ms) => ms < now.getTime())
        .toSorted((a, b) => a - b);
      expect(broken.map(({ leasedUntil }) => leasedUntil.getTime())).toEqual(ends.slice(0, limit));
      for (const { id, attemptNumber, lostInARow } of broken) {
        expect(deliveries.get(id)!.holds(attemptNumber)).toBe(true);
        expect(lostInARow).toBe(deliveries.get(id)!.lostInARow());
      }
    },
  };
}

function createDelivery(webhookId: number, first: Place) {
  let place = first;
  let number = "leasedUntil" in first ? 1 : 0;
  let roundCount = 0;
  let lostInARow = 0;
  const attempts: string[] = [];

  return {
    webhookId,
    dueMs: () => ("dueAt" in place ? place.dueAt.getTime() : Number.POSITIVE_INFINITY),
    leasedMs: () => ("leasedUntil" in place ? place.leasedUntil.getTime() : Number.POSITIVE_INFINITY),
    lostInARow: () => lostInARow,
    holds: (attemptNumber: number) => "leasedUntil" in place && number === attemptNumber,
    claim(leasedUntil: Date) {
      place = { leasedUntil };
      number += 1;
      return { attemptNumber: number, roundAttemptCount: roundCount };
    },
    extend(leasedUntil: Date): void {
      place = { leasedUntil };
    },
    release(dueAt: Date): void {
      place = { dueAt };
      number -= 1;
    },
    settle(outcome: Outcome, settlement: Settlement): void {
      lostInARow = 0;
      if (outcome === "succeeded" || outcome === "failed") {
        attempts.push(`${number} ${outcome}`);
        roundCount += 1;
      } else {
        number -= 1;
      }
      const isLeft = outcome === "failed" && roundCount < 4;
      // When it is due again is for the rules of retries; whether, for this model.
      if (isLeft) place = { dueAt: settlement.state === "pending" ? settlement.dueAt : new Date(Number.NaN) };
      else if (outcome === "succeeded") place = { state: "delivered", reason: null };
      else if (outcome === "skipped") place = { state: "skipped", reason: null };
      else
        place = {
          state: "failed",
          reason: outcome === "failed" ? "attempts_exhausted" : "transformer_error",
        };
    },
    lose(now: Date): void {
      attempts.push(`${number} lost`);
      lostInARow += 1;
      place = lostInARow === lostInARowMax ? { state: "failed", reason: "lost_repeatedly" } : { dueAt: now };
    },
    log(): Logged {
      if ("state" in place) return { ...place, attempts };
      return { state: "dueAt" in place ? "pending" : "delivering", reason: null, attempts };
    },
  };
}
