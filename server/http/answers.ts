/** Answers of the plain routes. Errors are `{"code","message"}` with the code words of Connect. */

import { constants } from "node:http2";
import type { HttpRequest, HttpResponse } from "./message.ts";

export interface PlainError {
  status: number;
  /** Code word of Connect, such as `unauthenticated`. */
  code: string;
  /** Safe to show to anybody. */
  message: string;
  /** `Retry-After`, in seconds. */
  retryAfterSeconds?: number;
  /** Value of `Allow`. */
  allow?: string;
}

/** How long a refused body is still read, and thrown away, so that its sender gets to see the answer. */
const lingerMs = 1_000;

const emptyOk = { "Content-Length": "0", "X-Content-Type-Options": "nosniff" };

/** 200 without a body. */
export function answerOk(response: HttpResponse): void {
  response.writeHead(200, emptyOk);
  response.end();
}

export function answerText(response: HttpResponse, status: number, text: string): void {
  answer(response, status, "text/plain; charset=utf-8", text);
}

export function answerJson(response: HttpResponse, status: number, value: unknown): void {
  answer(response, status, "application/json", JSON.stringify(value));
}

/** Says what is wrong; the request's body was read to its end, or has none. */
export function answerError(response: HttpResponse, error: PlainError): void {
  setErrorHeaders(response, error);
  answerJson(response, error.status, { code: error.code, message: error.message });
}

/**
 * Says what is wrong with a request whose body was not read to its end, and ends the connection (HTTP/2: the stream).
 * Closing while bytes still come in makes TCP reset the connection, which can throw away the answer before the sender
 * has read it; so the rest of the body is dropped for up to a second first.
 */
export function refuseBody(request: HttpRequest, response: HttpResponse, error: PlainError): void {
  const text = JSON.stringify({ code: error.code, message: error.message });
  setErrorHeaders(response, error);
  if (request.httpVersionMajor < 2) response.setHeader("Connection", "close");
  response.writeHead(error.status, head("application/json", text));
  response.write(text);
  const timer = setTimeout(end, request.readableEnded || request.destroyed ? 0 : lingerMs);
  request.once("end", end);
  request.once("close", end);
  request.on("error", ignore);
  request.resume();

  function end(): void {
    clearTimeout(timer);
    request.off("end", end);
    request.off("close", end);
    response.end();
    if ("stream" in response && !request.readableEnded) response.stream?.close(constants.NGHTTP2_NO_ERROR);
  }
}

function answer(response: HttpResponse, status: number, contentType: string, text: string): void {
  response.writeHead(status, head(contentType, text));
  response.end(text);
}

function head(contentType: string, text: string): Record<string, string> {
  return {
    "Content-Type": contentType,
    "Content-Length": String(Buffer.byteLength(text)),
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
  };
}

function setErrorHeaders(response: HttpResponse, error: PlainError): void {
  if (error.retryAfterSeconds !== undefined) {
    response.setHeader("Retry-After", String(error.retryAfterSeconds));
  }
  if (error.allow !== undefined) response.setHeader("Allow", error.allow);
}

function ignore(): void {}
