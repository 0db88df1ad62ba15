import { describe, expect, test } from "vitest";
import type { AttemptReport } from "../../server/domain/attempt-report.ts";
import { settleAttempt, settleLost } from "../../server/domain/delivery.ts";

const scheduleMs = [10_000, 60_000, 300_000];
const startedAtMs = Date.parse("2026-03-05T12:00:00Z");
const common = { deliveryId: "d", webhookId: 1, attemptNumber: 1, startedAtMs, durationMs: 2_500 };
const response = { status: 500, headers: {}, body: new Uint8Array() };

const reports = {
  succeeded: { ...common, kind: "succeeded", payload: null, response: { ...response, status: 200 } },
  failed: { ...common, kind: "failed", payload: null, errorKind: "http_status", errorMessage: "", response },
  timedOut: {
    ...common,
    kind: "failed",
    payload: null,
    errorKind: "timeout",
    errorMessage: "",
    response: null,
  },
  gone: {
    ...common,
    kind: "failed",
    payload: null,
    errorKind: "http_status",
    errorMessage: "",
    response: { ...response, status: 410 },
  },
  skipped: { ...common, kind: "skipped" },
  transformerError: { ...common, kind: "transformer_error", message: "TypeError: no text" },
} satisfies Record<string, AttemptReport>;

const atRound = (roundAttemptCount: number) => ({ roundAttemptCount, isResend: false });
const afterEndMs = (waitMs: number) => new Date(startedAtMs + 2_500 + waitMs);

describe("an attempt of a round", () => {
  test.each([0, 1, 2, 3])("that succeeds makes the delivery delivered (%i before it)", (count) => {
    expect(settleAttempt(atRound(count), reports.succeeded, scheduleMs)).toEqual({ state: "delivered" });
  });

  test.each([
    ["failed", 0, 10_000],
    ["failed", 1, 60_000],
    ["failed", 2, 300_000],
    ["timedOut", 0, 10_000],
    ["gone", 1, 60_000],
  ] as const)("%s with %i before it waits %i ms from its end", (name, count, waitMs) => {
    expect(settleAttempt(atRound(count), reports[name], scheduleMs)).toEqual({
      state: "pending",
      dueAt: afterEndMs(waitMs),
    });
  });

  test.each(["failed", "timedOut", "gone"] as const)("%s as the fourth gives up", (name) => {
    expect(settleAttempt(atRound(3), reports[name], scheduleMs)).toEqual({
      state: "failed",
      reason: "attempts_exhausted",
      detail: null,
    });
  });

  test("the number of attempts follows the schedule: with no waits the first is the last", () => {
    expect(settleAttempt(atRound(0), reports.failed, [])).toMatchObject({ reason: "attempts_exhausted" });
  });

  test("Retry-After lengthens the wait, counted from the attempt's end", () => {
    const busy = {
      ...reports.failed,
      response: { ...response, status: 503, headers: { "retry-after": "90" } },
    };
    expect(settleAttempt(atRound(0), busy, scheduleMs)).toEqual({
      state: "pending",
      dueAt: afterEndMs(90_000),
    });
  });

  test.each([0, 3])("with nothing to send is skipped (%i before it)", (count) => {
    expect(settleAttempt(atRound(count), reports.skipped, scheduleMs)).toEqual({ state: "skipped" });
  });

  test("whose transformer throws fails the delivery at once and says why", () => {
    expect(settleAttempt(atRound(0), reports.transformerError, scheduleMs)).toEqual({
      state: "failed",
      reason: "transformer_error",
      detail: "TypeError: no text",
    });
  });
});

test.each(Object.keys(reports) as (keyof typeof reports)[])(
  "a delivered one that is sent once more stays delivered: %s",
  (name) => {
    const position = { roundAttemptCount: 0, isResend: true };
    expect(settleAttempt(position, reports[name], scheduleMs)).toEqual({ state: "delivered" });
  },
);

describe("a lost attempt", () => {
  const now = new Date("2026-03-05T13:00:00Z");

  test.each([1, 2, 3, 4])("number %i in a row is due again at once", (lostInARow) => {
    expect(settleLost(false, lostInARow, now)).toEqual({ state: "pending", dueAt: now });
  });

  test.each([5, 6])("number %i in a row gives up", (lostInARow) => {
    expect(settleLost(false, lostInARow, now)).toEqual({
      state: "failed",
      reason: "lost_repeatedly",
      detail: null,
    });
  });

  test.each([1, 5])("of a delivered one (%i in a row) leaves it delivered", (lostInARow) => {
    expect(settleLost(true, lostInARow, now)).toEqual({ state: "delivered" });
  });
});
