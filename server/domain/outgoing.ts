/**
 * A message that we send.
 *
 *   an answer scheduled it ──► scheduled ──claim──► sending ──┬──► sent       WhatsApp took it; a status may still fail it
 *                                 ▲  │                 ▲      ├──► failed     it was refused, and will be again
 *   a call sends it ──────────────┼──┼─────────────────┘      ├──► unknown    nobody knows: it is never sent again, and a
 *                                 │  └──► canceled            │               status that comes later resolves it
 *                                 └──── refused for now ──────┘
 *
 * A status tells more than an answer: one that says that a message went out makes it `sent` from wherever it is, even if
 * WhatsApp had refused it for now, or it was canceled after that.
 */

export const outgoingStates = ["scheduled", "sending", "sent", "unknown", "failed", "canceled"] as const;
export type OutgoingState = (typeof outgoingStates)[number];

export const outgoingTypes = [
  "text",
  "image",
  "audio",
  "video",
  "document",
  "location",
  "template",
  "reaction",
] as const;
export type OutgoingType = (typeof outgoingTypes)[number];

/** Whom a message goes to; at least one is set, and the business-scoped id decides. */
export interface Recipient {
  /** Digits. */
  phone: string | null;
  bsuid: string | null;
}

/** What tells the recipients of one number apart. */
export function recipientKey({ phone, bsuid }: Recipient): string {
  return bsuid ?? phone ?? "";
}

/** A message as Graph takes it, without recipient and our id. */
export interface OutgoingContent {
  type: OutgoingType;
  /** JSON of an object: the member named after the type, and `context` when it answers a message. */
  json: string;
}

/** What a call to send came to. */
export type SendOutcome =
  /** Graph took it. `phone` are the digits that WhatsApp knows the recipient by, if it said so. */
  | { kind: "accepted"; wamid: string; phone: string | null }
  /** Graph refused it: it was not sent. `status` is HTTP's, `code` Graph's own; Meta's support asks for `traceId`. */
  | { kind: "refused"; status: number; code: number | null; message: string; traceId?: string }
  /** No connection came about: it was not sent. */
  | { kind: "not_sent"; message: string }
  /** The request went out, and no answer says what came of it. */
  | { kind: "unclear"; message: string };

/** The statuses of a message in the order in which they replace each other; `failed` gives way to `delivered`. */
export const messageStatuses = ["sent", "failed", "delivered", "read", "played"] as const;
export type MessageStatus = (typeof messageStatuses)[number];

/** WhatsApp lets a business write freely for so long after the user's last message. */
export const replyWindowMs = 24 * 3_600_000;

/** Types that may be sent at any time. */
export function needsWindow(type: OutgoingType): boolean {
  return type !== "template";
}

/** True if the user wrote within the last 24 hours. */
export function isWindowOpen(lastUserAt: Date | null, now: Date): boolean {
  return lastUserAt !== null && now.getTime() - lastUserAt.getTime() < replyWindowMs;
}
