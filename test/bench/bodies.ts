/** Signed WhatsApp bodies, each with a message of its own, ready to be written to a socket. */

import { createHmac } from "node:crypto";
import { aChange, aContact, anEnvelope, aTextMessage, toBytes } from "../helpers/whatsapp-bodies.ts";

export const appSecret = "bench-app-secret-of-some-length";
const contactCount = 1_000;

/** Whole HTTP/1.1 requests for the messages `first` to `first + count - 1`, from a thousand contacts in turn. */
export function makeRequests(host: string, first: number, count: number): Buffer[] {
  return Array.from({ length: count }, (_, offset) => {
    const number = first + offset;
    const from = `1555${String(number % contactCount).padStart(7, "0")}`;
    const message = aTextMessage({
      id: messageId(number),
      from,
      body: `Message ${number}, as long as most are.`,
    });
    const contact = aContact({ wa_id: from, profile: { name: `Contact ${number % contactCount}` } });
    const body = toBytes(anEnvelope([aChange({ contacts: [contact], messages: [message] })]));
    const signature = createHmac("sha256", appSecret).update(body).digest("hex");
    const head =
      `POST /whatsapp/webhook HTTP/1.1\r\nHost: ${host}\r\nContent-Type: application/json\r\n` +
      `X-Hub-Signature-256: sha256=${signature}\r\nContent-Length: ${body.length}\r\n\r\n`;
    return Buffer.concat([Buffer.from(head), body]);
  });
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
