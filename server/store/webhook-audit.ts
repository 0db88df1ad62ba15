/** What the audit tells of a webhook: its settings by the names that callers know them by. Never a secret or a header. */

import { isDeepStrictEqual } from "node:util";
import type { Webhook } from "../domain/webhook.ts";

export function auditSettings(webhook: Webhook): Record<string, unknown> {
  return {
    webhooks: webhook.url,
    status: webhook.isEnabled,
    incoming: webhook.incoming,
    outgoing: webhook.outgoing,
    schedule_activity: webhook.scheduleActivity,
    waiting_duration: webhook.waitingDurationSeconds,
    active_signature: webhook.isSigned,
    transformer: webhook.transformer,
    transformer_options: webhook.transformerOptions,
    event_types: webhook.eventTypes,
    client_ref: webhook.clientRef,
    max_in_flight: webhook.maxInFlight,
    paused: webhook.isPaused,
    description: webhook.description,
  };
}

/** New values of the settings that differ; `{}` if none do. */
export function auditChanges(before: Webhook, after: Webhook): Record<string, unknown> {
  const former = auditSettings(before);
  return Object.fromEntries(
    Object.entries(auditSettings(after)).filter(([name, value]) => !isDeepStrictEqual(value, former[name])),
  );
}
