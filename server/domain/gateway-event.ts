/**
 * Events about the gateway itself (`posthorn.*`). They are the tenant's, and of the client that the webhook they are
 * about is for: whoever may see that webhook may get them. The item is what `raw` sends.
 */

import { hash } from "node:crypto";
import type { GivenUpReason } from "./delivery.ts";
import type { EventType, IncomingEvent } from "./event.ts";

/** Its deliveries are told of to nobody, or the telling would go on for ever. */
export const gatewayPrefix = "posthorn.";

export interface AboutWebhook {
  /** Tells it from every other event of this installation. */
  identity: string;
  occurredAt: Date;
  tenantId: number;
  webhook: { id: number; url: string; clientId: number | null; clientRef: string | null };
}

export interface FailedDelivery {
  id: string;
  eventId: string;
  eventType: EventType;
  reason: GivenUpReason;
  reasonDetail: string | null;
  /** Attempts that were started. */
  attemptCount: number;
  /** Null if no request was made, or it is gone from the log. */
  lastAttempt: {
    number: number;
    outcome: string;
    errorKind: string | null;
    errorMessage: string | null;
    responseStatus: number | null;
  } | null;
}

/** A delivery has failed for good: no attempt follows unless someone asks for it. */
export function makeDeliveryFailed(about: AboutWebhook, delivery: FailedDelivery): IncomingEvent {
  const { lastAttempt } = delivery;
  return makeEvent("posthorn.delivery.failed", about, {
    delivery: {
      id: delivery.id,
      event_id: delivery.eventId,
      event_type: delivery.eventType,
      reason: delivery.reason,
      reason_detail: delivery.reasonDetail,
      attempt_count: delivery.attemptCount,
      last_attempt: lastAttempt && {
        number: lastAttempt.number,
        outcome: lastAttempt.outcome,
        error_kind: lastAttempt.errorKind,
        error_message: lastAttempt.errorMessage,
        response_status: lastAttempt.responseStatus,
      },
    },
  });
}

export interface Disabling {
  /** As `GetWebhook` shows it. */
  reason: string;
  failedCount: number;
  firstFailedAt: Date;
  lastFailedAt: Date;
}

/** The gateway has turned a webhook off, since its endpoint did nothing but fail. */
export function makeWebhookDisabled(about: AboutWebhook, disabling: Disabling): IncomingEvent {
  return makeEvent("posthorn.webhook.disabled", about, {
    reason: disabling.reason,
    failed_count: disabling.failedCount,
    first_failed_at: disabling.firstFailedAt.toISOString(),
    last_failed_at: disabling.lastFailedAt.toISOString(),
  });
}

/** For trying a webhook out; null for a type that is not about the gateway. */
export function makeGatewaySample(type: EventType, at: Date): IncomingEvent | null {
  const about: AboutWebhook = {
    identity: "sample",
    occurredAt: at,
    tenantId: 1,
    webhook: { id: 1, url: "https://example.com/whatsapp", clientId: null, clientRef: "sample-client" },
  };
  switch (type) {
    case "posthorn.delivery.failed":
      return makeDeliveryFailed(about, {
        id: "0199c0de-0000-7000-8000-000000000001",
        eventId: "0199c0de-0000-7000-8000-000000000000",
        eventType: "message.received",
        reason: "attempts_exhausted",
        reasonDetail: null,
        attemptCount: 4,
        lastAttempt: {
          number: 4,
          outcome: "failed",
          errorKind: "http_status",
          errorMessage: "the endpoint answered 500",
          responseStatus: 500,
        },
      });
    case "posthorn.webhook.disabled": {
      const firstFailedAt = new Date(at.getTime() - 5 * 86_400_000);
      const reason = whyDisabled({ failedCount: 120, firstFailedAt, lastFailedAt: at });
      return makeWebhookDisabled(about, { reason, failedCount: 120, firstFailedAt, lastFailedAt: at });
    }
    default:
      return null;
  }
}

/** The reason that `GetWebhook` shows for a webhook that the gateway has turned off. */
export function whyDisabled({ failedCount, firstFailedAt, lastFailedAt }: Omit<Disabling, "reason">): string {
  return (
    `none of its ${failedCount} attempts from ${firstFailedAt.toISOString()} to ${lastFailedAt.toISOString()} ` +
    "succeeded; mend the endpoint, then turn it on (status: true)"
  );
}

function makeEvent(type: EventType, about: AboutWebhook, content: object): IncomingEvent {
  const { identity, occurredAt, tenantId, webhook } = about;
  return {
    type,
    phoneNumberId: null,
    businessPhone: null,
    wabaId: null,
    occurredAt,
    item: JSON.stringify({
      type,
      occurred_at: occurredAt.toISOString(),
      webhook: { id: webhook.id, url: webhook.url, client_ref: webhook.clientRef },
      ...content,
    }),
    user: null,
    entry: null,
    revision: null,
    owner: { tenantId, clientId: webhook.clientId },
    dedup: { hash: hash("sha256", `${type} ${identity}`).slice(0, 32), placedAt: occurredAt },
  };
}
