/**
 * The `contacts` of a change, to be looked up by id. A contact is never taken by its position: one that stands beside
 * an item with other ids is not its user.
 */

import { idOf, isJsonObject, listOf, textOf } from "./json.ts";
import { phoneOf } from "./phone.ts";

export type Contact = Record<string, unknown>;

export interface ContactBook {
  readonly contacts: readonly Contact[];
  /** Made when it is first needed, since a body may hold thousands of contacts beside thousands of messages. */
  byKey: ReadonlyMap<string, Contact> | null;
}

/** Reads `contacts`; what is no contact in it is left out. Of two with the same id the first counts. */
export function readContacts(value: unknown): ContactBook {
  return { contacts: listOf(value).filter(isJsonObject), byKey: null };
}

/**
 * The contact that carries the business-scoped id, else the number, else the number in its other national form.
 * An item that names nobody belongs to the contact beside it, if there is exactly one.
 *
 * @param phone  as the item has it, with or without formatting
 */
export function findContact(book: ContactBook, phone: string | null, bsuid: string | null): Contact | null {
  const only = book.contacts.length === 1 ? book.contacts[0]! : null;
  if (phone === null && bsuid === null) return only;
  // As in nearly every body: one contact, with the very ids of the item.
  if (only !== null && textOf(only.wa_id) === phone && idOf(only.user_id) === bsuid) return only;
  book.byKey ??= indexContacts(book.contacts);
  for (const key of keysOf(phone, bsuid)) {
    const contact = book.byKey.get(key);
    if (contact !== undefined) return contact;
  }
  return null;
}

function indexContacts(contacts: readonly Contact[]): Map<string, Contact> {
  const byKey = new Map<string, Contact>();
  for (const contact of contacts) {
    for (const key of keysOf(textOf(contact.wa_id), idOf(contact.user_id))) {
      if (!byKey.has(key)) byKey.set(key, contact);
    }
  }
  return byKey;
}

function keysOf(phone: string | null, bsuid: string | null): string[] {
  const keys: string[] = [];
  if (bsuid !== null) keys.push(`user ${bsuid}`);
  if (phone !== null) keys.push(`wa ${phone}`);
  const digits = phoneOf(phone);
  if (digits !== null) keys.push(`phone ${shortForm(digits)}`);
  return keys;
}

/**
 * Brazilian, Mexican and Argentinian mobile numbers exist with and without one more digit (55 xx 9…, 52 1…, 54 9…),
 * and `wa_id` may have the other form than `from`. This is the one without.
 */
function shortForm(digits: string): string {
  if (digits.length !== 13) return digits;
  if (digits.startsWith("55") && digits[4] === "9") return digits.slice(0, 4) + digits.slice(5);
  return digits.startsWith("521") || digits.startsWith("549") ? digits.slice(0, 2) + digits.slice(3) : digits;
}
