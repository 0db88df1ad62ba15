export type GatewayErrorKind =
  | "invalid_input"
  | "not_found"
  | "already_exists"
  | "wrong_state"
  | "unauthenticated"
  | "forbidden"
  | "over_limit"
  | "unavailable";

/**
 * A caller's mistake, a missing thing or an outage that the caller may wait out.
 * `message` is safe to show to the caller; `cause` and everything in it is for the log alone.
 */
export class GatewayError extends Error {
  readonly kind: GatewayErrorKind;
  /** Name of the request field at fault, as the caller spells it (`waiting_duration`), where one is. */
  readonly field: string | undefined;

  constructor(kind: GatewayErrorKind, message: string, options: { cause?: unknown; field?: string } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "GatewayError";
    this.kind = kind;
    this.field = options.field;
  }
}
