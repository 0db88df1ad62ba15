/** Where an item stands and whose number it concerns: what an entry and a change say for all items in them. */

import { type ContactBook, readContacts } from "./contacts.ts";
import { idOf, recordOf } from "./json.ts";
import { phoneOf } from "./phone.ts";
import { timeOf } from "./time.ts";

export interface Surroundings {
  entryId: string | null;
  /** As the entry writes it: a part of the key of items that have none of their own. */
  entryTime: string | null;
  entryAt: Date | null;
  field: string | null;
  phoneNumberId: string | null;
  businessPhone: string | null;
  wabaId: string | null;
  contacts: ContactBook;
}

/** Who a change concerns. Account-level changes name the number in other places than `metadata`, or not at all. */
export function readSurroundings(
  value: Record<string, unknown>,
  entry: Record<string, unknown>,
  field: string | null,
): Surroundings {
  const metadata = recordOf(value.metadata);
  const recipient = recordOf(value.recipient);
  const settings = recordOf(value.phone_number_settings);
  // The entry of such an update may be a business portfolio; the account stands inside.
  const namedWaba = field === "account_update" ? idOf(recordOf(value.waba_info)?.waba_id) : null;
  const entryId = idOf(entry.id);
  return {
    entryId,
    entryTime: idOf(entry.time),
    entryAt: timeOf(entry.time),
    field,
    phoneNumberId:
      idOf(metadata?.phone_number_id) ?? idOf(recipient?.phone_number_id) ?? idOf(settings?.phone_number_id),
    businessPhone:
      phoneOf(metadata?.display_phone_number) ??
      phoneOf(recipient?.display_phone_number) ??
      phoneOf(value.display_phone_number),
    // Meta's dashboard sends its tests from an account "0", which is nobody's.
    wabaId: namedWaba ?? (entryId === "0" ? null : entryId),
    contacts: readContacts(value.contacts),
  };
}
