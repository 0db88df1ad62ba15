/** Proto messages to domain values and back. The public names and units of the contract end here. */

import type { JsonObject, MessageInitShape } from "@bufbuild/protobuf";
import { type FieldMask, type Timestamp, timestampFromDate } from "@bufbuild/protobuf/wkt";
import type {
  AttemptSchema,
  DeliverySchema,
  ListDeliveriesRequest,
  WatchDeliveriesRequest,
} from "../../gen/posthorn/v1/delivery_service_pb.ts";
import type {
  CreateWebhookRequest,
  UpdateWebhookRequest,
  WebhookSchema,
} from "../../gen/posthorn/v1/webhook_service_pb.ts";
import type { Attempt } from "../domain/attempt.ts";
import type { DeliveryState } from "../domain/delivery.ts";
import { GatewayError } from "../domain/errors.ts";
import type { Webhook } from "../domain/webhook.ts";
import { defaultOutgoing, type WebhookSettings } from "../domain/webhook-rules.ts";
import type { DeliveryFilter, LoggedDelivery } from "../store/delivery-log.ts";

const transformerDefault = "insights";
const maxInFlightDefault = 64;

/** The request has passed its rules: required fields are there. */
export function toWebhookSettings(request: CreateWebhookRequest): WebhookSettings {
  const transformer = request.transformer ?? transformerDefault;
  return {
    url: request.webhooks ?? "",
    isEnabled: request.status ?? false,
    isPaused: request.paused ?? false,
    incoming: request.incoming ?? false,
    outgoing: request.outgoing ?? defaultOutgoing(transformer, request.eventTypes),
    scheduleActivity: request.scheduleActivity ?? false,
    waitingDurationSeconds: request.waitingDuration ?? 0,
    isSigned: request.activeSignature ?? false,
    transformer,
    transformerOptions: request.transformerOptions ?? null,
    eventTypes: request.eventTypes,
    clientRef: request.clientRef ?? null,
    maxInFlight: request.maxInFlight ?? maxInFlightDefault,
    description: request.description ?? "",
  };
}

/**
 * What a request changes: fields that are present, and those that `update_mask` names to be cleared.
 *
 * @throws GatewayError `invalid_input` if the mask names an absent field that cannot be cleared
 */
export function toWebhookChange(request: UpdateWebhookRequest): {
  settings: Partial<WebhookSettings>;
  headers: Record<string, string> | undefined;
} {
  const named = namesOf(request.updateMask);
  const present = {
    webhooks: request.webhooks,
    status: request.status,
    incoming: request.incoming,
    schedule_activity: request.scheduleActivity,
    waiting_duration: request.waitingDuration,
    active_signature: request.activeSignature,
    outgoing: request.outgoing,
    transformer: request.transformer,
    max_in_flight: request.maxInFlight,
    paused: request.paused,
  };
  for (const [name, value] of Object.entries(present)) {
    if (value !== undefined || !named.has(name)) continue;
    throw new GatewayError(
      "invalid_input",
      `update_mask: names ${name}, which cannot be cleared: give its new value`,
      {
        field: "update_mask",
      },
    );
  }
  const list = request.eventTypes.length > 0 || named.has("event_types") ? request.eventTypes : undefined;
  const hasHeaders = Object.keys(request.headers).length > 0 || named.has("headers");
  const settings: { [K in keyof WebhookSettings]: WebhookSettings[K] | undefined } = {
    url: request.webhooks,
    isEnabled: request.status,
    isPaused: request.paused,
    incoming: request.incoming,
    outgoing: request.outgoing,
    scheduleActivity: request.scheduleActivity,
    waitingDurationSeconds: request.waitingDuration,
    isSigned: request.activeSignature,
    transformer: request.transformer,
    transformerOptions: request.transformerOptions ?? (named.has("transformer_options") ? null : undefined),
    eventTypes: list,
    clientRef: request.clientRef ?? (named.has("client_ref") ? null : undefined),
    maxInFlight: request.maxInFlight,
    description: request.description ?? (named.has("description") ? "" : undefined),
  };
  return { settings: withoutUndefined(settings), headers: hasHeaders ? { ...request.headers } : undefined };
}

/**
 * The fields that an `update_mask` names.
 *
 * @throws GatewayError `invalid_input` for a part of a field, which the rules let pass: it cannot be cleared alone
 */
export function namesOf(mask: FieldMask | undefined): ReadonlySet<string> {
  const part = mask?.paths.find((path) => path.includes("."));
  if (part === undefined) return new Set(mask?.paths);
  throw new GatewayError(
    "invalid_input",
    `update_mask: names ${part}, a part of a field: name the whole field`,
    {
      field: "update_mask",
    },
  );
}

/** Fits CreateWebhookResponse too, which has the same fields and one more. */
export function fromWebhook(webhook: Webhook, heldReason: string | null) {
  return {
    id: webhook.id,
    status: webhook.isEnabled,
    incoming: webhook.incoming,
    outgoing: webhook.outgoing,
    webhooks: webhook.url,
    createdAt: webhook.createdAt.getTime(),
    waitingDuration: webhook.waitingDurationSeconds,
    scheduleActivity: webhook.scheduleActivity,
    activeSignature: webhook.isSigned,
    transformer: webhook.transformer,
    eventTypes: webhook.eventTypes,
    clientRef: webhook.clientRef ?? undefined,
    transformerOptions: (webhook.transformerOptions ?? undefined) as JsonObject | undefined,
    maxInFlight: webhook.maxInFlight,
    paused: webhook.isPaused,
    description: webhook.description || undefined,
    disabledReason: webhook.disabledReason ?? undefined,
    disabledAt: webhook.disabledAt ? timestampFromDate(webhook.disabledAt) : undefined,
    updatedAt: timestampFromDate(webhook.updatedAt),
    heldReason: heldReason ?? undefined,
  } satisfies MessageInitShape<typeof WebhookSchema>;
}

export function toDeliveryFilter(request: ListDeliveriesRequest | WatchDeliveriesRequest): DeliveryFilter {
  return {
    webhookId: request.webhookId ?? null,
    states: request.states as DeliveryState[],
    eventType: request.eventType ?? null,
    since: toDate(request.since),
    until: toDate(request.until),
  };
}

export function fromDelivery(delivery: LoggedDelivery): MessageInitShape<typeof DeliverySchema> {
  return {
    id: delivery.id,
    webhookId: delivery.webhookId,
    eventId: delivery.eventId,
    eventType: delivery.eventType,
    state: delivery.state,
    reason: delivery.reason ?? undefined,
    reasonDetail: delivery.reasonDetail ?? undefined,
    attemptCount: delivery.attemptCount,
    createdAt: delivery.createdAt.getTime(),
    nextAttemptAt: delivery.dueAt ? timestampFromDate(delivery.dueAt) : undefined,
    finishedAt: delivery.finishedAt ? timestampFromDate(delivery.finishedAt) : undefined,
    transformer: delivery.transformer ?? undefined,
    transformerVersion: delivery.transformerVersion ?? undefined,
  };
}

export function fromAttempt(attempt: Attempt): MessageInitShape<typeof AttemptSchema> {
  return {
    number: attempt.number,
    startedAt: timestampFromDate(attempt.startedAt),
    durationMs: attempt.durationMs,
    outcome: attempt.outcome,
    errorKind: attempt.errorKind ?? undefined,
    errorMessage: attempt.errorMessage ?? undefined,
    responseStatus: attempt.response?.status,
    responseHeaders: attempt.response?.headers ?? {},
    responseBody: attempt.response ? textOf(attempt.response.body) : undefined,
    replyFault: attempt.replyFault ?? undefined,
  };
}

/** What is no UTF-8, a character that the cut halved included, shows as U+FFFD. */
function textOf(bytes: Uint8Array): string {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
}

/** Rounded up: deliveries are made at whole milliseconds, and one made before the instant stays before it. */
export function toDate(timestamp: Timestamp | undefined): Date | null {
  if (timestamp === undefined) return null;
  return new Date(Number(timestamp.seconds) * 1000 + Math.ceil(timestamp.nanos / 1_000_000));
}

function withoutUndefined<T extends object>(values: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}
