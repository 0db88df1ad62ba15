/** The deliveries that this process has in hand, to be found by the attempt they are in hand for. */

import type { ClaimedDelivery } from "../domain/delivery-claim.ts";
import type { Held } from "./lanes.ts";

type Attempt = Pick<ClaimedDelivery, "id" | "attemptNumber">;

export interface HeldDeliveries {
  add(one: Held): void;
  find(attempt: Attempt): Held | undefined;
  /** Lets go of it; does nothing if it is not in hand (any more). */
  remove(one: Held): void;
  count(): number;
}

export function createHeldDeliveries(): HeldDeliveries {
  /** By id alone, since an id that is joined with a number is a new text each time, and slow to look up. */
  const newest = new Map<string, Held>();
  /** A delivery that another process took for lost may still run here beside its successor. */
  let outdated: Held[] = [];

  return {
    add(one) {
      const before = newest.get(one.claimed.id);
      if (before !== undefined) outdated.push(before);
      newest.set(one.claimed.id, one);
    },
    find({ id, attemptNumber }) {
      const one = newest.get(id);
      if (one?.claimed.attemptNumber === attemptNumber) return one;
      return outdated.find(({ claimed }) => claimed.id === id && claimed.attemptNumber === attemptNumber);
    },
    remove(one) {
      if (newest.get(one.claimed.id) === one) newest.delete(one.claimed.id);
      else if (outdated.length > 0) outdated = outdated.filter((other) => other !== one);
    },
    count: () => newest.size + outdated.length,
  };
}
