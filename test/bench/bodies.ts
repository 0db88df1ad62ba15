/** Signed WhatsApp bodies, each with a message of its own, ready to be written to a socket. */

import { createHmac } from "node:crypto";
import {
  aChange,
  aContact,
  anEnvelope,
  aTextMessage,
  business,
  toBytes,
} from "../helpers/whatsapp-bodies.ts";

export const appSecret = "bench-app-secret-of-some-length";
const contactCount = 1_000;

export interface BodyOrder {
  /** The business number that the messages are sent to; it decides which webhooks get them. */
  phoneNumberId: string;
  /** Number of the first message; no two bodies of a run have the same. */
  first: number;
  count: number;
}

/** Whole HTTP/1.1 requests for the messages `first` to `first + count - 1`, sent now by a thousand contacts in turn. */
export function makeRequests(host: string, { phoneNumberId, first, count }: BodyOrder): Buffer[] {
  const timestamp = String(Math.floor(Date.now() / 1_000));
  return Array.from({ length: count }, (_, offset) => {
    const body = makeBody(phoneNumberId, first + offset, timestamp);
    const signature = createHmac("sha256", appSecret).update(body).digest("hex");
    const head =
      `POST /whatsapp/webhook HTTP/1.1\r\nHost: ${host}\r\nContent-Type: application/json\r\n` +
      `X-Hub-Signature-256: sha256=${signature}\r\nContent-Length: ${body.length}\r\n\r\n`;
    return Buffer.concat([Buffer.from(head), body]);
  });
}

/** @param timestamp  Unix seconds, as WhatsApp writes them */
export function makeBody(phoneNumberId: string, number: number, timestamp: string): Buffer {
  const from = `1555${String(number % contactCount).padStart(7, "0")}`;
  const body = `Message ${number}, as long as most are.`;
  const message = aTextMessage({ id: messageId(number), from, timestamp, body });
  const contact = aContact({ wa_id: from, profile: { name: `Contact ${number % contactCount}` } });
  const metadata = { display_phone_number: business.phone, phone_number_id: phoneNumberId };
  return toBytes(anEnvelope([aChange({ metadata, contacts: [contact], messages: [message] })]));
}

const idPrefix = "wamid.bench-";

function messageId(number: number): string {
  return `${idPrefix}${number}.`;
}

/** The number of the message that a payload is about; -1 if it is about none of ours. */
export function messageNumberIn(payload: string): number {
  const start = payload.indexOf(idPrefix);
  return start === -1 ? -1 : Number.parseInt(payload.slice(start + idPrefix.length, start + 30), 10);
}

/** Milliseconds on a clock that all processes of the machine share. */
export function nowMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
