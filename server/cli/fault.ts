/** What a command that failed says, in one line, and the exit code that a script sees. */

import { Code, ConnectError } from "@connectrpc/connect";
import { GatewayError } from "../domain/errors.ts";

/** Documented in the README: scripts rely on them. */
export const exitCodes = {
  done: 0,
  failed: 1,
  usage: 2,
  notFound: 3,
  denied: 4,
  unavailable: 5,
  conflict: 6,
} as const;

/** A failure that the command found by itself. */
export class CommandFault extends Error {
  readonly exitCode: number;

  constructor(message: string, exitCode: number = exitCodes.usage) {
    super(message);
    this.name = "CommandFault";
    this.exitCode = exitCode;
  }
}

const exitCodeByCode: Partial<Record<Code, number>> = {
  [Code.InvalidArgument]: exitCodes.usage,
  [Code.NotFound]: exitCodes.notFound,
  [Code.Unauthenticated]: exitCodes.denied,
  [Code.PermissionDenied]: exitCodes.denied,
  [Code.Unavailable]: exitCodes.unavailable,
  // The connection broke.
  [Code.Aborted]: exitCodes.unavailable,
  [Code.DeadlineExceeded]: exitCodes.unavailable,
  [Code.ResourceExhausted]: exitCodes.unavailable,
  [Code.AlreadyExists]: exitCodes.conflict,
  [Code.FailedPrecondition]: exitCodes.conflict,
};

/** @param url  of the gateway that was called */
export function describeFault(error: unknown, url: string): { message: string; exitCode: number } {
  if (error instanceof CommandFault) return { message: error.message, exitCode: error.exitCode };
  if (error instanceof ConnectError) {
    return { message: describeCall(error, url), exitCode: exitCodeByCode[error.code] ?? exitCodes.failed };
  }
  if (error instanceof GatewayError && error.kind === "unavailable") {
    return { message: error.message, exitCode: exitCodes.unavailable };
  }
  const message = error instanceof Error ? error.message : String(error);
  return { message, exitCode: exitCodes.failed };
}

function describeCall(error: ConnectError, url: string): string {
  if (isNetworkFault(error.cause)) {
    return `no gateway answers at ${url}: start one with npm start, or set POSTHORN_URL (${error.rawMessage})`;
  }
  if (error.code === Code.Unauthenticated) return `${error.rawMessage}: set POSTHORN_KEY to a key of ${url}`;
  if (error.code === Code.Unimplemented) {
    return `${url} does not know this call: is it a Posthorn gateway, as new as this command? (${error.rawMessage})`;
  }
  return error.rawMessage;
}

function isNetworkFault(cause: unknown): boolean {
  const { code } = (cause ?? {}) as { code?: unknown };
  return typeof code === "string" && /^E[A-Z]/.test(code);
}
