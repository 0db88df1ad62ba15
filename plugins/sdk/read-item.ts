/** Makes typed items of what WhatsApp sent, after a look at every member that the types speak of. */

import { fitsAnyShape, fitsShape, type Shape } from "./fits-shape.ts";
import type { TransformerEvent } from "./input.ts";
import type {
  ContactCard,
  ContactEmail,
  ContactPhone,
  InteractiveMessage,
  MediaFile,
  MessageContext,
  OrderLine,
  Referral,
  WhatsAppError,
  WhatsAppItem,
  WhatsAppMessage,
} from "./items.ts";
import { isJsonObject } from "./json.ts";

/**
 * The event's item as one of the types that WhatsApp documents, told apart by `type`. Never throws: what is new to
 * this version, or not as documented, is `{ type: "unknown", raw }`.
 *
 * Items are read as `event.item` has them, numbers as JavaScript's. Extra members are kept, and are in `raw` too.
 */
export function readItem(event: TransformerEvent): WhatsAppItem {
  const { type, item } = event;
  if (!type.startsWith("message.")) return { type: "change", value: item };
  if (!isJsonObject(item)) return { type: "unknown", originalType: null, raw: item };
  if (type === "message.status") return readStatus(item);
  return readMessage(item);
}

type Item = Readonly<Record<string, unknown>>;

function readStatus(item: Item): WhatsAppItem {
  const { status } = item;
  if (typeof status !== "string") return { type: "unknown", originalType: null, raw: item };
  return { type: "status", id: idOf(item), status, errors: errorsOf(item), raw: item };
}

function readMessage(item: Item): WhatsAppItem {
  const originalType = typeof item.type === "string" ? item.type : null;
  const base = {
    id: idOf(item),
    context: fitsShape<MessageContext>(item.context, contextShape) ? item.context : null,
    referral: fitsShape<Referral>(item.referral, referralShape) ? item.referral : null,
    groupId: typeof item.group_id === "string" ? item.group_id : null,
    raw: item,
  };
  if (originalType === "request_welcome") return { ...base, type: originalType };
  if (originalType === "unsupported" || originalType === null) {
    return { ...base, type: "unsupported", errors: errorsOf(item) };
  }
  if (isKnownType(originalType) && hasContent(item, originalType)) {
    // The check above is the one that this type promises; TypeScript cannot follow it through the table.
    return { ...base, type: originalType, [originalType]: item[originalType] } as unknown as WhatsAppMessage;
  }
  return { type: "unknown", originalType, raw: item };
}

function idOf(item: Item): string | null {
  return typeof item.id === "string" && item.id !== "" ? item.id : null;
}

function errorsOf(item: Item): readonly WhatsAppError[] {
  const { errors } = item;
  return Array.isArray(errors) ? errors.filter((error) => fitsShape<WhatsAppError>(error, errorShape)) : [];
}

const contextShape: Shape<MessageContext> = {
  id: "string?",
  from: "string?",
  forwarded: "boolean?",
  frequently_forwarded: "boolean?",
  referred_product: "unknown",
};
const referralShape: Shape<Referral> = {
  source_url: "string?",
  source_id: "string?",
  source_type: "string?",
  headline: "string?",
  body: "string?",
  media_type: "string?",
  ctwa_clid: "string?",
};
const errorShape: Shape<WhatsAppError> = {
  code: "amount?",
  title: "string?",
  message: "string?",
  error_data: { optional: { details: "string?" } },
};
const mediaShape: Shape<MediaFile> = {
  id: "string?",
  mime_type: "string?",
  sha256: "string?",
  caption: "string?",
  filename: "string?",
  voice: "boolean?",
  animated: "boolean?",
};
const phoneShape: Shape<ContactPhone> = { phone: "string?", wa_id: "string?", type: "string?" };
const emailShape: Shape<ContactEmail> = { email: "string?", type: "string?" };
const cardShape: Shape<ContactCard> = {
  name: { optional: { formatted_name: "string?" } },
  phones: { optionalList: phoneShape },
  emails: { optionalList: emailShape },
  vcard: "string?",
};
const orderLineShape: Shape<OrderLine> = {
  product_retailer_id: "string?",
  quantity: "amount?",
  item_price: "amount?",
  currency: "string?",
};

/** Messages whose content is the object named after their type. */
type ContentOfType<Type> =
  Extract<WhatsAppMessage, { type: Type }> extends infer Message
    ? Type extends keyof Message
      ? Message[Type]
      : never
    : never;
type KnownType = Exclude<
  WhatsAppMessage["type"],
  "interactive" | "contacts" | "unsupported" | "request_welcome"
>;
const contentShapes: { readonly [Type in KnownType]: Shape<ContentOfType<Type>> } = {
  text: { body: "string" },
  image: mediaShape,
  audio: mediaShape,
  video: mediaShape,
  document: mediaShape,
  sticker: mediaShape,
  location: {
    latitude: "number",
    longitude: "number",
    name: "string?",
    address: "string?",
    url: "string?",
  },
  button: { text: "string?", payload: "string?" },
  order: { catalog_id: "string?", text: "string?", product_items: { list: orderLineShape } },
  reaction: { message_id: "string", emoji: "string?" },
  template: { name: "string", language: { optional: { code: "string?" } }, components: "list?" },
  system: {
    body: "string?",
    type: "string?",
    wa_id: "string?",
    user_id: "string?",
    previous_user_id: "string?",
  },
  edit: { original_message_id: "string", message: { optional: {} } },
  revoke: { original_message_id: "string" },
};

type Reply = InteractiveMessage["interactive"];
type ReplyOfType<Type> = Type extends keyof Extract<Reply, { type: Type }>
  ? Extract<Reply, { type: Type }>[Type]
  : never;
const replyShapes: { readonly [Type in Reply["type"]]: Shape<ReplyOfType<Type>> } = {
  button_reply: { id: "string?", title: "string" },
  list_reply: { id: "string?", title: "string", description: "string?" },
  nfm_reply: { name: "string?", body: "string?", response_json: "string" },
  call_permission_reply: {
    response: "string",
    is_permanent: "boolean?",
    expiration_timestamp: "amount?",
  },
};

function isKnownType(type: string): type is KnownType | "interactive" | "contacts" {
  return type === "interactive" || type === "contacts" || Object.hasOwn(contentShapes, type);
}

function hasContent(item: Item, type: KnownType | "interactive" | "contacts"): boolean {
  if (type === "contacts") {
    return Array.isArray(item.contacts) && item.contacts.every((card) => fitsShape(card, cardShape));
  }
  if (type === "interactive") return isKnownReply(item.interactive);
  return fitsAnyShape(item[type], contentShapes[type]);
}

function isKnownReply(value: unknown): boolean {
  if (!isJsonObject(value) || typeof value.type !== "string") return false;
  const { type } = value;
  if (!Object.hasOwn(replyShapes, type)) return false;
  return fitsAnyShape(value[type], replyShapes[type as Reply["type"]]);
}
