/**
 * What went wrong with a request, in the words of the attempt log. Messages are made here from fixed text and a code:
 * the libraries' own messages may hold addresses, URLs or bytes of the answer.
 */

import type { ErrorKind } from "../domain/attempt.ts";

export interface Failure {
  errorKind: ErrorKind;
  message: string;
}

/**
 * A connection that did not come about. An error of its own class and code, because undici acts on some codes
 * (a connector's UND_ERR_SOCKET makes it connect again for ever).
 */
export class ConnectFailure extends Error {
  readonly code = "ERR_POSTHORN_CONNECT";
  readonly failure: Failure;

  constructor(failure: Failure, options?: { cause: unknown }) {
    super(failure.message, options);
    this.failure = failure;
  }
}

/** Judges an error met while connecting; `isHandshake`: the TCP connection stood and TLS was being agreed on. */
export function describeConnectError(error: unknown, isHandshake: boolean): Failure {
  if (error instanceof ConnectFailure) return error.failure;
  const code = codeOf(error);
  if (isDnsCode(code)) {
    return { errorKind: "dns", message: `The host name could not be resolved${inBrackets(code)}.` };
  }
  if (code === "UND_ERR_CONNECT_TIMEOUT" || code === "ETIMEDOUT") {
    return { errorKind: "timeout", message: "The connection was not made in time." };
  }
  if (isHandshake || isTlsCode(code)) {
    return { errorKind: "tls", message: `TLS could not be agreed on${inBrackets(code)}.` };
  }
  return { errorKind: "connect", message: `The connection could not be made${inBrackets(code)}.` };
}

/** Judges an error met before the answer's headers were complete. */
export function describeRequestError(error: unknown, isConnected: boolean): Failure {
  if (!isConnected || error instanceof ConnectFailure) return describeConnectError(error, false);
  const code = codeOf(error);
  if (isClosedCode(code)) {
    return {
      errorKind: "broken_response",
      message: `The connection was closed before an answer${inBrackets(code)}.`,
    };
  }
  return { errorKind: "broken_response", message: `The answer is no valid HTTP${inBrackets(code)}.` };
}

/** True for errors that say the other side closed or reset the connection. */
export function isClosedError(error: unknown): boolean {
  return isClosedCode(codeOf(error));
}

function isClosedCode(code: string): boolean {
  return code === "ECONNRESET" || code === "EPIPE" || code === "UND_ERR_SOCKET";
}

function isDnsCode(code: string): boolean {
  return code.startsWith("EAI_") || code === "ENOTFOUND" || code === "ENODATA" || code === "ESERVFAIL";
}

function isTlsCode(code: string): boolean {
  return code === "EPROTO" || /^ERR_(TLS|SSL)|CERT|SELF_SIGNED|VERIFY|ISSUER|CRL/.test(code);
}

/** Empty when the error has no code of the usual form. */
function codeOf(error: unknown): string {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  return typeof code === "string" && /^[A-Z][A-Z0-9_]{0,63}$/.test(code) ? code : "";
}

function inBrackets(code: string): string {
  return code === "" ? "" : ` (${code})`;
}
