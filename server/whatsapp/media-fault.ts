/** Why a file of a message cannot be had, in words that may be shown to anybody. */

export type MediaFaultKind =
  | "token_refused"
  | "missing"
  | "too_large"
  | "unavailable"
  | "untrusted"
  /** The bytes that came are not those that Graph promised. */
  | "altered";

/** The message may be shown to anybody; `cause` is for the log. */
export class MediaFault extends Error {
  readonly kind: MediaFaultKind;

  constructor(kind: MediaFaultKind, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "MediaFault";
    this.kind = kind;
  }
}

export function refuseToken(cause: string): MediaFault {
  return new MediaFault(
    "token_refused",
    "WhatsApp refuses the access token of the business that this file belongs to. The operator of this gateway can set " +
      "a new one: ClientService/UpdateClient with access_token.",
    cause,
  );
}

export function refuseMissing(cause: string): MediaFault {
  return new MediaFault(
    "missing",
    "WhatsApp has this file no more, or does not show it to the business that it belongs to.",
    cause,
  );
}

export function refuseSize(fileBytesMax: number): MediaFault {
  return new MediaFault(
    "too_large",
    `This file has more than ${fileBytesMax} bytes, which are not passed on.`,
  );
}

export function refusePlace(host: string): MediaFault {
  return new MediaFault("untrusted", "WhatsApp keeps this file where it is not fetched from.", host);
}

export function refuseBytes(cause: string): MediaFault {
  return new MediaFault("altered", "WhatsApp's bytes of this file are not those that it promised.", cause);
}

export function refuseForNow(cause: unknown): MediaFault {
  return new MediaFault("unavailable", "WhatsApp does not give this file now, try again later.", cause);
}
