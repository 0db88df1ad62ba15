import type { Logger } from "pino";
import type { Clock } from "../clock.ts";

export interface Notice {
  /** @param numberIds  phone number ids, or null where an event names none */
  note(numberIds: readonly (string | null)[]): void;
}

const quietMs = 60_000;
const shownNumbersMax = 10;

/** A warning about events that come again and again: one line a minute at most, which counts what came since the last. */
export function createNotice({ clock, log }: { clock: Clock; log: Logger }, text: string): Notice {
  let quietUntilMs = Number.NEGATIVE_INFINITY;
  let eventCount = 0;
  const phoneNumberIds = new Set<string>();
  return {
    note(numberIds) {
      if (numberIds.length === 0) return;
      eventCount += numberIds.length;
      for (const id of numberIds) {
        if (id !== null && phoneNumberIds.size < shownNumbersMax) phoneNumberIds.add(id);
      }
      const nowMs = clock.now().getTime();
      if (nowMs < quietUntilMs) return;
      quietUntilMs = nowMs + quietMs;
      log.warn({ eventCount, phoneNumberIds: [...phoneNumberIds] }, text);
      eventCount = 0;
      phoneNumberIds.clear();
    },
  };
}
