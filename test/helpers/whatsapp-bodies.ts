/** Builders of WhatsApp webhook bodies, with defaults that a test replaces where it matters. */

export type Json = Record<string, unknown>;

/** The business and the user that every builder speaks of unless told otherwise. */
export const business = { wabaId: "510000000000001", phoneNumberId: "620000000000001", phone: "15557770100" };
export const customer = { phone: "15558880200", bsuid: "US.70000000000000000001", name: "Ada Müller" };

/** Unix seconds of 2026-03-05T12:00:00Z, the time of whatever a builder makes. */
export const baseTimestamp = 1772712000;

export function aMessage(type: string, content: unknown, overrides: Json = {}): Json {
  return {
    from: customer.phone,
    id: "wamid.received-1",
    timestamp: String(baseTimestamp),
    type,
    [type]: content,
    ...overrides,
  };
}

export function aTextMessage(overrides: Json & { body?: string } = {}): Json {
  const { body, ...rest } = overrides;
  return aMessage("text", { body: body ?? "Hello!" }, rest);
}

export function aReaction(overrides: Json = {}): Json {
  const reaction = { message_id: "wamid.received-1", emoji: "👍" };
  return aMessage("reaction", reaction, { id: "wamid.reaction-1", ...overrides });
}

export function aStatus(overrides: Json = {}): Json {
  return {
    id: "wamid.sent-1",
    status: "delivered",
    timestamp: String(baseTimestamp),
    recipient_id: customer.phone,
    ...overrides,
  };
}

export function anEcho(overrides: Json & { body?: string } = {}): Json {
  const { body, ...rest } = overrides;
  return {
    from: business.phone,
    to: customer.phone,
    id: "wamid.sent-1",
    timestamp: String(baseTimestamp),
    type: "text",
    text: { body: body ?? "We are on it." },
    ...rest,
  };
}

export function aContact(overrides: Json = {}): Json {
  return { profile: { name: customer.name }, wa_id: customer.phone, ...overrides };
}

/** A change of a field that carries items of a business number: `{ messages, statuses, contacts, … }`. */
export function aChange(lists: Json, field = "messages"): Json {
  const metadata = { display_phone_number: business.phone, phone_number_id: business.phoneNumberId };
  return { field, value: { messaging_product: "whatsapp", metadata, ...lists } };
}

/** A change of account-level kind: its value stands alone. */
export function anAccountChange(field: string, value: unknown): Json {
  return { field, value };
}

export function anEnvelope(changes: unknown[], entry: Json = {}): Json {
  return { object: "whatsapp_business_account", entry: [{ id: business.wabaId, changes, ...entry }] };
}

/** The envelope of one message from the default customer. */
export function anInboundBody(message: Json = aTextMessage()): Json {
  return anEnvelope([aChange({ contacts: [aContact()], messages: [message] })]);
}

/** The bytes as WhatsApp sends them: one line, everything outside ASCII written as `\u` escapes. */
export function toBytes(body: unknown): Buffer {
  const escaped = (unit: string) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return Buffer.from(JSON.stringify(body).replace(/[\u0080-\uffff]/g, escaped));
}
