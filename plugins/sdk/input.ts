/** What a transformer is given: plain data, to be read and not changed. */

/** The WhatsApp user as this very event names them; a part that the event lacks is null. */
export interface EventUser {
  /** Digits without `+`: the sender's of a message, the recipient's of a status or of a sent message. */
  readonly phone: string | null;
  /** Business-scoped user id, such as `US.13491208655302741918`. */
  readonly bsuid: string | null;
  /** `wa_id` as WhatsApp gave it beside the item. */
  readonly waId: string | null;
  /** Profile name as WhatsApp gave it beside the item. */
  readonly profileName: string | null;
}

/** One thing that happened on WhatsApp, or that the gateway tells of itself (`posthorn.*`). */
export interface TransformerEvent {
  /** UUID; the same for every webhook that gets this event. */
  readonly id: string;
  /** `message.received`, `message.status`, `whatsapp.account_update`, … */
  readonly type: string;
  /** The raw WhatsApp item (a message, a status, a change's value, …), parsed. */
  readonly item: unknown;
  /** The same item as compact JSON text in which every number has its source text; see `parseLossless`. */
  readonly itemJson: string;
  /** When it happened by WhatsApp's clock; null when WhatsApp gave no time. */
  readonly occurredAt: Date | null;
  /** When the gateway took it in. */
  readonly receivedAt: Date;
  /** The business number's id at WhatsApp; null for account-level events. */
  readonly phoneNumberId: string | null;
  /** Digits of the business number, without `+`; null when WhatsApp gave none. */
  readonly businessPhone: string | null;
  readonly wabaId: string | null;
  /** Name of the client (end business) that the event belongs to; null if it belongs to none. */
  readonly clientRef: string | null;
  readonly user: EventUser | null;
}

/** A message as its conversation shows it. */
export interface ConversationMessage {
  readonly sender: "user" | "bot";
  /** Text to show: the body, a caption, the chosen button's title, …; `""` if there is none. */
  readonly content: string;
  readonly contentType: "text" | "image" | "audio" | "video" | "document" | "location";
  readonly sentAt: Date;
}

/** One business number and one contact, as things stood when the event was committed. */
export interface Conversation {
  /** The contact's UUID. */
  readonly userId: string;
  /** Digits without `+`; null when only the business-scoped id is known. */
  readonly phone: string | null;
  readonly bsuid: string | null;
  /** Stored name, else profile name, `""` if unknown. */
  readonly name: string;
  readonly note: string;
  readonly noteAutomation: string;
  readonly labels: readonly string[];
  /** Newest first, this event's message first; as many as the transformer's `history` asks for. */
  readonly messages: readonly ConversationMessage[];
  /** The newest message of each side in the whole conversation, however far back; null if there is none. */
  readonly lastUserMessage: ConversationMessage | null;
  readonly lastBotMessage: ConversationMessage | null;
}

/** A webhook's `transformer_options`. */
export type TransformerOptions = Readonly<Record<string, unknown>>;

/** What `transform` is called with: plain data, to be read and not changed. */
export interface TransformerInput {
  readonly event: TransformerEvent;
  /** Null when the event is no message of a conversation (a status, a reaction, a system notice, …). */
  readonly conversation: Conversation | null;
  /** The webhook's `transformer_options`, checked against `optionsSchema`; `{}` if it has none. */
  readonly options: TransformerOptions;
  /** Link to the media of this event's message; null when it has none. */
  readonly mediaUrl: string | null;
}
