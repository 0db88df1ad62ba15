/** The logger, and what it hides: JSON lines on standard output. */

import pino, { type DestinationStream, type Logger } from "pino";

/** Keys whose values never reach a log line, at whatever depth, in any spelling (`app_secret`, `appSecret`). */
const hiddenKeys = new Set([
  "authorization",
  "cookie",
  "setcookie",
  "xhubsignature256",
  "xintellisignature",
  "xwebhooksignature",
  "webhooksignature",
  "signature",
  "secret",
  "secrets",
  "signaturesecret",
  "appsecret",
  "appsecrets",
  "token",
  "verifytoken",
  "accesstoken",
  "password",
  "apikey",
  "operatorkey",
  "operatorkeys",
  "masterkey",
  "masterkeys",
  "keys",
  "databaseurl",
  "egressproxy",
  "body",
  "rawbody",
  "payload",
  "item",
  "headers",
]);
const hidden = "[hidden]";
const depthMax = 6;
const causeCountMax = 5;

/**
 * @param destination  where the lines go; default standard output, written at once, so that none is lost at an exit
 */
export function createLogger(level: string, destination?: DestinationStream): Logger {
  const options: pino.LoggerOptions = {
    level,
    base: undefined,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: {
      level: (label) => ({ level: label }),
      log: (line) => hide(line, 0) as Record<string, unknown>,
    },
    serializers: { err: (error: unknown) => describeError(error, 0) },
  };
  const log = destination === undefined ? pino(options) : pino(options, destination);
  // pino passes the bindings of children through no formatter. Children inherit this method.
  const makeChild = log.child;
  log.child = function hidingChild(this: Logger, bindings: pino.Bindings, childOptions?: object) {
    return makeChild.call(this, hide(bindings, 0) as pino.Bindings, childOptions);
  } as Logger["child"];
  return log;
}

function hide(value: unknown, depth: number): unknown {
  if (typeof value !== "object" || value === null || value instanceof Date) return value;
  // The serializer of `err` expects the error itself; elsewhere it would be written as `{}`.
  if (value instanceof Error) return depth === 1 ? value : describeError(value, 0);
  if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`;
  if (depth >= depthMax) return "[deeper]";
  if (Array.isArray(value)) return value.map((element) => hide(element, depth + 1));
  return Object.fromEntries(
    Object.entries(value).map(([key, part]) => [
      key,
      hiddenKeys.has(key.toLowerCase().replace(/[-_]/g, "")) ? hidden : hide(part, depth + 1),
    ]),
  );
}

/** Message, code and stack only: drivers put queries and rows into further properties of their errors. */
function describeError(error: unknown, depth: number): unknown {
  if (!(error instanceof Error)) return hide(error, 2);
  const { code, cause } = error as { code?: unknown; cause?: unknown };
  return {
    type: error.name,
    message: error.message,
    ...(typeof code === "string" || typeof code === "number" ? { code } : {}),
    stack: error.stack,
    ...(cause === undefined || depth >= causeCountMax ? {} : { cause: describeError(cause, depth + 1) }),
  };
}
