/** What follows a request to WhatsApp: for its message, and for number and recipient. Pure. */

import type { SendOutcome } from "../domain/outgoing.ts";
import { stoppedRetryMs } from "../store/outgoing.ts";
import type { MessageSettlement } from "../store/outgoing-settlements.ts";
import type { LimitChange } from "../store/send-limits.ts";

/** What is to be done about a refusal; null if nobody knows whether the message went out. */
export type JudgeError = (
  httpStatus: number,
  code: number | null,
) => { action: SendAction; reason: string; holdSeconds?: number } | null;

type SendAction = "retry" | "hold_number" | "hold_recipient" | "stop_number" | "fail";

export interface Verdict {
  settlement: MessageSettlement;
  change: LimitChange;
  /** The word for a refusal; null for what was accepted, and for unclear outcomes. */
  reason: string | null;
}

/** Waits after the first, second, … request that is worth repeating; the last one stands for all further ones. */
const retryWaitsMs = [1_000, 5_000, 20_000, 60_000];
/** After so many faults of WhatsApp's own the message is given up. */
const faultsMax = 5;

/** What was tried before. */
export interface Tries {
  /** Requests made for the message, this one included. */
  attemptCount: number;
  /** Those before this one that WhatsApp failed at by a fault of its own. */
  faultCount: number;
}

/**
 * @param jitter  0 to 1: spreads what waits for the same number
 */
export function judgeOutcome(
  outcome: SendOutcome,
  tries: Tries,
  judgeError: JudgeError,
  now: Date,
  jitter: number,
): Verdict {
  switch (outcome.kind) {
    case "accepted":
      return {
        settlement: { state: "sent", wamid: outcome.wamid, phone: outcome.phone },
        change: { kind: "cleared" },
        reason: null,
      };
    case "unclear":
      return unclear(outcome.message);
    case "not_sent":
      return {
        settlement: {
          state: "scheduled",
          readyAt: retryAt(tries.attemptCount, now),
          isFault: false,
          code: null,
          message: outcome.message,
        },
        change: { kind: "none" },
        reason: "whatsapp_unreachable",
      };
    case "refused":
      return judgeRefusal(outcome, tries, judgeError, now, jitter);
  }
}

function judgeRefusal(
  { status, code, message }: SendOutcome & { kind: "refused" },
  { faultCount }: Tries,
  judgeError: JudgeError,
  now: Date,
  jitter: number,
): Verdict {
  const error = judgeError(status, code);
  if (error === null) return unclear(message);
  const { action, reason } = error;
  const failed: MessageSettlement = { state: "failed", reason, code, message };
  const later = (readyAt: Date | null): MessageSettlement => ({
    state: "scheduled",
    readyAt,
    isFault: action === "retry",
    code,
    message,
  });
  switch (action) {
    case "fail":
      return { settlement: failed, change: { kind: "none" }, reason };
    case "retry":
      return {
        settlement: faultCount + 1 < faultsMax ? later(retryAt(faultCount + 1, now)) : failed,
        change: { kind: "none" },
        reason,
      };
    case "hold_recipient":
      return { settlement: later(null), change: { kind: "hold_recipient" }, reason };
    case "hold_number": {
      const holdMs = (error.holdSeconds ?? 1) * 1_000 * (0.5 + jitter);
      const until = new Date(now.getTime() + Math.round(holdMs));
      return { settlement: later(until), change: { kind: "hold_number", until }, reason };
    }
    case "stop_number": {
      const until = new Date(now.getTime() + stoppedRetryMs);
      return { settlement: later(until), change: { kind: "stop_number", reason, until }, reason };
    }
  }
}

function unclear(message: string): Verdict {
  return { settlement: { state: "unknown", message }, change: { kind: "none" }, reason: null };
}

function retryAt(count: number, now: Date): Date {
  const waitMs = retryWaitsMs[Math.min(count, retryWaitsMs.length) - 1]!;
  return new Date(now.getTime() + waitMs);
}
