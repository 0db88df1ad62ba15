import type { AttemptReport, MadePayload } from "../../server/domain/attempt-report.ts";
import { settleAttempt } from "../../server/domain/delivery.ts";
import type { ClaimedDelivery, SettledAttempt } from "../../server/domain/delivery-claim.ts";
import { storeNow } from "./open-store.ts";

export type Outcome = "succeeded" | "failed" | "skipped" | "transformer_error";

export const retryScheduleMs = [10_000, 60_000, 300_000];

export const madePayload: MadePayload = {
  body: Buffer.from("made by the first attempt"),
  contentType: "text/plain",
  headers: { "x-kind": "greeting" },
  transformerVersion: "1.0.0",
};

/** What a thread tells of an attempt, with what the rules make of it. */
export function aSettledAttempt(
  claimed: ClaimedDelivery,
  outcome: Outcome,
  startedAt: Date = storeNow,
): SettledAttempt {
  const reported = {
    deliveryId: claimed.id,
    webhookId: claimed.webhookId,
    attemptNumber: claimed.attemptNumber,
    startedAtMs: startedAt.getTime(),
    durationMs: 13,
  };
  const payload = claimed.payload === null ? madePayload : null;
  const reports: Record<Outcome, AttemptReport> = {
    succeeded: {
      ...reported,
      kind: "succeeded",
      payload,
      response: { status: 204, headers: { a: "b" }, body: Buffer.of(0, 255) },
    },
    failed: {
      ...reported,
      kind: "failed",
      payload,
      errorKind: "timeout",
      errorMessage: "no answer",
      response: null,
    },
    skipped: { ...reported, kind: "skipped" },
    transformer_error: { ...reported, kind: "transformer_error", message: "it threw" },
  };
  const report = reports[outcome];
  return {
    report,
    settlement: settleAttempt(claimed, report, retryScheduleMs),
    transformer: payload && "raw",
  };
}
