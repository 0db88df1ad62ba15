/**
 * The field `history`: messages from the time before a number was connected, as the business's phone has them. Threads
 * of messages come in chunks, in any order; files of messages that were too old to come along (`media_placeholder`)
 * come later, one `messages` list each.
 */

import type { ImportedMessage, ImportedThread, WhatsAppUser } from "../domain/event.ts";
import { messageTypeOf, readEntry } from "./content.ts";
import { idOf, listOf, recordOf, textOf } from "./json.ts";
import { phoneOf } from "./phone.ts";
import type { Surroundings } from "./surroundings.ts";
import { timeOf } from "./time.ts";
import { readEchoRecipient, readSender } from "./user.ts";

type Item = Record<string, unknown>;

/** Threads of the item whose user is known; `[]` if it holds none, as when the owner of the phone declined. */
export function readHistory(value: unknown, around: Surroundings): ImportedThread[] {
  const item = recordOf(value);
  const threads = listOf(item?.history)
    .flatMap((chunk) => listOf(recordOf(chunk)?.threads))
    .map((thread) => readThread(recordOf(thread) ?? {}, around));
  const files = listOf(item?.messages).map((file) => readFile(recordOf(file) ?? {}, around));
  return [...threads, ...files].filter((thread) => thread !== null);
}

/** The thread's own id is the user's phone; newer ones name the user in `context`. */
function readThread(thread: Item, around: Surroundings): ImportedThread | null {
  const context = recordOf(thread.context);
  const messages = listOf(thread.messages)
    .map(recordOf)
    .filter((message) => message !== null);
  const bsuid = idOf(context?.user_id);
  const phone = textOf(thread.id) ?? textOf(context?.wa_id);
  // The thread of a group has an id that is no phone: it is no conversation with one user.
  const user =
    phone !== null || bsuid !== null
      ? readSender({ from: phone, from_user_id: bsuid }, around.contacts, around.businessPhone)
      : messages.map((message) => userOf(message, around)).find((found) => found !== null);
  if (!user || (user.phone === null && user.bsuid === null)) return null;
  const imported = messages
    .map((message) => readMessage(message, around, false))
    .filter((one) => one !== null);
  return imported.length === 0 ? null : { user, messages: imported };
}

function readFile(message: Item, around: Surroundings): ImportedThread | null {
  const file = readMessage(message, around, true);
  return file === null ? null : { user: userOf(message, around), messages: [file] };
}

function readMessage(message: Item, around: Surroundings, isFile: boolean): ImportedMessage | null {
  const sentAt = timeOf(message.timestamp);
  const entry = readEntry(message, messageTypeOf(message), isFromBusiness(message, around) ? "bot" : "user");
  return sentAt === null || entry === null ? null : { sentAt, entry, isFile };
}

function userOf(message: Item, around: Surroundings): WhatsAppUser | null {
  return isFromBusiness(message, around)
    ? readEchoRecipient(message, around.contacts, around.businessPhone)
    : readSender(message, around.contacts, around.businessPhone);
}

/** Where the business number is not known, what names a recipient and no sender id is taken for the business's. */
function isFromBusiness(message: Item, { businessPhone }: Surroundings): boolean {
  if (idOf(message.from_user_id) !== null) return false;
  const from = phoneOf(message.from);
  return from === null || from === businessPhone || (businessPhone === null && textOf(message.to) !== null);
}
