/** Carries one message that is committed as `sending` to WhatsApp, and records what came of it. */

import type { Logger } from "pino";
import type { Clock } from "../clock.ts";
import type { OutgoingContent, Recipient, SendOutcome } from "../domain/outgoing.ts";
import type { Database } from "../store/orm.ts";
import type { ClaimedMessage } from "../store/outgoing.ts";
import { type MessageSettlement, settleMessage } from "../store/outgoing-settlements.ts";
import type { LimitChange } from "../store/send-limits.ts";

export interface CourierParts {
  database: Database;
  /** The token in clear. */
  openToken(sealed: Uint8Array): string;
  /** `whatsapp/graph-messages.ts`: makes the request once, and never rejects. */
  graph: {
    send(
      sender: { phoneNumberId: string; accessToken: string },
      message: { to: Recipient; content: OutgoingContent; callbackData: string },
    ): Promise<SendOutcome>;
  };
  clock: Clock;
  log: Logger;
}

export interface Courier {
  /** Waits for the message's place in its number's rate and makes the request; `stop` ends the wait, and no more. */
  carry(message: Carried, stop?: AbortSignal): Promise<SendOutcome>;
  /**
   * Records an outcome, again and again while the database is away, for as long as the message's lease would last.
   *
   * What could not be recorded becomes `unknown`.
   *
   * @returns until when the recipient is held, for `hold_recipient`
   */
  record(message: Carried, settlement: MessageSettlement, change: LimitChange): Promise<Date | null>;
  /** What cannot be recorded at once is given up from now on. */
  close(): void;
}

export type Carried = Pick<
  ClaimedMessage,
  "id" | "numberId" | "phoneNumberId" | "to" | "content" | "accessTokenSealed" | "sendAt"
>;

const recordAgainMs = 200;
const recordTriesMax = 50;

export function createCourier({ database, openToken, graph, clock, log }: CourierParts): Courier {
  let isClosed = false;
  return {
    async carry(message, stop) {
      const waitMs = message.sendAt.getTime() - clock.now().getTime();
      if (waitMs > 0) await clock.sleep(waitMs, stop);
      if (stop?.aborted) return { kind: "not_sent", message: "the gateway stopped before its turn came" };
      let accessToken: string;
      try {
        accessToken = openToken(message.accessTokenSealed);
      } catch (error) {
        log.error({ err: error, messageId: message.id }, "an access token cannot be opened");
        return { kind: "refused", status: 401, code: 190, message: "the access token cannot be opened" };
      }
      // Our own id comes back in every status: it finds the message even when the answer is lost.
      const { phoneNumberId, to, content, id } = message;
      const outcome = await graph.send({ phoneNumberId, accessToken }, { to, content, callbackData: id });
      if (outcome.kind !== "accepted") log.info({ messageId: id, outcome }, "a message was not accepted");
      return outcome;
    },
    async record(message, settlement, change) {
      for (let count = 1; ; count++) {
        try {
          return await settleMessage(database.pool, message, settlement, change, clock.now());
        } catch (error) {
          log.warn({ err: error, messageId: message.id }, "the outcome of a send could not be recorded");
          if (count === recordTriesMax || isClosed) return null;
          await clock.sleep(recordAgainMs);
        }
      }
    },
    close() {
      isClosed = true;
    },
  };
}
