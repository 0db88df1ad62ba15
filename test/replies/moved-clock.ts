import { type Clock, systemClock } from "../../server/clock.ts";

/** The system's clock, ahead by as much as a test says. Waits last as long as they do. */
export interface MovedClock extends Clock {
  aheadMs: number;
}

export function movedClock(aheadMs = 0): MovedClock {
  return {
    ...systemClock,
    aheadMs,
    now() {
      return new Date(Date.now() + this.aheadMs);
    },
  };
}
