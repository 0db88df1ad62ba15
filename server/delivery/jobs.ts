/** Turns claimed deliveries into jobs for the threads: the webhook as it is now, the event as it was then. */

import type { ClaimedDelivery } from "../domain/delivery-claim.ts";
import { coversType } from "../domain/event.ts";
import type { WebhookTarget } from "../domain/webhook.ts";
import type { ConversationSnapshot, History, HistoryMessage, StoredEvent } from "../store/events.ts";
import type { TransformerFacts } from "../workers/catalog.ts";
import type { DeliveryJob, JobConversation, JobMessage, TransformTask } from "../workers/job.ts";

/** How many messages of history the payload is made of; 0 if it is made already or needs none. */
export function historyNeeded(
  claimed: ClaimedDelivery,
  event: StoredEvent | null,
  target: WebhookTarget,
  transformer: TransformerFacts,
): number {
  if (claimed.payload || !event?.conversation || !coversEvent(transformer, event)) return 0;
  return transformer.historyCount(target.transformerOptions ?? {});
}

export function coversEvent(transformer: TransformerFacts, event: StoredEvent): boolean {
  return transformer.handles.some((pattern) => coversType(pattern, event.type));
}

export interface JobLimits {
  /** Bound on connect, send and answer of one attempt. */
  requestTimeoutMs: number;
  /** How much of an answer's body is read. */
  responseBytesMax: number;
  /** For webhooks that schedule replies from the answer. */
  scheduleResponseBytesMax: number;
}

export function buildJob(
  claimed: ClaimedDelivery,
  event: StoredEvent | null,
  history: History | null,
  target: WebhookTarget,
  transformer: TransformerFacts,
  limits: JobLimits,
  now: Date,
): DeliveryJob {
  return {
    deliveryId: claimed.id,
    webhookId: claimed.webhookId,
    attemptNumber: claimed.attemptNumber,
    url: target.url,
    headers: target.headers,
    secrets: target.secrets
      .filter(({ expiresAt }) => expiresAt === null || expiresAt > now)
      .map(({ secret }) => secret),
    scheme: transformer.signature,
    payload: claimed.payload
      ? { kind: "made", ...claimed.payload }
      : { kind: "transform", task: buildTask(event!, history, target, transformer.readsConversation) },
    timeoutMs: limits.requestTimeoutMs,
    responseBytesMax: target.scheduleActivity ? limits.scheduleResponseBytesMax : limits.responseBytesMax,
    // A delivery that is sent once more had its answer; of events of other types the answer is left alone when it is
    // recorded.
    replyDelayMaxMs:
      target.scheduleActivity && !claimed.isResend ? target.waitingDurationSeconds * 1_000 : null,
  };
}

/**
 * What a transformer is given for an event of the webhook.
 *
 * @param readsConversation  false = leave the conversation out
 */
export function buildTask(
  event: StoredEvent,
  history: History | null,
  target: Pick<WebhookTarget, "transformer" | "transformerOptions">,
  readsConversation = true,
): TransformTask {
  return {
    transformer: target.transformer,
    options: target.transformerOptions ?? {},
    event: jobEvent(event),
    conversation:
      readsConversation && event.conversation ? jobConversation(event.conversation, history) : null,
    mediaUrl: event.conversation?.mediaUrl ?? null,
  };
}

function jobEvent(event: StoredEvent) {
  return {
    id: event.id,
    type: event.type,
    itemJson: event.itemJson,
    occurredAtMs: event.occurredAt?.getTime() ?? null,
    receivedAtMs: event.receivedAt.getTime(),
    phoneNumberId: event.phoneNumberId,
    businessPhone: event.businessPhone,
    wabaId: event.wabaId,
    clientRef: event.clientRef,
    user: event.user,
  };
}

function jobConversation(snapshot: ConversationSnapshot, history: History | null): JobConversation {
  return {
    userId: snapshot.userId,
    phone: snapshot.phone,
    bsuid: snapshot.bsuid,
    name: snapshot.name,
    note: snapshot.note,
    noteAutomation: snapshot.noteAutomation,
    labels: snapshot.labels,
    messages: history?.messages.map(jobMessage) ?? [],
    lastUserMessage: history?.lastUserMessage ? jobMessage(history.lastUserMessage) : null,
    lastBotMessage: history?.lastBotMessage ? jobMessage(history.lastBotMessage) : null,
  };
}

function jobMessage(message: HistoryMessage): JobMessage {
  return {
    sender: message.sender,
    content: message.content,
    contentType: message.contentType,
    sentAtMs: message.sentAt.getTime(),
  };
}
