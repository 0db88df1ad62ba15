/** One HTTP request made for a delivery, as the log keeps it. */

export const errorKinds = [
  "http_status",
  "timeout",
  "dns",
  "connect",
  "tls",
  "address_not_allowed",
  "broken_response",
] as const;

/**
 * Why an attempt failed: the endpoint answered with something other than 2xx, or no usable answer came.
 */
export type ErrorKind = (typeof errorKinds)[number];

/** What the log keeps of an endpoint's answer. */
export interface AttemptResponse {
  status: number;
  /** Names in lower case; a repeated header is joined by `, `. At most 16 KiB in all. */
  headers: Record<string, string>;
  /** The first 8 KiB of the body. */
  body: Uint8Array;
}

/** `lost`: the process or thread that made the attempt went away before it told how it ended. */
export type AttemptOutcome = "succeeded" | "failed" | "lost";

export interface Attempt {
  deliveryId: string;
  /** Counts from 1 over all rounds; lost attempts keep their number. */
  number: number;
  startedAt: Date;
  durationMs: number;
  outcome: AttemptOutcome;
  errorKind: ErrorKind | null;
  /** One sentence about a failure, without secrets; null when the attempt did not fail. */
  errorMessage: string | null;
  response: AttemptResponse | null;
  /** Which rule the answer broke that wanted to schedule replies, and at which path; null if it broke none. */
  replyFault: string | null;
}
