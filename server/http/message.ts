/** Requests and answers as every handler of the one port sees them, whatever the HTTP version. */

import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";

export type HttpRequest = IncomingMessage | Http2ServerRequest;
/** The overloads of the two are alike but not equal, so the shapes in use are spelled out. */
export type HttpResponse = (ServerResponse | Http2ServerResponse) & {
  writeHead(status: number, headers?: OutgoingHttpHeaders): unknown;
  write(chunk: string | Uint8Array, callback?: (error: Error | null | undefined) => void): boolean;
  write(
    chunk: string | Uint8Array,
    encoding: BufferEncoding,
    callback?: (error: Error | null | undefined) => void,
  ): boolean;
};

/** Answers a request, now or later; it does not throw. */
export type HttpHandler = (request: HttpRequest, response: HttpResponse) => void;

/** The part of the URL before `?`. */
export function pathOf(request: HttpRequest): string {
  const url = request.url ?? "";
  const queryStart = url.indexOf("?");
  return queryStart === -1 ? url : url.slice(0, queryStart);
}

/** What follows `?`, parsed. */
export function queryOf(request: HttpRequest): URLSearchParams {
  const url = request.url ?? "";
  const queryStart = url.indexOf("?");
  return new URLSearchParams(queryStart === -1 ? "" : url.slice(queryStart + 1));
}
