/** A registered endpoint, and the rule that says which events it is sent. */

import { coversType, type EventType } from "./event.ts";

export type SignatureScheme = "intelli" | "insights";

export interface Webhook {
  id: number;
  tenantId: number;
  /** Only events of this client; null = of every client of the tenant. */
  clientId: number | null;
  clientRef: string | null;
  /** As its owner wrote it. */
  url: string;
  isEnabled: boolean;
  isPaused: boolean;
  /** Trigger: what a WhatsApp user does. */
  incoming: boolean;
  /** Trigger: what happens to messages that the business sends. */
  outgoing: boolean;
  scheduleActivity: boolean;
  waitingDurationSeconds: number;
  isSigned: boolean;
  transformer: string;
  transformerOptions: Record<string, unknown> | null;
  /** Empty = all. A trailing `*` covers what starts alike. */
  eventTypes: string[];
  /** Attempts in flight at once, per gateway process. */
  maxInFlight: number;
  description: string;
  /** Why the gateway turned it off, if it did. */
  disabledReason: string | null;
  /** When the gateway turned it off, if it did. */
  disabledAt: Date | null;
  createdAt: Date;
  updatedAt: Date;
}

/** What a webhook's sender needs beside the webhook itself; never leaves the process. */
export interface WebhookTarget extends Webhook {
  /** Secrets that are live now, oldest first: signatures with one value use the first. Empty when unsigned. */
  secrets: { secret: string; expiresAt: Date | null }[];
  /** Extra request headers, values in clear. */
  headers: Record<string, string>;
  /** Why nothing can be sent to it for now, though it is on; null when all is well. */
  fault: string | null;
}

/**
 * True if an event of this type and client is to be delivered to the webhook: it is enabled, the client matches,
 * its transformer handles the type, `event_types` covers it, and the type's trigger is on. Types that have no
 * trigger (`whatsapp.*`, `posthorn.*`) must be named in `event_types`.
 */
export function admits(
  webhook: Webhook,
  event: { type: EventType; clientId: number | null },
  handles: readonly string[],
): boolean {
  if (!webhook.isEnabled) return false;
  if (webhook.clientId !== null && webhook.clientId !== event.clientId) return false;
  return wantsType(webhook, event.type, handles);
}

/** The part of `admits` that depends on the type alone. */
export function wantsType(
  webhook: Pick<Webhook, "incoming" | "outgoing" | "eventTypes">,
  type: EventType,
  handles: readonly string[],
): boolean {
  if (!handles.some((pattern) => coversType(pattern, type))) return false;
  const isNamed = webhook.eventTypes.some((pattern) => coversType(pattern, type));
  const trigger = triggerOf(type);
  if (trigger === null) return isNamed;
  return webhook[trigger] && (isNamed || webhook.eventTypes.length === 0);
}

/** The trigger that a type hangs on; null for types that must be named. */
export function triggerOf(type: EventType): "incoming" | "outgoing" | null {
  switch (type) {
    case "message.received":
    case "message.reaction":
      return "incoming";
    case "message.status":
    case "message.sent":
      return "outgoing";
    default:
      return null;
  }
}
