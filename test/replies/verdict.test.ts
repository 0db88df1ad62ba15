import { expect, test } from "vitest";
import type { SendOutcome } from "../../server/domain/outgoing.ts";
import { judgeOutcome } from "../../server/replies/verdict.ts";
import { judgeSendError } from "../../server/whatsapp/send-errors.ts";

const now = new Date("2026-03-05T12:00:00Z");
const refused = (code: number): SendOutcome => ({ kind: "refused", status: 400, code, message: "x" });

function judge(outcome: SendOutcome, attemptCount: number, faultCount: number) {
  const { settlement } = judgeOutcome(outcome, { attemptCount, faultCount }, judgeSendError, now, 0.5);
  const readyAt = settlement.state === "scheduled" ? settlement.readyAt : null;
  return [settlement.state, readyAt === null ? null : (readyAt.getTime() - now.getTime()) / 1000];
}

test.for([
  [0, "scheduled", 1],
  [1, "scheduled", 5],
  [2, "scheduled", 20],
  [3, "scheduled", 60],
  [4, "failed", null],
] as [number, string, number | null][])(
  "WhatsApp's own fault after %i others: %s, in %s seconds, however often the message was held back",
  ([faultCount, state, seconds]) => {
    for (const attemptCount of [faultCount + 1, 100]) {
      expect(judge(refused(131016), attemptCount, faultCount)).toEqual([state, seconds]);
    }
  },
);

test("a message that could not be brought to WhatsApp is tried again every minute, without end", () => {
  const outcome: SendOutcome = { kind: "not_sent", message: "x" };
  expect([1, 2, 3, 4, 5, 1_000].map((count) => judge(outcome, count, 0))).toEqual(
    [1, 5, 20, 60, 60, 60].map((seconds) => ["scheduled", seconds]),
  );
});

test.for([
  [130429, 4],
  [80007, 120],
  [131057, 60],
  [190, 900],
] as [number, number][])("code %i holds the message for %i seconds, without end", ([code, seconds]) => {
  expect(judge(refused(code), 1_000, 0)).toEqual(["scheduled", seconds]);
});

test("an outcome that nobody knows is never tried again", () => {
  expect(judge({ kind: "unclear", message: "x" }, 1, 0)).toEqual(["unknown", null]);
  expect(judge({ kind: "refused", status: 500, code: 131000, message: "x" }, 1, 0)).toEqual([
    "unknown",
    null,
  ]);
});
