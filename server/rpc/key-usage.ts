/** When keys were last used: noted in memory, written in batches, off the path of the calls. */

import type { Logger } from "pino";
import type { Clock } from "../clock.ts";
import { noteKeysUsed } from "../store/api-keys.ts";
import type { Database } from "../store/orm.ts";

export interface KeyUsage {
  /** Notes that a key is used now. */
  note(keyId: number): void;
  /** Writes what is due; happens by itself every few seconds. */
  write(): Promise<void>;
  /** Writes all that is noted. */
  close(): Promise<void>;
}

const writeEveryMs = 5_000;
/** A key is written once in so much time at most, however much it is used. */
const sameKeyAfterMs = 60_000;

export function createKeyUsage(parts: { database: Database; clock: Clock; log: Logger }): KeyUsage {
  const { database, clock, log } = parts;
  const noted = new Map<number, Date>();
  const writtenAtMs = new Map<number, number>();
  let writing: Promise<void> = Promise.resolve();

  async function writeDue(isLast: boolean): Promise<void> {
    const nowMs = clock.now().getTime();
    const due = [...noted].filter(
      ([keyId]) => isLast || nowMs - (writtenAtMs.get(keyId) ?? Number.NEGATIVE_INFINITY) >= sameKeyAfterMs,
    );
    if (due.length === 0) return;
    for (const [keyId] of due) {
      noted.delete(keyId);
      writtenAtMs.set(keyId, nowMs);
    }
    try {
      await noteKeysUsed(database.pool, new Map(due));
    } catch (error) {
      // Of little weight: the next use is noted again.
      log.warn({ err: error }, "the use of keys could not be noted");
    }
  }

  function write(): Promise<void> {
    writing = writing.then(() => writeDue(false));
    return writing;
  }

  const timer = setInterval(write, writeEveryMs);

  return {
    note(keyId) {
      noted.set(keyId, clock.now());
    },
    write,
    async close() {
      clearInterval(timer);
      await writing;
      await writeDue(true);
    },
  };
}
