export type GatewayErrorKind =
  | "invalid_input"
  | "not_found"
  | "already_exists"
  | "wrong_state"
  | "unauthenticated"
  | "forbidden"
  | "over_limit"
  | "unavailable"
  | "unclear";

/** Which message a failed send is about. */
export interface SendFailure {
  /** Our id of it; null if none was stored. */
  messageId: string | null;
  /** One word, such as `outside_window`. */
  reason: string;
  /** Error code of WhatsApp's Graph API; null if it gave none. */
  code: number | null;
}

interface GatewayErrorOptions {
  cause?: unknown;
  field?: string;
  retryAfterSeconds?: number;
  send?: SendFailure;
  resumeToken?: string;
}

/**
 * A caller's mistake, a missing thing or an outage that the caller may wait out.
 * `message` is safe to show to the caller; `cause` and everything in it is for the log alone.
 */
export class GatewayError extends Error {
  readonly kind: GatewayErrorKind;
  /** Name of the request field at fault, as the caller spells it (`waiting_duration`), where one is. */
  readonly field: string | undefined;
  /** After which time the same call may succeed, where that is known. */
  readonly retryAfterSeconds: number | undefined;
  /** Set for a message that was not sent, or of which nobody knows. */
  readonly send: SendFailure | undefined;
  /** Where a stream that ended can be taken up again. */
  readonly resumeToken: string | undefined;

  constructor(kind: GatewayErrorKind, message: string, options: GatewayErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "GatewayError";
    this.kind = kind;
    this.field = options.field;
    this.retryAfterSeconds = options.retryAfterSeconds;
    this.send = options.send;
    this.resumeToken = options.resumeToken;
  }
}
