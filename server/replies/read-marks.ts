/** Shows WhatsApp users that their messages were read. Nothing is kept of it, and it may be repeated. */

import type { Clock } from "../clock.ts";
import { GatewayError } from "../domain/errors.ts";
import type { SendOutcome } from "../domain/outgoing.ts";
import type { Owner } from "../store/access.ts";
import type { Database } from "../store/orm.ts";
import { findSendingNumber } from "../store/sending-numbers.ts";
import { refuseSend } from "./send-failure.ts";
import type { JudgeError } from "./verdict.ts";

export interface ReadMarkParts {
  database: Database;
  openToken(sealed: Uint8Array): string;
  graph: {
    markRead(
      sender: { phoneNumberId: string; accessToken: string },
      wamid: string,
      isTyping: boolean,
    ): Promise<SendOutcome>;
  };
  judgeError: JudgeError;
  clock: Clock;
}

/** @throws GatewayError as sending does, but `unavailable` where the outcome is unclear: it is safe to try again */
export async function markRead(
  parts: ReadMarkParts,
  owner: Owner,
  call: { clientRef: string | null; phoneNumberId: string | null; wamid: string; isTyping: boolean },
): Promise<void> {
  const number = await findSendingNumber(parts.database.pool, owner, call.clientRef, call.phoneNumberId);
  const accessToken = parts.openToken(number.accessTokenSealed);
  const { phoneNumberId } = number;
  const outcome = await parts.graph.markRead({ phoneNumberId, accessToken }, call.wamid, call.isTyping);
  if (outcome.kind === "accepted") return;
  if (outcome.kind !== "refused") {
    throw new GatewayError("unavailable", `WhatsApp gave no answer (${outcome.message}), try again`);
  }
  const { status, code, message } = outcome;
  const reason = parts.judgeError(status, code)?.reason ?? "refused";
  const refusal = { messageId: null, reason, code, message, retryAt: null };
  throw refuseSend(refusal, parts.clock.now(), "the message was not marked as read");
}
