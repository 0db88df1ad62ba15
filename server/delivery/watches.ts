/**
 * Streams of attempts as they end, on whichever process.
 *
 *   recorder ──note()──┐ (a flag)
 *                      ▼
 *   watcher ◄── read what is new since its position ◄── the log
 *
 * Each watcher reads the log for itself and at its own pace: what it has not taken is in the database, not in memory. So
 * the engine waits for nobody, and what came while nobody watched is there all the same. A watcher that does not keep up
 * is cut off and told where it stands; so it is at shutdown. One that takes nothing at all cannot be told: its connection
 * is broken after a while. While nobody watches nothing is read.
 */

import type { Clock } from "../clock.ts";
import { GatewayError } from "../domain/errors.ts";
import { formatPosition, parsePosition, type WatchPosition } from "../domain/watch-position.ts";
import type { Owner } from "../store/access.ts";
import { attemptBatchesKeptMs } from "../store/attempt-batches.ts";
import type { DeliveryFilter } from "../store/delivery-log.ts";
import type { Database } from "../store/orm.ts";
import {
  isKnownPosition,
  type NewAttempts,
  openWatch,
  readNewAttempts,
  readWatched,
  type WatchedAttempt,
} from "../store/watched-attempts.ts";

/** Without `watched` a sign of life. */
export interface WatchEntry {
  watched: WatchedAttempt | null;
  /** Names this entry to a later watch. */
  resumeToken: string;
}

export interface WatchAsked {
  /** Of the caller, for the limit. */
  callerName: string;
  owner: Owner;
  filter: DeliveryFilter;
  /** Empty = from now on. */
  resumeToken: string;
  /** True while the caller may go on; asked at every look. */
  isWelcome(): boolean;
  /** Ends the stream quietly. */
  signal: AbortSignal;
  /** Breaks the connection. */
  cutOff(): void;
}

export interface Watches {
  /** Something was logged by this process. Costs nothing to speak of, however often it is called. */
  note(): void;
  /**
   * Streams until the caller leaves. The first entry, a sign of life, comes at once.
   *
   * @throws GatewayError `not_found` if the webhook is not the owner's, `invalid_input` or `wrong_state` for a resume token
   *         that is none or too old, `over_limit` for too many streams or one that does not keep up, `unauthenticated`
   *         when the caller may not go on, `unavailable` at shutdown
   */
  watch(asked: WatchAsked): AsyncGenerator<WatchEntry, void>;
  /** Ends all streams. */
  close(): Promise<void>;
}

export interface WatchSettings {
  /** How often a watcher looks for what other processes logged. */
  pollMs: number;
  /** What is logged within this time is read together. */
  gatherMs: number;
  /** Silence after which a sign of life is sent. */
  signOfLifeMs: number;
  /** A watcher that does not take an entry for so long is cut off. */
  stallMaxMs: number;
  /** The connection of one that still takes nothing after so long is broken: it cannot be told anything. */
  abandonMs: number;
  /** So is one that had caught up and is behind by so much. */
  lagMaxMs: number;
  /** Attempts that are read at once with all that is known of them. */
  detailsMax: number;
  streamsPerCallerMax: number;
  streamsMax: number;
}

export function createWatches(parts: { database: Database; clock: Clock }, settings: WatchSettings): Watches {
  const { database, clock } = parts;
  const streamCounts = new Map<string, number>();
  const wakers = new Set<() => void>();
  let streamCount = 0;
  let isClosed = false;

  async function* watch(asked: WatchAsked): AsyncGenerator<WatchEntry, void> {
    enter(asked.callerName);
    let isIn = true;
    const leaveOnce = () => {
      if (isIn) leave(asked.callerName);
      isIn = false;
    };
    // While an entry waits to be taken nothing runs here, and nobody comes back once the connection is broken.
    asked.signal.addEventListener("abort", leaveOnce, { once: true });
    try {
      yield* follow(asked);
    } finally {
      asked.signal.removeEventListener("abort", leaveOnce);
      leaveOnce();
    }
  }

  async function* follow(asked: WatchAsked): AsyncGenerator<WatchEntry, void> {
    const { owner, filter, signal } = asked;
    let position = await startOf(asked);
    let hasCaughtUp = asked.resumeToken === "";
    let seen = position;
    let sentAtMs = Number.NEGATIVE_INFINITY;
    const entryOf = (watched: WatchedAttempt | null): WatchEntry => ({
      watched,
      resumeToken: formatPosition(seen, clock.now()),
    });
    const noteTaken = () => {
      const takenMs = clock.now().getTime() - sentAtMs;
      if (takenMs > settings.stallMaxMs) throw tooSlow(entryOf(null).resumeToken);
    };
    let askedAtMs = clock.now().getTime();
    // A page is read at once and may be taken for long.
    const isOver = () => {
      const nowMs = clock.now().getTime();
      if (signal.aborted || isClosed) return true;
      if (nowMs >= askedAtMs && nowMs - askedAtMs < settings.pollMs) return false;
      askedAtMs = nowMs;
      return !asked.isWelcome();
    };
    while (!signal.aborted) {
      if (isClosed) throw stopping(entryOf(null).resumeToken);
      if (!asked.isWelcome()) throw new GatewayError("unauthenticated", "the key is revoked or expired");
      const silentMs = clock.now().getTime() - sentAtMs;
      if (silentMs >= settings.signOfLifeMs || silentMs < 0) {
        sentAtMs = clock.now().getTime();
        const timer = setTimeout(asked.cutOff, settings.abandonMs);
        try {
          yield entryOf(null);
        } finally {
          clearTimeout(timer);
        }
        noteTaken();
      }
      const found = await readNewAttempts(database, owner, filter.webhookId, position);
      if (hasCaughtUp && found.lagMs > settings.lagMaxMs) throw tooSlow(entryOf(null).resumeToken);
      let isCut = false;
      for await (const { watched, at } of detailsOf(found, filter)) {
        isCut = isOver();
        if (isCut) break;
        seen = at;
        sentAtMs = clock.now().getTime();
        const timer = setTimeout(asked.cutOff, settings.abandonMs);
        try {
          yield entryOf(watched);
        } finally {
          clearTimeout(timer);
        }
        noteTaken();
      }
      if (isCut) continue;
      position = found.position;
      seen = position;
      if (found.isMore) continue;
      hasCaughtUp = true;
      await rest(signal);
    }
  }

  async function startOf({ owner, filter, resumeToken }: WatchAsked): Promise<WatchPosition> {
    const fresh = await openWatch(database, owner, filter.webhookId);
    if (resumeToken === "") return fresh;
    const parsed = parsePosition(resumeToken);
    if (parsed === null || !(await isKnownPosition(database, parsed.position))) {
      throw new GatewayError(
        "invalid_input",
        "resume_token: must be the resume_token of a message of this stream",
        {
          field: "resume_token",
        },
      );
    }
    if (clock.now().getTime() - parsed.givenAt.getTime() < resumableMs) return parsed.position;
    throw new GatewayError(
      "wrong_state",
      "resume_token: is older than a day: watch from now on, and read what came before with ListDeliveries",
      { field: "resume_token" },
    );
  }

  /** Reads what is known of the attempts, a few at a time, as they are taken. */
  async function* detailsOf({ attempts }: NewAttempts, filter: DeliveryFilter) {
    for (let first = 0; first < attempts.length; first += settings.detailsMax) {
      const named = attempts.slice(first, first + settings.detailsMax);
      const details = await readWatched(database, named, filter);
      for (const [index, { position }] of named.entries()) {
        const watched = details.get(index);
        if (watched) yield { watched, at: position };
      }
    }
  }

  /** Until something is logged here, or it is time to look what others have logged. */
  async function rest(signal: AbortSignal): Promise<void> {
    const woken = new AbortController();
    const wake = () => woken.abort();
    wakers.add(wake);
    signal.addEventListener("abort", wake, { once: true });
    await clock.sleep(settings.pollMs, woken.signal);
    signal.removeEventListener("abort", wake);
    wakers.delete(wake);
    if (!signal.aborted && !isClosed) await clock.sleep(settings.gatherMs, signal);
  }

  function wakeAll(): void {
    for (const wake of wakers) wake();
  }

  function enter(callerName: string): void {
    if (isClosed) throw stopping(null);
    const count = streamCounts.get(callerName) ?? 0;
    if (count >= settings.streamsPerCallerMax) {
      throw new GatewayError("over_limit", `the key has ${count} streams open here: end one of them first`);
    }
    if (streamCount >= settings.streamsMax) {
      throw new GatewayError("over_limit", "too many streams are open here: try again later");
    }
    streamCounts.set(callerName, count + 1);
    streamCount += 1;
  }

  function leave(callerName: string): void {
    const count = streamCounts.get(callerName)! - 1;
    if (count === 0) streamCounts.delete(callerName);
    else streamCounts.set(callerName, count);
    streamCount -= 1;
  }

  return {
    note() {
      if (wakers.size > 0) wakeAll();
    },
    watch,
    async close() {
      isClosed = true;
      wakeAll();
    },
  };
}

/** A little less than rows are kept, so that a position that is good is complete. */
const resumableMs = attemptBatchesKeptMs - 5 * 60_000;

function tooSlow(resumeToken: string): GatewayError {
  return new GatewayError(
    "over_limit",
    "the stream was not read fast enough: go on with the resume_token of the last message",
    { resumeToken },
  );
}

function stopping(resumeToken: string | null): GatewayError {
  return new GatewayError(
    "unavailable",
    "the gateway is stopping: go on with the resume_token of the last message",
    resumeToken === null ? {} : { resumeToken },
  );
}
