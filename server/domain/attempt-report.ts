/** How one attempt went, as the thread that made it tells the rest of the gateway. Plain data: it crosses threads. */

import type { AttemptResponse, ErrorKind } from "./attempt.ts";

/** The bytes that a transformer made for one delivery; once committed they never change. */
export interface MadePayload {
  body: Uint8Array;
  contentType: string;
  /** Headers that the transformer asked for, beside those of the webhook. */
  headers: Record<string, string>;
  transformerVersion: string;
}

/** A text to send to the contact so long after the end of the answer that asks for it. */
export interface ScheduledText {
  /** 1 to 4,096 characters. */
  text: string;
  delayMs: number;
}

/** What the answer of an endpoint schedules. */
export type Replies =
  | { kind: "parsed"; texts: ScheduledText[] /** Unix milliseconds. */; answeredAtMs: number }
  /** It broke a rule: which one, and at which path. */
  | { kind: "broken"; fault: string };

interface Reported {
  deliveryId: string;
  webhookId: number;
  attemptNumber: number;
  /** Unix milliseconds. */
  startedAtMs: number;
  durationMs: number;
}

interface Sent extends Reported {
  /** Set when this attempt made the payload; null when it was made before. */
  payload: MadePayload | null;
}

export type AttemptReport =
  /** `replies` is left out if the answer schedules none, or the webhook lets it schedule none. */
  | (Sent & { kind: "succeeded"; response: AttemptResponse; replies?: Replies })
  | (Sent & { kind: "failed"; errorKind: ErrorKind; errorMessage: string; response: AttemptResponse | null })
  /** The transformer had nothing to send: no request was made. */
  | (Reported & { kind: "skipped" })
  /** The transformer threw or broke a rule: no request was made. */
  | (Reported & { kind: "transformer_error"; message: string });
