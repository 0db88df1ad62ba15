/**
 * Who is who among the contacts that a batch of events names: pure bookkeeping over rows that the transaction has
 * locked. The business-scoped id decides; a phone and such an id become two names of one contact once an event carries
 * both; a phone that shows up with another id has another owner (numbers are recycled).
 */

import { ScopedMap } from "./scoped-map.ts";

/** A name that a WhatsApp user goes by; at least one part is set. */
export interface ContactName {
  phone: string | null;
  bsuid: string | null;
}

/** A WhatsApp user in one client's eyes, asked for together with the number that they wrote to. */
export interface ContactAsked extends ContactName {
  clientId: number;
  /** Row id of the business number. */
  numberId: number;
  profileName: string | null;
  /**
   * Set when this only tells that the user goes by another name from here on, of which null parts stay: the contact stays
   * the same, and an unknown one is not made.
   */
  becomes?: ContactName;
}

export interface ContactRow {
  id: string;
  clientId: number;
  phone: string | null;
  bsuid: string | null;
  givenName: string | null;
  profileName: string | null;
  note: string;
  noteAutomation: string;
  labels: string[];
  createdAt: Date;
  updatedAt: Date;
}

/** A phone or business-scoped id that a contact had and has no more. */
export interface FormerName {
  contactId: string;
  clientId: number;
  kind: "phone" | "bsuid";
  name: string;
}

/** What a batch changes; rows that it made and that became part of another again are in none of the lists. */
export interface BookChanges {
  made: ContactRow[];
  /** Found rows that are not what they were. */
  changed: ContactRow[];
  /** Found rows that gave up a phone or id that another may take. */
  freed: ContactRow[];
  /** Found rows that are part of another now. */
  absorbed: { row: ContactRow; into: ContactRow }[];
  /** What contacts gave up, each once. */
  formerNames: FormerName[];
}

export interface Book {
  /** Takes in the next asked one, in the order of the events. */
  resolve(asked: ContactAsked): void;
  /** The contact that a resolved one stands for, after all that came later in the batch. */
  contactOf(asked: ContactAsked): ContactRow | undefined;
  changes(): BookChanges;
}

export function createBook(found: readonly ContactRow[], newId: () => string, now: Date): Book {
  const phones = new ScopedMap<ContactRow>();
  const bsuids = new ScopedMap<ContactRow>();
  const resolved = new Map<ContactAsked, ContactRow>();
  const made: ContactRow[] = [];
  const changed = new Set<ContactRow>();
  const freed = new Set<ContactRow>();
  const absorbedInto = new Map<ContactRow, ContactRow>();
  const givenUp: { row: ContactRow; kind: FormerName["kind"]; name: string }[] = [];
  for (const row of found) index(row);

  function index(row: ContactRow): void {
    if (row.phone !== null) phones.set(row.clientId, row.phone, row);
    if (row.bsuid !== null) bsuids.set(row.clientId, row.bsuid, row);
  }

  function byPhone(clientId: number, phone: string | null): ContactRow | undefined {
    return phone === null ? undefined : phones.get(clientId, phone);
  }

  function byBsuid(clientId: number, bsuid: string | null): ContactRow | undefined {
    return bsuid === null ? undefined : bsuids.get(clientId, bsuid);
  }

  /** Whom the name means as things stand; nobody, if the phone is that of another business-scoped id. */
  function ownerOf(clientId: number, { phone, bsuid }: ContactName): ContactRow | undefined {
    const owner = byBsuid(clientId, bsuid);
    if (owner) return owner;
    const holder = byPhone(clientId, phone);
    return bsuid !== null && holder?.bsuid != null ? undefined : holder;
  }

  function rename(row: ContactRow, phone: string | null, bsuid: string | null): void {
    if (row.phone === phone && row.bsuid === bsuid) return;
    const isFreed =
      (row.phone !== null && row.phone !== phone) || (row.bsuid !== null && row.bsuid !== bsuid);
    if (isFreed) freed.add(row);
    noteNames(row);
    unindex(row);
    row.phone = phone;
    row.bsuid = bsuid;
    index(row);
    changed.add(row);
  }

  /** Names that the row has now, and may be about to lose. */
  function noteNames(row: ContactRow): void {
    if (row.phone !== null) givenUp.push({ row, kind: "phone", name: row.phone });
    if (row.bsuid !== null) givenUp.push({ row, kind: "bsuid", name: row.bsuid });
  }

  function unindex(row: ContactRow): void {
    const { clientId, phone, bsuid } = row;
    if (phone !== null && byPhone(clientId, phone) === row) phones.delete(clientId, phone);
    if (bsuid !== null && byBsuid(clientId, bsuid) === row) bsuids.delete(clientId, bsuid);
  }

  function absorb(into: ContactRow, row: ContactRow): void {
    noteNames(row);
    unindex(row);
    absorbedInto.set(row, into);
    combine(into, row);
    changed.add(into);
  }

  /** The one that lasts when two become one: the older, and what is stored before what this batch has made. */
  function olderOf(first: ContactRow, second: ContactRow): ContactRow {
    const isMade = (row: ContactRow) => (made.includes(row) ? 1 : 0);
    const order =
      isMade(first) - isMade(second) ||
      first.createdAt.getTime() - second.createdAt.getTime() ||
      (first.id < second.id ? -1 : 1);
    return order < 0 ? first : second;
  }

  function make(asked: ContactAsked): ContactRow {
    const { clientId, phone, bsuid, profileName } = asked;
    const row: ContactRow = {
      id: newId(),
      clientId,
      phone,
      bsuid,
      givenName: null,
      profileName,
      note: "",
      noteAutomation: "",
      labels: [],
      createdAt: now,
      updatedAt: now,
    };
    made.push(row);
    index(row);
    return row;
  }

  function find(asked: ContactAsked): ContactRow {
    const { clientId, phone, bsuid } = asked;
    const owner = byBsuid(clientId, bsuid);
    const holder = byPhone(clientId, phone);
    if (!owner) {
      if (holder && (bsuid === null || holder.bsuid === null)) {
        rename(holder, phone, bsuid ?? holder.bsuid);
        return holder;
      }
      // The number has another owner now: the former one keeps its business-scoped id only.
      if (holder) rename(holder, null, holder.bsuid);
      return make(asked);
    }
    if (phone === null || holder === owner) return owner;
    if (holder?.bsuid === null) {
      const last = merge(owner, holder);
      rename(last, phone, bsuid);
      return last;
    }
    if (holder) rename(holder, null, holder.bsuid);
    rename(owner, phone, bsuid);
    return owner;
  }

  /**
   * The contact goes by the new name. Whoever had that name already is the same user, unless another business-scoped id
   * says otherwise: then the older of the two stays. The id changes with the number, so one that is not named anew is forgotten.
   */
  function succeed(contact: ContactRow, becomes: ContactName): void {
    const { clientId } = contact;
    const isNewNumber = becomes.phone !== null && becomes.phone !== contact.phone;
    const phone = becomes.phone ?? contact.phone;
    const bsuid = becomes.bsuid ?? (isNewNumber ? null : contact.bsuid);
    const owner = byBsuid(clientId, bsuid);
    let last = owner ? merge(contact, owner) : contact;
    const holder = byPhone(clientId, phone);
    if (holder && holder !== last) {
      if (holder.bsuid === null) last = merge(last, holder);
      else rename(holder, null, holder.bsuid);
    }
    rename(last, phone, bsuid);
  }

  /** Makes one of two, which may be the same already. */
  function merge(first: ContactRow, second: ContactRow): ContactRow {
    if (first === second) return first;
    const last = olderOf(first, second);
    absorb(last, last === first ? second : first);
    return last;
  }

  function lasting(row: ContactRow): ContactRow {
    let last = row;
    for (let next = absorbedInto.get(last); next; next = absorbedInto.get(last)) last = next;
    return last;
  }

  function listFormerNames(): FormerName[] {
    const former = new Map<string, FormerName>();
    for (const { row, kind, name } of givenUp) {
      const { id: contactId, clientId, [kind]: present } = lasting(row);
      if (name !== present) former.set(`${contactId} ${kind} ${name}`, { contactId, clientId, kind, name });
    }
    return [...former.values()];
  }

  return {
    resolve(asked) {
      if (asked.becomes) {
        const contact = ownerOf(asked.clientId, asked);
        if (contact) succeed(contact, asked.becomes);
        return;
      }
      const contact = find(asked);
      if (asked.profileName !== null && asked.profileName !== contact.profileName) {
        contact.profileName = asked.profileName;
        contact.updatedAt = now;
        changed.add(contact);
      }
      resolved.set(asked, contact);
    },
    contactOf(asked) {
      const contact = resolved.get(asked) ?? ownerOf(asked.clientId, asked);
      return contact && lasting(contact);
    },
    changes() {
      const isMade = new Set(made);
      const isFound = (row: ContactRow) => !isMade.has(row);
      const stays = (row: ContactRow) => !absorbedInto.has(row);
      return {
        made: made.filter(stays),
        changed: [...changed].filter((row) => isFound(row) && stays(row)),
        freed: [...freed].filter((row) => isFound(row) && stays(row)),
        absorbed: [...absorbedInto.keys()].filter(isFound).map((row) => ({ row, into: lasting(row) })),
        formerNames: listFormerNames(),
      };
    },
  };
}

/** What is known of two that are one: what was entered of the lasting one first, the profile name as last seen. */
function combine(into: ContactRow, row: ContactRow): void {
  const isNewer = row.updatedAt > into.updatedAt;
  into.profileName = (isNewer ? row.profileName : null) ?? into.profileName ?? row.profileName;
  into.givenName ??= row.givenName;
  into.note = joinNotes(into.note, row.note);
  into.noteAutomation = joinNotes(into.noteAutomation, row.noteAutomation);
  into.labels = [...new Set([...into.labels, ...row.labels])];
}

function joinNotes(first: string, second: string): string {
  if (first === second || second === "") return first;
  return first === "" ? second : `${first}\n${second}`;
}
