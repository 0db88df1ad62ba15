/** What a caller is told of a message that was not sent, or of which nobody knows. */

import { GatewayError, type GatewayErrorKind } from "../domain/errors.ts";

/** Reasons by what a caller can do about them; others are `wrong_state`. */
const kindByReason: Readonly<Record<string, GatewayErrorKind>> = {
  recipient_invalid: "invalid_input",
  request_invalid: "invalid_input",
  media_invalid: "invalid_input",
  unsupported_type: "invalid_input",
  template_invalid: "invalid_input",
  template_not_found: "invalid_input",
  rate_limited: "over_limit",
  call_limit: "over_limit",
  maintenance: "unavailable",
  recipient_rate_limited: "over_limit",
  whatsapp_unavailable: "unavailable",
  whatsapp_unreachable: "unavailable",
};
const fieldByReason: Readonly<Record<string, string>> = {
  recipient_invalid: "to",
  template_invalid: "template",
  template_not_found: "template",
};

export interface Refusal {
  /** Our id of the message; null if none was stored. */
  messageId: string | null;
  reason: string;
  /** Graph's code. */
  code: number | null;
  message: string;
  retryAt: Date | null;
}

/** @param what  what did not happen */
export function refuseSend(refusal: Refusal, now: Date, what = "the message was not sent"): GatewayError {
  const { messageId, reason, code, retryAt } = refusal;
  const kind = kindByReason[reason] ?? "wrong_state";
  const field = fieldByReason[reason];
  const why = code === null ? reason : `${reason}, code ${code}`;
  const waits = kind === "over_limit" || kind === "unavailable";
  return new GatewayError(kind, `${field ? `${field}: ` : ""}${what} (${why}): ${refusal.message}`, {
    ...(field !== undefined && { field }),
    ...(waits &&
      retryAt && {
        retryAfterSeconds: Math.max(1, Math.ceil((retryAt.getTime() - now.getTime()) / 1000)),
      }),
    send: { messageId, reason, code },
  });
}

/** Not safe to send again: it may have gone out. */
export function reportUnclear(messageId: string, message: string): GatewayError {
  return new GatewayError(
    "unclear",
    `it is unknown whether the message was sent (${message}): do not send it again before its status says so`,
    { send: { messageId, reason: "unclear", code: null } },
  );
}
