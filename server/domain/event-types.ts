/** Which event types there are, and what patterns of them (`whatsapp.*`) have in common. */

import { coversType, type EventType } from "./event.ts";

/** Types that hang on a trigger. */
export const messageTypes: readonly EventType[] = [
  "message.received",
  "message.reaction",
  "message.status",
  "message.sent",
];

/** Types about the gateway itself. */
export const gatewayTypes: readonly EventType[] = ["posthorn.webhook.disabled", "posthorn.delivery.failed"];

/** `whatsapp.<field>`: WhatsApp adds fields as it likes, so the name of one is not checked. */
const whatsappPrefix = "whatsapp.";
const whatsappPattern = /^whatsapp\.[a-z0-9_]+$/;
/** Everything that has no trigger. */
const triggerlessPatterns: readonly string[] = [`${whatsappPrefix}*`, ...gatewayTypes];

/** True for a type that may exist, and for a pattern that covers one. */
export function isKnownPattern(pattern: string): boolean {
  if (!pattern.endsWith("*")) {
    return messageTypes.includes(pattern) || gatewayTypes.includes(pattern) || whatsappPattern.test(pattern);
  }
  if (pattern.slice(0, -1).includes("*")) return false;
  return [...messageTypes, ...triggerlessPatterns].some((known) => overlap(pattern, known) !== null);
}

/** True if some type without trigger is covered by a pattern of both lists. */
export function shareTriggerlessType(first: readonly string[], second: readonly string[]): boolean {
  return first.some((one) =>
    second.some((other) => {
      const shared = overlap(one, other);
      return shared !== null && triggerlessPatterns.some((pattern) => overlap(shared, pattern) !== null);
    }),
  );
}

/** The pattern of what both cover: the longer one, if the shorter one covers it; null if they share nothing. */
function overlap(first: string, second: string): string | null {
  if (!first.endsWith("*")) return coversType(second, first) ? first : null;
  if (!second.endsWith("*")) return coversType(first, second) ? second : null;
  const [short, long] = first.length < second.length ? [first, second] : [second, first];
  return long.startsWith(short.slice(0, -1)) ? long : null;
}
