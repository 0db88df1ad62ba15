/** One line for each request once it is answered: what was asked, what came of it, how long it took. */

import type { Logger } from "pino";
import type { HttpRequest, HttpResponse } from "./message.ts";

export type RequestLog = (request: HttpRequest, response: HttpResponse, path: string) => void;

const pathCharactersMax = 200;

/**
 * Answers of 400 and more are logged at `info`, others at `debug`. Never a query string, a header or a body: they
 * hold tokens, signatures and people's messages.
 */
export function createRequestLog(log: Logger): RequestLog {
  return (request, response, path) => {
    const isDebug = log.isLevelEnabled("debug");
    if (!isDebug && !log.isLevelEnabled("info")) return;
    const startedAtMs = performance.now();
    response.once("close", () => {
      const status = response.statusCode;
      if (status < 400 && !isDebug) return;
      const line = {
        method: request.method,
        path: path.slice(0, pathCharactersMax),
        status,
        isAnswered: response.writableFinished,
        durationMs: Math.round((performance.now() - startedAtMs) * 1_000) / 1_000,
        http: request.httpVersion,
        remoteAddress: request.socket?.remoteAddress,
      };
      if (status < 400) log.debug(line, "request");
      else log.info(line, "request");
    });
  };
}
