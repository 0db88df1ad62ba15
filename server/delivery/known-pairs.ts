/**
 * Phones and business-scoped ids that are known to be one contact's, so that the many events that name both and belong
 * to no conversation (statuses above all) need not look it up again and again. Only a memory: what it does not hold is
 * looked up, and what it holds is forgotten after a while, since contacts change and go.
 */

import type { ContactAsked } from "../store/contacts.ts";

export interface KnownPairs {
  has(asked: ContactAsked): boolean;
  /** To be called once the database has them as one contact's names, durably. */
  note(asked: ContactAsked): void;
}

const keptMs = 10 * 60_000;

/**
 * @param now      Unix milliseconds
 * @param pairMax  how many are kept; the oldest give way
 */
export function createKnownPairs(now: () => number, pairMax = 20_000): KnownPairs {
  const notedAtMs = new Map<string, number>();
  return {
    has(asked) {
      const atMs = notedAtMs.get(keyOf(asked));
      return atMs !== undefined && now() - atMs < keptMs;
    },
    note(asked) {
      const key = keyOf(asked);
      notedAtMs.delete(key);
      if (notedAtMs.size === pairMax) notedAtMs.delete(notedAtMs.keys().next().value!);
      notedAtMs.set(key, now());
    },
  };
}

function keyOf({ clientId, phone, bsuid }: ContactAsked): string {
  return `${clientId} ${phone} ${bsuid}`;
}
