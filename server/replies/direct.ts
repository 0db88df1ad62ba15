/**
 * Sends a message for a caller who waits for what comes of it. Its row is committed before the request, so a crash
 * leaves an `unknown` message behind, and a call with the same key does not send it a second time.
 */

import type { Clock } from "../clock.ts";
import { GatewayError } from "../domain/errors.ts";
import type { IdSource } from "../domain/ids.ts";
import type { OutgoingContent, Recipient } from "../domain/outgoing.ts";
import type { Owner } from "../store/access.ts";
import type { Database } from "../store/orm.ts";
import {
  findSentId,
  type NewMessage,
  type RepeatedMessage,
  renewMessage,
  reserveMessage,
} from "../store/outgoing-calls.ts";
import type { SendRates } from "../store/send-limits.ts";
import { findSendingNumber, type SendingNumber } from "../store/sending-numbers.ts";
import type { Carried, Courier } from "./courier.ts";
import { refuseSend, reportUnclear } from "./send-failure.ts";
import type { SentEvents } from "./sent-events.ts";
import { type JudgeError, judgeOutcome, type Tries, type Verdict } from "./verdict.ts";

export interface SendCall {
  clientRef: string | null;
  phoneNumberId: string | null;
  to: Recipient;
  content: OutgoingContent;
  /** Comes back in the payloads of the message's statuses. */
  callbackData: string | null;
  idempotencyKey: string | null;
}

export interface SentAnswer {
  /** Our id of the message. */
  id: string;
  wamid: string;
}

export interface DirectSender {
  /**
   * Settles when WhatsApp has taken the message.
   *
   * @throws GatewayError as `findSendingNumber` does; `unclear` when nobody knows whether it went out; `over_limit`,
   *         `unavailable`, `invalid_input` or `wrong_state` when it did not
   */
  send(owner: Owner, call: SendCall): Promise<SentAnswer>;
}

export interface DirectSenderParts {
  database: Database;
  courier: Courier;
  sentEvents: SentEvents;
  judgeError: JudgeError;
  ids: IdSource;
  random(): number;
  clock: Clock;
}

export interface DirectSenderSettings extends SendRates {
  leaseMs: number;
  /** Bound on one request to WhatsApp. */
  requestTimeoutMs: number;
  /** No further request is made if it could end later than this after the call came. */
  callTimeoutMs: number;
}

export function createDirectSender(parts: DirectSenderParts, settings: DirectSenderSettings): DirectSender {
  const { database, courier, clock } = parts;
  const leaseEnd = () => new Date(clock.now().getTime() + settings.leaseMs);

  async function reserve(owner: Owner, call: SendCall, number: SendingNumber): Promise<Carried | SentAnswer> {
    const { clientId, numberId, phoneNumberId, accessTokenSealed } = number;
    const { to, content, callbackData, idempotencyKey } = call;
    const id = parts.ids.next();
    const message: NewMessage = {
      id,
      tenantId: owner.tenantId,
      clientId,
      numberId,
      to,
      content,
      callbackData,
      idempotencyKey,
    };
    const now = clock.now();
    const reserved = await reserveMessage(database.pool, settings, message, now, leaseEnd());
    if (reserved.kind === "repeat") return answerRepeat(reserved.message);
    if (reserved.kind === "wait") {
      const isStopped = reserved.why === "stopped";
      throw refuseSend(
        {
          messageId: null,
          reason: isStopped ? (reserved.reason ?? "stopped") : "rate_limited",
          code: null,
          message: isStopped
            ? "WhatsApp lets this number send nothing until that is mended"
            : "too many messages, try again later",
          retryAt: new Date(reserved.untilMs),
        },
        now,
      );
    }
    return { id, numberId, phoneNumberId, to, content, accessTokenSealed, sendAt: reserved.sendAt };
  }

  return {
    async send(owner, call) {
      const startMs = performance.now();
      const number = await findSendingNumber(database.pool, owner, call.clientRef, call.phoneNumberId);
      const message = await reserve(owner, call, number);
      if ("wamid" in message) return message;
      const tries: Tries = { attemptCount: 1, faultCount: 0 };
      for (; ; tries.attemptCount++) {
        const outcome = await courier.carry(message);
        const now = clock.now();
        const verdict = judgeOutcome(outcome, tries, parts.judgeError, now, parts.random());
        if (verdict.settlement.state === "scheduled" && verdict.settlement.isFault) tries.faultCount++;
        const leftMs = settings.callTimeoutMs - (performance.now() - startMs) - settings.requestTimeoutMs;
        if (await mayRepeat(message, verdict, leftMs, now)) continue;
        return await end(message, verdict);
      }
    },
  };

  /** Waits, if the request may be made again within the call. */
  async function mayRepeat(message: Carried, verdict: Verdict, leftMs: number, now: Date): Promise<boolean> {
    const { settlement, change } = verdict;
    if (settlement.state !== "scheduled" || change.kind !== "none" || settlement.readyAt === null)
      return false;
    const waitMs = settlement.readyAt.getTime() - now.getTime();
    if (waitMs > leftMs) return false;
    await clock.sleep(waitMs);
    return await renewMessage(database.pool, message.id, leaseEnd());
  }

  async function end(message: Carried, verdict: Verdict): Promise<SentAnswer> {
    const { settlement, change, reason } = verdict;
    switch (settlement.state) {
      case "sent":
        await courier.record(message, settlement, change);
        void parts.sentEvents.tell();
        return { id: message.id, wamid: settlement.wamid };
      case "unknown":
        await courier.record(message, settlement, change);
        return await toldByStatus(message, reportUnclear(message.id, settlement.message));
      default: {
        const failure = { reason: reason ?? "refused", code: settlement.code, message: settlement.message };
        const heldUntil = await courier.record(message, { state: "failed", ...failure }, change);
        const retryAt = settlement.state === "scheduled" ? (settlement.readyAt ?? heldUntil) : null;
        const refusal = { messageId: message.id, ...failure, retryAt };
        return await toldByStatus(message, refuseSend(refusal, clock.now()));
      }
    }
  }

  /** A status may have come first, and says that the message went out whatever the answer was. */
  async function toldByStatus({ id }: Carried, otherwise: GatewayError): Promise<SentAnswer> {
    const wamid = await findSentId(database.pool, id).catch(() => null);
    if (wamid === null) throw otherwise;
    return { id, wamid };
  }
}

function answerRepeat({ id, state, wamid, isSame }: RepeatedMessage): SentAnswer {
  if (!isSame) {
    const message = "idempotency_key: was used with another request in the last 24 hours";
    throw new GatewayError("invalid_input", message, { field: "idempotency_key" });
  }
  if (wamid !== null) return { id, wamid };
  throw reportUnclear(id, state === "sending" ? "the first call did not end" : "no answer came");
}
