/** A message of ours as the event that an echo of it would be, so that both are one; and the statuses that come back. */

import type { IncomingEvent } from "../domain/event.ts";
import { isUuid } from "../domain/ids.ts";
import {
  type MessageStatus,
  messageStatuses,
  type OutgoingContent,
  type Recipient,
} from "../domain/outgoing.ts";
import { makeSent } from "./item.ts";
import { idOf, listOf, parseLossless, recordOf, textOf } from "./json.ts";
import { reasonOfCode } from "./send-errors.ts";
import { timeOf } from "./time.ts";

export interface SentMessage {
  phoneNumberId: string;
  /** Digits; null if not known. */
  businessPhone: string | null;
  to: Recipient;
  content: OutgoingContent;
  wamid: string;
  acceptedAt: Date;
}

/** `message.sent`, in the shape of WhatsApp's echoes. The same message gives the same event, however often it is made. */
export function makeOutgoingEvent(message: SentMessage): IncomingEvent {
  const { to, content, businessPhone } = message;
  const item = {
    ...(businessPhone !== null && { from: businessPhone }),
    ...(to.phone !== null && { to: to.phone }),
    ...(to.bsuid !== null && { to_user_id: to.bsuid }),
    id: message.wamid,
    timestamp: String(Math.floor(message.acceptedAt.getTime() / 1000)),
    type: content.type,
    ...(JSON.parse(content.json) as object),
  };
  return makeSent(item, {
    entryId: null,
    entryTime: null,
    entryAt: null,
    field: null,
    phoneNumberId: message.phoneNumberId,
    businessPhone,
    wabaId: null,
    contacts: { contacts: [], byKey: null },
  });
}

/** What a status event says of a message that may be ours. */
export interface ReadStatus {
  wamid: string;
  /** Null for one that says nothing about how far the message got. */
  status: MessageStatus | null;
  at: Date | null;
  /** What `biz_opaque_callback_data` holds, if it may be an id of ours. */
  messageId: string | null;
  errorCode: number | null;
  errorMessage: string | null;
  reason: string | null;
}

const errorMessageLengthMax = 500;

/** Null if the item does not say which message it is about. */
export function readStatus(itemJson: string): ReadStatus | null {
  const item = recordOf(parseLossless(itemJson));
  const wamid = idOf(item?.id);
  if (item === null || wamid === null) return null;
  const status = messageStatuses.find((one) => one === item.status) ?? null;
  const callback = idOf(item.biz_opaque_callback_data);
  const error = recordOf(listOf(item.errors)[0]);
  const code = textOf(error?.code);
  const errorCode = code !== null && /^\d{1,9}$/.test(code) ? Number(code) : null;
  const words =
    textOf(recordOf(error?.error_data)?.details) ?? textOf(error?.message) ?? textOf(error?.title);
  const isFailure = status === "failed";
  return {
    wamid,
    // The status of a payment is about the payment.
    status: item.type === "payment" ? null : status,
    at: timeOf(item.timestamp),
    messageId: callback !== null && isUuid(callback) ? callback.toLowerCase() : null,
    errorCode: isFailure ? errorCode : null,
    errorMessage: isFailure ? (words?.slice(0, errorMessageLengthMax) ?? null) : null,
    reason: isFailure ? reasonOfCode(errorCode) : null,
  };
}

/** The status's item with the caller's own value where ours stood; without the member if the caller gave none. */
export function restoreCallback(itemJson: string, callbackData: string | null): string {
  const item = recordOf(parseLossless(itemJson)) ?? {};
  if (callbackData === null) delete item.biz_opaque_callback_data;
  else item.biz_opaque_callback_data = callbackData;
  return JSON.stringify(item);
}
