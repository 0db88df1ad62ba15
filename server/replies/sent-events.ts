/**
 * Tells of messages that WhatsApp took: each becomes a `message.sent` event, which joins the conversation as the bot's.
 * The table says which were not told of yet, so a crash in between loses none, and told twice it is a duplicate.
 */

import type { Logger } from "pino";
import { GatewayError } from "../domain/errors.ts";
import type { IncomingEvent } from "../domain/event.ts";
import type { Database } from "../store/orm.ts";
import { listUnpublished, markPublished, type UnpublishedMessage } from "../store/outgoing-statuses.ts";

export interface SentEvents {
  /** Tells of all that is not told of yet; never rejects. */
  tell(): Promise<void>;
  /** Settles when what is under way has ended. */
  close(): Promise<void>;
}

export interface SentEventsParts {
  database: Database;
  /** `delivery/publish.ts`. */
  publish(events: readonly IncomingEvent[], scope: { tenantId: number; clientId: number }): Promise<unknown>;
  /** `whatsapp/outgoing-event.ts`. */
  makeEvent(message: UnpublishedMessage): IncomingEvent;
  log: Logger;
}

const batchMax = 100;

export function createSentEvents({ database, publish, makeEvent, log }: SentEventsParts): SentEvents {
  let running: Promise<void> | null = null;
  let isAskedAgain = false;
  let isClosed = false;

  async function tellAll(): Promise<void> {
    do {
      isAskedAgain = false;
      for (;;) {
        const messages = await listUnpublished(database.pool, batchMax);
        if (messages.length === 0 || isClosed) break;
        const told = await Promise.allSettled(messages.map(tellOne));
        await markPublished(
          database.pool,
          messages.filter((_, index) => told[index]!.status === "fulfilled").map(({ id }) => id),
        );
        const failed = told.find((one) => one.status === "rejected");
        if (failed) throw failed.reason;
      }
    } while (isAskedAgain && !isClosed);
  }

  async function tellOne(message: UnpublishedMessage): Promise<void> {
    const { tenantId, clientId } = message;
    try {
      // The number may be another client's by now, who must not see the message.
      await publish([makeEvent(message)], { tenantId, clientId });
    } catch (error) {
      if (!(error instanceof GatewayError) || error.kind !== "forbidden") throw error;
      log.warn({ messageId: message.id }, "a message was sent from a number that its client has no more");
    }
  }

  return {
    tell() {
      isAskedAgain = true;
      running ??= tellAll()
        .catch((error: unknown) => log.warn({ err: error }, "messages that were sent could not be told of"))
        .finally(() => {
          running = null;
        });
      return running;
    },
    async close() {
      isClosed = true;
      await running;
    },
  };
}
