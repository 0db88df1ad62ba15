/**
 * WhatsApp's items as types: what `readItem` gives. Names are WhatsApp's own. Every member that is no `unknown` was
 * checked to be what its type says, so that reading it cannot fail, whatever WhatsApp (or somebody else) sends.
 */

/** One item, told apart by `type`. An item of an unknown type, or of an unexpected shape, is `unknown`. */
export type WhatsAppItem = WhatsAppMessage | StatusItem | ChangeItem | UnknownItem;

/** A message that a user or the business wrote. */
export type WhatsAppMessage =
  | TextMessage
  | ImageMessage
  | AudioMessage
  | VideoMessage
  | DocumentMessage
  | StickerMessage
  | LocationMessage
  | ContactsMessage
  | ButtonMessage
  | InteractiveMessage
  | OrderMessage
  | ReactionMessage
  | TemplateMessage
  | SystemMessage
  | EditMessage
  | RevokeMessage
  | UnsupportedMessage
  | RequestWelcomeMessage;

/** What all messages have in common. */
export interface MessageBase {
  /** WhatsApp's message id (`wamid.…`); null if the item has none. */
  readonly id: string | null;
  /** The message that this one answers, or how it was forwarded; null for most. */
  readonly context: MessageContext | null;
  /** The advertisement that led to this message; null for most. */
  readonly referral: Referral | null;
  /** Set in groups only. */
  readonly groupId: string | null;
  /** The item as it came, with everything that has no member here. */
  readonly raw: Readonly<Record<string, unknown>>;
}

/** Which message this one answers, or how it was forwarded. */
export interface MessageContext {
  /** Id of the message that is answered; absent when a message was forwarded. */
  readonly id?: string | null;
  /** Who wrote the message that is answered, digits. */
  readonly from?: string | null;
  readonly forwarded?: boolean | null;
  readonly frequently_forwarded?: boolean | null;
  /** `{ catalog_id, product_retailer_id }` of the product that the user asks about. */
  readonly referred_product?: unknown;
}

/** An advertisement that leads to WhatsApp. */
export interface Referral {
  readonly source_url?: string | null;
  readonly source_id?: string | null;
  /** `ad` or `post`. */
  readonly source_type?: string | null;
  readonly headline?: string | null;
  readonly body?: string | null;
  /** `image` or `video`. */
  readonly media_type?: string | null;
  readonly ctwa_clid?: string | null;
}

/** Words, an emoji, or the text of an ice breaker or command. */
export interface TextMessage extends MessageBase {
  readonly type: "text";
  readonly text: { readonly body: string };
}

/** A file. Its bytes are at the input's `mediaUrl`: `mediaOf` puts both together. */
export interface MediaFile {
  /** WhatsApp's media id; absent in a message that was sent by a link. */
  readonly id?: string | null;
  /** May have a parameter: `audio/ogg; codecs=opus`. */
  readonly mime_type?: string | null;
  /** Base64 of the file's SHA-256. */
  readonly sha256?: string | null;
  readonly caption?: string | null;
  /** As the sender wrote it: any characters. */
  readonly filename?: string | null;
  /** True for what was recorded in WhatsApp. */
  readonly voice?: boolean | null;
  /** True for a sticker that moves. */
  readonly animated?: boolean | null;
}

/** A picture. */
export interface ImageMessage extends MessageBase {
  readonly type: "image";
  readonly image: MediaFile;
}

/** A sound file, or a voice note (`audio.voice`). */
export interface AudioMessage extends MessageBase {
  readonly type: "audio";
  readonly audio: MediaFile;
}

/** A film. */
export interface VideoMessage extends MessageBase {
  readonly type: "video";
  readonly video: MediaFile;
}

/** A file of any type. */
export interface DocumentMessage extends MessageBase {
  readonly type: "document";
  readonly document: MediaFile;
}

/** A sticker. */
export interface StickerMessage extends MessageBase {
  readonly type: "sticker";
  readonly sticker: MediaFile;
}

/** A place on the map; one that was picked has a name and an address. */
export interface LocationMessage extends MessageBase {
  readonly type: "location";
  readonly location: {
    readonly latitude: number;
    readonly longitude: number;
    readonly name?: string | null;
    readonly address?: string | null;
    readonly url?: string | null;
  };
}

/** Cards of the address book. */
export interface ContactsMessage extends MessageBase {
  readonly type: "contacts";
  readonly contacts: readonly ContactCard[];
}

/** One card of the address book. */
export interface ContactCard {
  /** Newer cards may have a vCard only. */
  readonly name?: { readonly formatted_name?: string | null } | null;
  readonly phones?: readonly ContactPhone[] | null;
  readonly emails?: readonly ContactEmail[] | null;
  readonly vcard?: string | null;
}

/** A number on a card. */
export interface ContactPhone {
  readonly phone?: string | null;
  readonly wa_id?: string | null;
  readonly type?: string | null;
}

/** An address on a card. */
export interface ContactEmail {
  readonly email?: string | null;
  readonly type?: string | null;
}

/** The answer to a button of a template. */
export interface ButtonMessage extends MessageBase {
  readonly type: "button";
  readonly button: { readonly text?: string | null; readonly payload?: string | null };
}

/** The answer to buttons, a list, a form, … of a message. Other kinds of answers are `unknown` items. */
export interface InteractiveMessage extends MessageBase {
  readonly type: "interactive";
  readonly interactive:
    | {
        readonly type: "button_reply";
        readonly button_reply: { readonly id?: string | null; readonly title: string };
      }
    | {
        readonly type: "list_reply";
        readonly list_reply: {
          readonly id?: string | null;
          readonly title: string;
          readonly description?: string | null;
        };
      }
    | {
        /** What was entered into a flow or an address form. */
        readonly type: "nfm_reply";
        readonly nfm_reply: {
          readonly name?: string | null;
          readonly body?: string | null;
          /** JSON as a text; it may be no JSON, or no object. */
          readonly response_json: string;
        };
      }
    | {
        readonly type: "call_permission_reply";
        readonly call_permission_reply: {
          /** `accept` or `reject`. */
          readonly response: string;
          readonly is_permanent?: boolean | null;
          /** Unix seconds. */
          readonly expiration_timestamp?: string | number | null;
        };
      };
}

/** What a user put into the basket of a catalog. */
export interface OrderMessage extends MessageBase {
  readonly type: "order";
  readonly order: {
    readonly catalog_id?: string | null;
    readonly text?: string | null;
    readonly product_items: readonly OrderLine[];
  };
}

/** One product of an order; prices are in whole units of the currency. */
export interface OrderLine {
  readonly product_retailer_id?: string | null;
  readonly quantity?: string | number | null;
  readonly item_price?: string | number | null;
  readonly currency?: string | null;
}

/** The type of `message.reaction` events. */
export interface ReactionMessage extends MessageBase {
  readonly type: "reaction";
  readonly reaction: {
    /** The message that is reacted to. */
    readonly message_id: string;
    /** Null, `""` or absent when the reaction was taken back. */
    readonly emoji?: string | null;
  };
}

/** A template that the business sent. */
export interface TemplateMessage extends MessageBase {
  readonly type: "template";
  readonly template: {
    readonly name: string;
    readonly language?: { readonly code?: string | null } | null;
    readonly components?: readonly unknown[] | null;
  };
}

/** A notice of WhatsApp's, such as a new number of the user. */
export interface SystemMessage extends MessageBase {
  readonly type: "system";
  readonly system: {
    readonly body?: string | null;
    /** `user_changed_number`, `user_changed_user_id`, `customer_identity_changed`, … */
    readonly type?: string | null;
    /** The new number. */
    readonly wa_id?: string | null;
    readonly user_id?: string | null;
    readonly previous_user_id?: string | null;
  };
}

/** A message that was changed; it has an id of its own. */
export interface EditMessage extends MessageBase {
  readonly type: "edit";
  readonly edit: {
    readonly original_message_id: string;
    /** The message as it is now. */
    readonly message?: Readonly<Record<string, unknown>> | null;
  };
}

/** A message that was taken back; the notice has an id of its own. */
export interface RevokeMessage extends MessageBase {
  readonly type: "revoke";
  readonly revoke: { readonly original_message_id: string };
}

/** Something that WhatsApp does not hand on, or not yet: the real message may follow with the same id. */
export interface UnsupportedMessage extends MessageBase {
  readonly type: "unsupported";
  readonly errors: readonly WhatsAppError[];
}

/** The user opened the chat for the first time. */
export interface RequestWelcomeMessage extends MessageBase {
  readonly type: "request_welcome";
}

/** What became of a message that the business sent: items of `message.status` events. */
export interface StatusItem {
  readonly type: "status";
  /** Id of the message; null if the item has none. */
  readonly id: string | null;
  /** `sent`, `delivered`, `read`, `played`, `failed`, or a newer one; they come in any order. */
  readonly status: string;
  /** Why it failed; empty for most. */
  readonly errors: readonly WhatsAppError[];
  /** The item as it came: `pricing`, `conversation`, `biz_opaque_callback_data`, … */
  readonly raw: Readonly<Record<string, unknown>>;
}

/** A fault that WhatsApp tells of. Only `code` is dependable; `error_data.details` is for people. */
export interface WhatsAppError {
  readonly code?: string | number | null;
  readonly title?: string | null;
  readonly message?: string | null;
  readonly error_data?: { readonly details?: string | null } | null;
}

/** The item of a `whatsapp.*` or `posthorn.*` event: its shape hangs on the event's type. */
export interface ChangeItem {
  readonly type: "change";
  readonly value: unknown;
}

/** What no other type fits. WhatsApp adds types without notice: a transformer should have an answer to this one. */
export interface UnknownItem {
  readonly type: "unknown";
  /** What the item itself says, if it says one: `hologram`, or `text` for a text without a body. */
  readonly originalType: string | null;
  readonly raw: unknown;
}
