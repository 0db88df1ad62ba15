import { describe, expect, test } from "vitest";
import type { AttemptReport } from "../../server/domain/attempt-report.ts";
import { retryDelayMs } from "../../server/domain/retry.ts";

const endedAtMs = Date.parse("2026-03-05T12:00:00Z");
const hourMs = 3_600_000;

function failed(status: number, headers: Record<string, string> = {}): AttemptReport {
  return {
    kind: "failed",
    deliveryId: "d",
    webhookId: 1,
    attemptNumber: 1,
    startedAtMs: endedAtMs - 5,
    durationMs: 5,
    payload: null,
    errorKind: "http_status",
    errorMessage: "",
    response: { status, headers, body: new Uint8Array() },
  };
}

const unanswered = { ...failed(500), errorKind: "timeout", response: null } as AttemptReport;

describe("the wait", () => {
  test("is the scheduled one, to the millisecond", () => {
    for (const scheduledMs of [10_000, 60_000, 300_000]) {
      expect(retryDelayMs(scheduledMs, failed(500), endedAtMs)).toBe(scheduledMs);
      expect(retryDelayMs(scheduledMs, failed(503), endedAtMs)).toBe(scheduledMs);
      expect(retryDelayMs(scheduledMs, unanswered, endedAtMs)).toBe(scheduledMs);
    }
  });

  test.each<[string, number]>([
    ["30", 30_000],
    [" 30 ", 30_000],
    ["3600", hourMs],
    ["5", 10_000],
    ["0", 10_000],
    ["3601", hourMs],
    ["9".repeat(400), hourMs],
    ["Thu, 05 Mar 2026 12:00:30 GMT", 30_000],
    ["Thursday, 05-Mar-26 12:00:30 GMT", 30_000],
    ["Thu, 05 Mar 2026 12:00:03 GMT", 10_000],
    ["Thu, 05 Mar 2026 11:00:00 GMT", 10_000],
    ["Thu, 05 Mar 2099 12:00:00 GMT", hourMs],
    ["", 10_000],
    ["soon", 10_000],
    ["-5", 10_000],
    ["1.5e3", 10_000],
    ["2099-01-01T00:00:00Z", 10_000],
    ["Someday, maybe", 10_000],
    ["120, 30", 10_000],
  ])("after a 503 with Retry-After %j and 10 s scheduled is %i ms", (header, expected) => {
    expect(retryDelayMs(10_000, failed(503, { "retry-after": header }), endedAtMs)).toBe(expected);
    expect(retryDelayMs(10_000, failed(429, { "retry-after": header }), endedAtMs)).toBe(expected);
  });

  test("until a date without a zone is until that time in UTC, wherever the machine stands", () => {
    const zone = process.env.TZ;
    process.env.TZ = "America/New_York";
    try {
      const report = failed(503, { "retry-after": "Thu Mar  5 12:00:30 2026" });
      expect(retryDelayMs(10_000, report, endedAtMs)).toBe(30_000);
    } finally {
      if (zone === undefined) delete process.env.TZ;
      else process.env.TZ = zone;
    }
  });

  test.each([200, 301, 404, 410, 500, 502, 504])("after a %i does not listen to Retry-After", (status) => {
    expect(retryDelayMs(10_000, failed(status, { "retry-after": "60" }), endedAtMs)).toBe(10_000);
  });

  test("of more than an hour, when so scheduled, is not shortened", () => {
    expect(retryDelayMs(2 * hourMs, failed(503, { "retry-after": "7000" }), endedAtMs)).toBe(2 * hourMs);
  });
});
