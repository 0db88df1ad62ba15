/**
 * What happened on WhatsApp. `whatsapp/` splits bodies into IncomingEvents; `delivery/publish.ts` routes them,
 * drops repeats and stores the rest as events, which never change again.
 */

/** `message.received`, `message.reaction`, `message.status`, `message.sent`, `whatsapp.<field>`, `posthorn.<…>`. */
export type EventType = string;

/** The WhatsApp user as one event names them. Digits have no `+`; a part that the event lacks is null. */
export interface WhatsAppUser {
  /** Digits of the phone number: the sender's of a message, the recipient's of a status or echo. */
  phone: string | null;
  /** Business-scoped user id, such as `US.13491208655302741918`. */
  bsuid: string | null;
  /** `wa_id` of the matching entry of `contacts`, exactly as WhatsApp gave it. */
  waId: string | null;
  /** Profile name of the matching entry of `contacts`. */
  profileName: string | null;
}

export type ContentType = "text" | "image" | "audio" | "video" | "document" | "location";

/** A message that belongs to a conversation, reduced to what its history shows. */
export interface ConversationEntry {
  sender: "user" | "bot";
  /** WhatsApp's message id; null if the item has none. */
  wamid: string | null;
  content: string;
  contentType: ContentType;
  /** Media id to look the file up with; null for messages without media. */
  mediaId: string | null;
  /** Name that the sender gave the file, as they wrote it; absent if they gave none. */
  fileName?: string;
}

/** An edit or revoke: changes how an earlier message is shown in payloads of later events. */
export interface Revision {
  /** WhatsApp id of the message that changes. */
  wamid: string;
  /** Null when the message was revoked. */
  content: string | null;
  contentType: ContentType;
}

/** A WhatsApp user goes by another number or business-scoped id from now on; parts that WhatsApp does not name are null. */
export interface IdentityChange {
  from: { phone: string | null; bsuid: string | null };
  to: { phone: string | null; bsuid: string | null };
}

/** A message from before the number was connected, as the history of the business's phone has it. */
export interface ImportedMessage {
  sentAt: Date;
  entry: ConversationEntry;
  /** True for the file of a message that the history holds as a placeholder: it fills that message if it is there. */
  isFile: boolean;
}

/** Imported messages with one user, in the order in which the item has them. */
export interface ImportedThread {
  /** Null if the item does not say whose they are: then a file can fill its message and nothing can be added. */
  user: WhatsAppUser | null;
  messages: readonly ImportedMessage[];
}

/** Recognises a repeat of the same item. */
export interface DedupKey {
  /** 32 hex digits: a hash of the parts that make the item itself (contract, "Duplicates"). */
  hash: string;
  /**
   * The item's own WhatsApp time, which places the key so that a repeat meets the first.
   * Null when neither item nor entry has a time: such a key counts for ten minutes only.
   */
  placedAt: Date | null;
  /** A second place, which a repeat may be put at; the item is new only if the key is free at both. */
  alsoPlacedAt?: Date;
}

/** One item of a WhatsApp body, before it is known whose it is. */
export interface IncomingEvent {
  type: EventType;
  phoneNumberId: string | null;
  /** Digits of the business number, as `metadata.display_phone_number` gives it. */
  businessPhone: string | null;
  wabaId: string | null;
  /** When it happened by WhatsApp's clock; null when the item has no usable time. */
  occurredAt: Date | null;
  /** The raw item as compact JSON: every number keeps its source text. */
  item: string;
  user: WhatsAppUser | null;
  /** Set when the item is a message that belongs to a conversation. */
  entry: ConversationEntry | null;
  /** Set when the item is an edit or revoke. */
  revision: Revision | null;
  /** Set when the item says that users go by other names. */
  identityChanges?: readonly IdentityChange[];
  /** Set when the item brings along older messages; they become part of their conversations and no events. */
  imported?: readonly ImportedThread[];
  /** Set when it is about the gateway itself: whose it is does not follow from WhatsApp's numbers and accounts then. */
  owner?: { tenantId: number; clientId: number | null };
  dedup: DedupKey;
}

/** True if `pattern` (an event type, or a prefix with `*` at its end) covers `type`. */
export function coversType(pattern: string, type: EventType): boolean {
  return pattern.endsWith("*") ? type.startsWith(pattern.slice(0, -1)) : pattern === type;
}
