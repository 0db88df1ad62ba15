/**
 * What crosses the border between the main thread and the threads that transform, sign and send.
 * Strings, numbers and bytes only: a job holds all that its thread will know. Reports come back as
 * `domain/attempt-report.ts` says.
 */

import type { AttemptReport } from "../domain/attempt-report.ts";
import type { ContentType, WhatsAppUser } from "../domain/event.ts";
import type { SignatureScheme } from "../domain/webhook.ts";

export interface JobMessage {
  sender: "user" | "bot";
  content: string;
  contentType: ContentType;
  /** Unix milliseconds. */
  sentAtMs: number;
}

export interface JobConversation {
  userId: string;
  phone: string | null;
  bsuid: string | null;
  name: string;
  note: string;
  noteAutomation: string;
  labels: string[];
  /** Newest first, this event's message first. */
  messages: JobMessage[];
  lastUserMessage: JobMessage | null;
  lastBotMessage: JobMessage | null;
}

/** The event as a transformer sees it; instants are Unix milliseconds. */
export interface JobEvent {
  id: string;
  type: string;
  itemJson: string;
  occurredAtMs: number | null;
  receivedAtMs: number;
  phoneNumberId: string | null;
  businessPhone: string | null;
  wabaId: string | null;
  clientRef: string | null;
  user: WhatsAppUser | null;
}

export interface TransformTask {
  transformer: string;
  options: Record<string, unknown>;
  event: JobEvent;
  conversation: JobConversation | null;
  mediaUrl: string | null;
}

export interface DeliveryJob {
  deliveryId: string;
  webhookId: number;
  attemptNumber: number;
  url: string;
  /** Extra request headers of the webhook, values in clear. Never logged. */
  headers: Record<string, string>;
  /** Live secrets, oldest first; empty = unsigned. Never logged. */
  secrets: string[];
  /** Header beside `webhook-signature`; null = none. */
  scheme: SignatureScheme | null;
  /** Either the bytes that were made before, or what to make them of. */
  payload:
    | { kind: "made"; body: Uint8Array; contentType: string; headers: Record<string, string> }
    | { kind: "transform"; task: TransformTask };
  /** Bound on connect, send and answer together, in milliseconds. */
  timeoutMs: number;
  /** How much of the answer's body is read before the rest is dropped. */
  responseBytesMax: number;
  /** Longest delay of a reply that the answer may schedule, in milliseconds; null = it schedules none. */
  replyDelayMaxMs: number | null;
}

/** What a thread is given at once: its jobs, which the main thread knows by the numbers from `firstNumber` on. */
export interface JobRun {
  firstNumber: number;
  jobs: DeliveryJob[];
}

/** Message of a thread to the main thread. */
export type ThreadMessage =
  /** `numbers`: of their jobs, in the same order. */
  | { kind: "reports"; numbers: number[]; reports: AttemptReport[] }
  /** Sent once a second while the thread's event loop turns. */
  | { kind: "alive"; threadId: number };
