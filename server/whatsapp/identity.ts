/** When a WhatsApp user changes their number or business-scoped id: `system` messages, and the field `user_id_update`. */

import type { IdentityChange, WhatsAppUser } from "../domain/event.ts";
import { type ContactBook, findContact } from "./contacts.ts";
import { idOf, listOf, recordOf, textOf } from "./json.ts";
import { phoneOf } from "./phone.ts";

type Item = Record<string, unknown>;

const numberChanges = new Set(["user_changed_number", "customer_changed_number"]);
const idChange = "user_changed_user_id";

/** Country code, dot, letters and digits; parent ids, which are no user's, have a second dot. */
const bsuidPattern = /\b[A-Z]{2}\.[A-Za-z0-9]{1,128}\b(?!\.)/g;

/**
 * What a `system` message says of its user; null if it says nothing of the kind, or not enough of it. The new number
 * stands in `wa_id`, in older versions in `new_wa_id`; the former one is the sender's, and in older versions `customer`.
 *
 * @param sender  the user that the message is from, by its own ids
 */
export function readSystemChange(message: Item, sender: WhatsAppUser | null): IdentityChange | null {
  const system = recordOf(message.system);
  const type = textOf(system?.type);
  if (system === null || type === null) return null;
  const bsuid = idOf(system.user_id);
  if (numberChanges.has(type)) {
    const from = {
      phone: sender?.phone ?? phoneOf(system.customer),
      bsuid: idOf(system.previous_user_id) ?? sender?.bsuid ?? null,
    };
    const phone = phoneOf(system.wa_id) ?? phoneOf(system.new_wa_id);
    return changeOf(from, { phone, bsuid });
  }
  if (type !== idChange || bsuid === null) return null;
  const previous =
    idOf(system.previous_user_id) ?? idOf(message.from_user_id) ?? formerIdIn(system.body, bsuid);
  return changeOf({ phone: sender?.phone ?? null, bsuid: previous }, { phone: null, bsuid });
}

/** What a `user_id_update` says; entries that name no new id, or nobody, are left out. */
export function readIdUpdates(value: unknown, contacts: ContactBook): IdentityChange[] {
  const changes: IdentityChange[] = [];
  for (const one of listOf(recordOf(value)?.user_id_update)) {
    const update = recordOf(one);
    const ids = recordOf(update?.user_id);
    const current = idOf(ids?.current);
    if (update === null || current === null) continue;
    const previous = idOf(ids?.previous);
    const contact = findContact(contacts, textOf(update.wa_id), current) ?? {};
    const phone = phoneOf(update.wa_id) ?? phoneOf(contact.wa_id);
    const change = changeOf({ phone, bsuid: previous }, { phone: null, bsuid: current });
    if (change) changes.push(change);
  }
  return changes;
}

function changeOf(from: IdentityChange["from"], to: IdentityChange["to"]): IdentityChange | null {
  const isNamed = from.phone !== null || from.bsuid !== null;
  const isChange =
    (to.phone !== null && to.phone !== from.phone) || (to.bsuid !== null && to.bsuid !== from.bsuid);
  return isNamed && isChange ? { from, to } : null;
}

/** Before `previous_user_id` was told, the text alone could have it: "… changed from <former> to <new>". */
function formerIdIn(body: unknown, bsuid: string): string | null {
  const named = textOf(body)?.match(bsuidPattern) ?? [];
  return named.length === 2 && named[1] === bsuid ? named[0]! : null;
}
