import type { Clock } from "../../server/clock.ts";

export interface ManualClock extends Clock {
  /** Moves the time; nobody who sleeps is woken by it. */
  set(at: Date): void;
}

/** A clock that stands still. Whoever sleeps by it does so until told to stop: what is done in between, a test asks for. */
export function manualClock(at: Date): ManualClock {
  let now = at;
  return {
    now: () => new Date(now),
    sleep: (_ms, signal) =>
      new Promise((resolve) => {
        if (signal?.aborted) resolve();
        else signal?.addEventListener("abort", () => resolve(), { once: true });
      }),
    set(next) {
      now = next;
    },
  };
}
