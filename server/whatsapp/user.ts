/** Who the WhatsApp user of an item is: its own ids, completed by the contact that carries one of them. */

import type { WhatsAppUser } from "../domain/event.ts";
import { type Contact, type ContactBook, findContact } from "./contacts.ts";
import { cleanText, idOf, recordOf, textOf } from "./json.ts";
import { phoneOf } from "./phone.ts";

type Item = Record<string, unknown>;

/** What the item itself says: `phone` as it was written, for it may hold something else. */
interface Named {
  phone: string | null;
  bsuid: string | null;
}

const bsuidPattern = /^[A-Z]{2}\.[A-Za-z0-9.]{1,140}$/;
const profileNameLengthMax = 1024;

/**
 * The sender of a message that came in. Null when the message names nobody, or when its sender is the business number
 * itself: the business is no WhatsApp user of its own, so it gets no contact, conversation or reply.
 *
 * A `system` notice without a sender is about the user whose id it calls previous.
 */
export function readSender(
  message: Item,
  contacts: ContactBook,
  businessPhone: string | null,
): WhatsAppUser | null {
  const phone = textOf(message.from);
  const bsuid = idOf(message.from_user_id) ?? idOf(recordOf(message.system)?.previous_user_id);
  if (bsuid === null && businessPhone !== null && phoneOf(phone) === businessPhone) return null;
  return resolve({ phone, bsuid }, contacts);
}

/**
 * The user that the business wrote to; in a group there is no single one. Some echoes name the business in `to`:
 * it is no user of its own, so the contact beside them decides.
 */
export function readEchoRecipient(
  echo: Item,
  contacts: ContactBook,
  businessPhone: string | null,
): WhatsAppUser | null {
  const to = textOf(echo.to);
  const isGroup = echo.recipient_type === "group" || textOf(echo.group_id) !== null;
  const isUser = !isGroup && (businessPhone === null || phoneOf(to) !== businessPhone);
  return resolve({ phone: isUser ? to : null, bsuid: idOf(echo.to_user_id) }, contacts);
}

/** The user a status is about: the recipient, in a group the participant. */
export function readStatusRecipient(status: Item, contacts: ContactBook): WhatsAppUser | null {
  return resolve(namedInStatus(status), contacts);
}

/**
 * What tells the recipients of one message apart: the participant in groups, else the recipient, by user id or phone.
 * Null if the status names nobody.
 */
export function readStatusRecipientId(status: Item): string | null {
  const named = namedInStatus(status);
  return named.bsuid ?? idOf(named.phone);
}

/** The participant's id has two spellings in Meta's pages. */
function namedInStatus(status: Item): Named {
  const participant = textOf(status.recipient_participant_id) ?? textOf(status.participant_recipient_id);
  const participantUserId = idOf(status.recipient_participant_user_id);
  const isGroup = status.recipient_type === "group" || participant !== null || participantUserId !== null;
  return isGroup
    ? { phone: participant, bsuid: participantUserId }
    : { phone: textOf(status.recipient_id), bsuid: idOf(status.recipient_user_id) };
}

function resolve(named: Named, contacts: ContactBook): WhatsAppUser | null {
  // Some deliveries have the business-scoped id where the phone number belongs.
  const bsuid = named.bsuid ?? (named.phone !== null && bsuidPattern.test(named.phone) ? named.phone : null);
  const contact = findContact(contacts, named.phone, bsuid);
  const user: WhatsAppUser = {
    phone: phoneOf(named.phone) ?? phoneOf(contact?.wa_id),
    bsuid: bsuid ?? idOf(contact?.user_id),
    waId: idOf(contact?.wa_id),
    profileName: profileNameOf(contact),
  };
  return user.phone === null && user.bsuid === null && user.waId === null && user.profileName === null
    ? null
    : user;
}

function profileNameOf(contact: Contact | null): string | null {
  const name = textOf(recordOf(contact?.profile)?.name);
  return name === null || name.length <= profileNameLengthMax
    ? name
    : cleanText(name.slice(0, profileNameLengthMax));
}
