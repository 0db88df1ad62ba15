/**
 * Stands before the publisher: statuses of messages that we sent move those messages forward, and carry what their
 * caller gave instead of our own id when they are stored.
 *
 * The messages move after the events are committed and before whoever brought them is answered: if that fails, the
 * statuses come again, as repeats, and move the messages then.
 */

import type { Clock } from "../clock.ts";
import { GatewayError } from "../domain/errors.ts";
import type { IncomingEvent } from "../domain/event.ts";
import type { MessageStatus } from "../domain/outgoing.ts";
import { isDatabaseOutage } from "../store/faults.ts";
import type { Database } from "../store/orm.ts";
import { applyStatuses, findCallbacks, type StatusNews } from "../store/outgoing-statuses.ts";

export interface StatusFollowerParts {
  database: Database;
  /** `whatsapp/outgoing-event.ts`. */
  readStatus(itemJson: string): ReadStatus | null;
  restoreCallback(itemJson: string, callbackData: string | null): string;
  /** Messages turned out to be sent: others may follow them, and they are to be told of. */
  onSent(): void;
  clock: Clock;
}

interface ReadStatus {
  wamid: string;
  status: MessageStatus | null;
  at: Date | null;
  messageId: string | null;
  errorCode: number | null;
  errorMessage: string | null;
  reason: string | null;
}

type Publish<Scope, Answer> = (events: readonly IncomingEvent[], scope: Scope) => Promise<Answer[]>;

/** Wraps `publish`; events that are no statuses pass through. */
export function followStatuses<Scope, Answer extends { isRefused?: boolean }>(
  parts: StatusFollowerParts,
  publish: Publish<Scope, Answer>,
): Publish<Scope, Answer> {
  const { database, clock } = parts;

  return (events, scope) => (events.some(isStatus) ? follow(events, scope) : publish(events, scope));

  async function follow(events: readonly IncomingEvent[], scope: Scope): Promise<Answer[]> {
    const read = events.map((event) => (isStatus(event) ? parts.readStatus(event.item) : null));
    const published = await publish(await restored(events, read), scope);
    const news = read.flatMap((one, index) =>
      one === null || published[index]?.isRefused ? [] : newsOf(events[index]!, one),
    );
    if (await reaching(() => applyStatuses(database.pool, news, clock.now()))) parts.onSent();
    return published;
  }

  async function restored(
    events: readonly IncomingEvent[],
    read: readonly (ReadStatus | null)[],
  ): Promise<readonly IncomingEvent[]> {
    const ids = read.map((one) => one?.messageId ?? null).filter((id) => id !== null);
    const callbacks = await reaching(() => findCallbacks(database.pool, ids));
    if (callbacks.size === 0) return events;
    return events.map((event, index) => {
      const ours = callbacks.get(read[index]?.messageId ?? "");
      if (ours === undefined || ours.phoneNumberId !== event.phoneNumberId) return event;
      return { ...event, item: parts.restoreCallback(event.item, ours.callbackData) };
    });
  }

  function newsOf(event: IncomingEvent, read: ReadStatus): StatusNews[] {
    const { phoneNumberId } = event;
    const { status, at, ...rest } = read;
    if (phoneNumberId === null || status === null) return [];
    return [{ ...rest, phoneNumberId, status, at: at ?? clock.now(), phone: event.user?.phone ?? null }];
  }
}

function isStatus(event: IncomingEvent): boolean {
  return event.type === "message.status";
}

async function reaching<T>(ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (error) {
    if (!isDatabaseOutage(error)) throw error;
    throw new GatewayError("unavailable", "the database is not available, try again", { cause: error });
  }
}
