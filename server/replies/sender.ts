/**
 * Sends scheduled messages when they are due.
 *
 *   table ──claim (lease, place in the number's rate)──► request ──► outcome ──► next message of the answer
 *
 * Promises: a message goes out within moments of its time, since a timer runs to the next one; it goes out once, since
 * it is claimed once; and those of one answer go out one after the other. A message whose process died in between
 * becomes `unknown`.
 */

import type { Logger } from "pino";
import type { Clock } from "../clock.ts";
import type { Database } from "../store/orm.ts";
import { type ClaimedMessage, claimDueMessages, nextReadyAt } from "../store/outgoing.ts";
import { loseMessages } from "../store/outgoing-settlements.ts";
import type { SendRates } from "../store/send-limits.ts";
import type { Courier } from "./courier.ts";
import type { SentEvents } from "./sent-events.ts";
import { type JudgeError, judgeOutcome } from "./verdict.ts";

export interface ReplySender {
  /** Looks for due messages now. */
  wake(): void;
  /** Starts no request any more, and settles when those under way have ended or time is up. */
  close(boundMs: number): Promise<void>;
}

export interface ReplySenderParts {
  database: Database;
  courier: Courier;
  sentEvents: SentEvents;
  judgeError: JudgeError;
  /** 0 to 1. */
  random(): number;
  clock: Clock;
  log: Logger;
}

export interface ReplySenderSettings extends SendRates {
  /** How often the table is looked through, besides when there is a reason to. */
  pollMs: number;
  /** Longer than a place in the rate is away and a request can last. */
  leaseMs: number;
  /** Requests under way at once. */
  inFlightMax: number;
}

const claimMax = 50;
const pauseMs = 10;

export function createReplySender(parts: ReplySenderParts, settings: ReplySenderSettings): ReplySender {
  const { database, courier, sentEvents, clock, log } = parts;
  const inFlight = new Set<Promise<void>>();
  let timer: { handle: NodeJS.Timeout; atMs: number } | null = null;
  let looking: Promise<void> | null = null;
  let isWoken = false;
  let isClosed = false;
  const stopping = new AbortController();
  lookAt(0);

  function lookAt(delayMs: number): void {
    if (isClosed) return;
    const atMs = performance.now() + delayMs;
    if (timer && timer.atMs <= atMs) return;
    clearTimeout(timer?.handle);
    timer = { atMs, handle: setTimeout(look, Math.max(0, delayMs)) };
  }

  function look(): void {
    timer = null;
    if (isClosed) return;
    if (looking) {
      isWoken = true;
      return;
    }
    isWoken = false;
    let waitMs = settings.pollMs;
    looking = sendDue()
      .then((nextMs) => {
        waitMs = Math.min(nextMs, settings.pollMs);
      })
      .catch((error: unknown) => log.warn({ err: error }, "due messages could not be claimed"))
      .finally(() => {
        looking = null;
        lookAt(isWoken ? 0 : waitMs);
      });
  }

  /** @returns milliseconds until there may be more to do */
  async function sendDue(): Promise<number> {
    const { pool } = database;
    const lostCount = await loseMessages(pool, clock.now());
    if (lostCount > 0) log.warn({ count: lostCount }, "it is unknown whether messages were sent");
    void sentEvents.tell();
    for (;;) {
      const room = Math.min(claimMax, settings.inFlightMax - inFlight.size);
      // Whoever ends a request wakes us.
      if (room <= 0 || isClosed) return settings.pollMs;
      const now = clock.now();
      const leasedUntil = new Date(now.getTime() + settings.leaseMs);
      const { claimed, isMore } = await claimDueMessages(pool, settings, room, now, leasedUntil);
      for (const message of claimed) start(message);
      if (!isMore) break;
    }
    const readyAt = await nextReadyAt(pool);
    // Another process may have just what is due in hand: not without a pause.
    return readyAt === null ? settings.pollMs : Math.max(pauseMs, readyAt.getTime() - clock.now().getTime());
  }

  function start(message: ClaimedMessage): void {
    const sending = send(message)
      .catch((error: unknown) => log.error({ err: error, messageId: message.id }, "a message was not sent"))
      .finally(() => {
        inFlight.delete(sending);
        lookAt(0);
      });
    inFlight.add(sending);
  }

  async function send(message: ClaimedMessage): Promise<void> {
    const outcome = await courier.carry(message, stopping.signal);
    const { settlement, change } = judgeOutcome(
      outcome,
      message,
      parts.judgeError,
      clock.now(),
      parts.random(),
    );
    if (change.kind === "stop_number") {
      log.error(
        { phoneNumberId: message.phoneNumberId, reason: change.reason },
        "a number can send nothing until somebody mends it",
      );
    }
    await courier.record(message, settlement, change);
    if (settlement.state === "sent") void sentEvents.tell();
  }

  return {
    wake() {
      if (looking) isWoken = true;
      else lookAt(0);
    },
    async close(boundMs) {
      isClosed = true;
      stopping.abort();
      clearTimeout(timer?.handle);
      await looking;
      const stop = new AbortController();
      await Promise.race([Promise.all(inFlight), clock.sleep(boundMs, stop.signal)]);
      stop.abort();
    },
  };
}
