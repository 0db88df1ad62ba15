/**
 * Where contacts and their conversations were found last, by the names that events gave them: to lock rows by their ids
 * costs half of what it costs to look for them first. It is only a guess, since contacts change and go, in other
 * processes too: whoever reads by it checks what came of it.
 */

import type { ContactAsked } from "./contact-book.ts";
import { ScopedMap } from "./scoped-map.ts";

export interface RememberedContact {
  contactId: string;
  conversationId: string;
}

export interface ContactMemory {
  get(asked: ContactAsked): RememberedContact | undefined;
  note(asked: ContactAsked, remembered: RememberedContact): void;
  forget(asked: ContactAsked): void;
}

/** @param contactMax  how many are kept; the next one starts anew */
export function createContactMemory(contactMax = 10_000): ContactMemory {
  let places = new ScopedMap<RememberedContact>();
  let count = 0;
  return {
    get: (asked) => places.get(asked.numberId, nameOf(asked)),
    note(asked, remembered) {
      const name = nameOf(asked);
      const before = places.get(asked.numberId, name);
      if (before?.contactId === remembered.contactId && before.conversationId === remembered.conversationId)
        return;
      if (before === undefined) count += 1;
      if (count > contactMax) {
        places = new ScopedMap();
        count = 1;
      }
      places.set(asked.numberId, name, remembered);
    },
    forget(asked) {
      if (places.delete(asked.numberId, nameOf(asked))) count -= 1;
    },
  };
}

/** A number is one client's, so this with the number is enough. */
function nameOf({ phone, bsuid }: ContactAsked): string {
  return bsuid ?? phone!;
}
