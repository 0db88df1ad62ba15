/** Everything that sends messages, wired together: scheduled replies, calls, and what WhatsApp tells about both. */

import type { Logger } from "pino";
import type { Clock } from "../clock.ts";
import type { IncomingEvent } from "../domain/event.ts";
import type { IdSource } from "../domain/ids.ts";
import type { Owner } from "../store/access.ts";
import type { Database } from "../store/orm.ts";
import type { UnpublishedMessage } from "../store/outgoing-statuses.ts";
import { type CourierParts, createCourier } from "./courier.ts";
import { createDirectSender, type DirectSender, type DirectSenderSettings } from "./direct.ts";
import { markRead, type ReadMarkParts } from "./read-marks.ts";
import { createReplySender, type ReplySenderSettings } from "./sender.ts";
import { createSentEvents } from "./sent-events.ts";
import { followStatuses, type StatusFollowerParts } from "./statuses.ts";
import type { JudgeError } from "./verdict.ts";

export interface Messages {
  /** The publisher's `publish`, for whoever may bring statuses of our messages. */
  publish: Publish;
  send: DirectSender["send"];
  markRead(owner: Owner, call: Parameters<typeof markRead>[2]): Promise<void>;
  /** Looks for due messages now. */
  wake(): void;
  /** Starts no request any more; settles when those under way have ended, or the grace is over. */
  close(): Promise<void>;
}

/** As the publisher has it, whatever its scopes hold besides. */
// biome-ignore lint/suspicious/noExplicitAny: scopes pass through
type Publish = (events: readonly IncomingEvent[], scope: any) => Promise<PublishedEvent[]>;

interface PublishedEvent {
  eventId: string | null;
  isDuplicate: boolean;
  isRefused?: boolean;
  deliveryCount: number;
}

export interface MessagesParts extends Pick<StatusFollowerParts, "readStatus" | "restoreCallback"> {
  database: Database;
  publish: Publish;
  /** `whatsapp/graph-messages.ts`. */
  graph: CourierParts["graph"] & ReadMarkParts["graph"];
  /** `whatsapp/send-errors.ts`. */
  judgeError: JudgeError;
  /** `whatsapp/outgoing-event.ts`. */
  makeEvent(message: UnpublishedMessage): IncomingEvent;
  /** An access token in clear. */
  openToken(sealed: Uint8Array): string;
  ids: IdSource;
  /** 0 to 1. */
  random(): number;
  clock: Clock;
  log: Logger;
}

export type MessagesSettings = ReplySenderSettings & DirectSenderSettings & { closeGraceMs: number };

export function createMessages(parts: MessagesParts, settings: MessagesSettings): Messages {
  const { database, clock } = parts;
  const sentEvents = createSentEvents(parts);
  const courier = createCourier(parts);
  const sender = createReplySender({ ...parts, courier, sentEvents }, settings);
  const direct = createDirectSender({ ...parts, courier, sentEvents }, settings);
  /** Calls that send, to be waited for at the end. */
  const calls = new Set<Promise<void>>();
  const onSent = () => {
    sender.wake();
    void sentEvents.tell();
  };
  return {
    publish: followStatuses({ ...parts, database, clock, onSent }, parts.publish),
    send(owner, call) {
      const sending = direct.send(owner, call);
      const ended = sending.then(ignore, ignore).finally(() => calls.delete(ended));
      calls.add(ended);
      return sending;
    },
    markRead: (owner, call) => markRead(parts, owner, call),
    wake: sender.wake,
    async close() {
      const stop = new AbortController();
      await Promise.all([
        sender.close(settings.closeGraceMs),
        Promise.race([Promise.all(calls), clock.sleep(settings.closeGraceMs, stop.signal)]),
      ]);
      stop.abort();
      courier.close();
      await sentEvents.close();
    },
  };
}

function ignore(): void {}
