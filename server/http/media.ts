/**
 * `GET` and `HEAD /media/{token}`: the file of a message, passed on from WhatsApp as it comes. Nothing of it is kept:
 * a reader that is slow holds back WhatsApp's host, and one that goes away ends the request there.
 */

import { constants } from "node:http2";
import type { Logger } from "pino";
import type { Clock } from "../clock.ts";
import { digestOfToken } from "../domain/media-link.ts";
import { isDatabaseOutage } from "../store/faults.ts";
import type { LinkedMedia } from "../store/media-links.ts";
import { type MediaAsked, type MediaFacts, MediaFault, type MediaSource } from "../whatsapp/media.ts";
import { answerError } from "./answers.ts";
import { contentTypeOf, dispositionOf } from "./media-file.ts";
import { type HttpRequest, type HttpResponse, pathOf } from "./message.ts";

export interface MediaParts {
  /** Null if there is no such link any more. */
  findLinkedMedia(tokenDigest: Uint8Array): Promise<LinkedMedia | null>;
  mediaSource: Pick<MediaSource, "look" | "open">;
  clock: Clock;
  log: Logger;
}

export interface MediaRouteSettings {
  /** Silence of the reader that ends a stream. */
  idleTimeoutMs: number;
  streamTimeoutMs: number;
  streamsMax: number;
  streamsPerClientMax: number;
}

const prefix = "/media/";

export function isMediaPath(path: string): boolean {
  return path.startsWith(prefix);
}

/** Never rejects. */
export function createMediaRoute(
  parts: MediaParts,
  settings: MediaRouteSettings,
): (request: HttpRequest, response: HttpResponse) => Promise<void> {
  const { clock, log } = parts;
  /** Streams under way, by client. */
  const streams = new Map<number, number>();
  let streamCount = 0;

  async function find(request: HttpRequest, response: HttpResponse): Promise<LinkedMedia | null> {
    const tokenDigest = digestOfToken(pathOf(request).slice(prefix.length));
    const file = tokenDigest && (await parts.findLinkedMedia(tokenDigest));
    if (file === null) {
      answerError(response, { status: 404, code: "not_found", message: "There is no such media link." });
      return null;
    }
    if (file.expiresAt <= clock.now()) {
      const message = `This media link ran out at ${file.expiresAt.toISOString()}: links are good for 7 days.`;
      answerError(response, { status: 410, code: "not_found", message });
      return null;
    }
    return file;
  }

  async function answer(request: HttpRequest, response: HttpResponse, signal: AbortSignal): Promise<void> {
    const file = await find(request, response);
    if (file === null || signal.aborted) return;
    if (file.accessToken === null) {
      log.warn(
        { clientRef: file.clientRef },
        "a media link was asked for, but its client has no access token",
      );
      answerError(response, { status: 502, code: "unavailable", message: noAccessToken });
      return;
    }
    const clientCount = streams.get(file.clientId) ?? 0;
    if (streamCount >= settings.streamsMax || clientCount >= settings.streamsPerClientMax) {
      const message = "Too many files are being read just now, try again in a few seconds.";
      answerError(response, { status: 503, code: "unavailable", message, retryAfterSeconds: 2 });
      return;
    }
    streamCount += 1;
    streams.set(file.clientId, clientCount + 1);
    try {
      await passOn(request, response, file, { ...file, accessToken: file.accessToken }, signal);
    } finally {
      streamCount -= 1;
      const left = streams.get(file.clientId)! - 1;
      if (left > 0) streams.set(file.clientId, left);
      else streams.delete(file.clientId);
    }
  }

  async function passOn(
    request: HttpRequest,
    response: HttpResponse,
    file: LinkedMedia,
    asked: MediaAsked,
    signal: AbortSignal,
  ): Promise<void> {
    const facts = await parts.mediaSource.look(asked);
    const etag = etagOf(facts.sha256);
    const headers = headersOf(facts, file.fileName, etag);
    if (etag !== null && request.headers["if-none-match"] === etag) {
      response.writeHead(304, headers);
      response.end();
      return;
    }
    if (request.method === "HEAD") {
      response.writeHead(200, { ...headers, ...lengthOf(facts.byteCount) });
      response.end();
      return;
    }
    const opened = await parts.mediaSource.open(asked, rangeOf(request, etag), signal);
    const range = opened.contentRange === null ? {} : { "Content-Range": opened.contentRange };
    if (opened.status === 416) {
      for (const [name, value] of Object.entries(range)) response.setHeader(name, value);
      answerError(response, { status: 416, code: "out_of_range", message: "The file is shorter than that." });
      return;
    }
    response.writeHead(opened.status, { ...headers, ...range, ...lengthOf(opened.byteCount) });
    for await (const chunk of opened.body) {
      if (!response.write(chunk, () => release(chunk)))
        await drained(response, signal, settings.idleTimeoutMs);
    }
    response.end();
  }

  function fail(error: unknown, response: HttpResponse): void {
    const isOutage = isDatabaseOutage(error);
    if (error instanceof MediaFault) log.warn({ err: error }, "a file could not be had from WhatsApp");
    else if (!isOutage) log.error({ err: error }, "a file could not be passed on");
    if (response.headersSent) breakOff(response);
    else if (error instanceof MediaFault) {
      answerError(response, { status: 502, code: "unavailable", message: error.message });
    } else if (isOutage) {
      const message = "The database is not available, try again.";
      answerError(response, { status: 503, code: "unavailable", message });
    } else answerError(response, { status: 500, code: "internal", message: "Something went wrong here." });
  }

  return async (request, response) => {
    const gone = new AbortController();
    response.once("close", () => gone.abort());
    const signal = AbortSignal.any([gone.signal, AbortSignal.timeout(settings.streamTimeoutMs)]);
    try {
      await answer(request, response, signal);
    } catch (error) {
      if (gone.signal.aborted) return;
      if (error instanceof SlowReader) breakOff(response);
      else fail(error, response);
    }
  };
}

const noAccessToken =
  "The business that this file belongs to has no WhatsApp access token here, so the file cannot be fetched. The operator " +
  "of this gateway can set one: ClientService/UpdateClient with access_token, or `npx posthorn clients update` with " +
  "--access-token-file.";

function headersOf(facts: MediaFacts, fileName: string | null, etag: string | null): Record<string, string> {
  const contentType = contentTypeOf(facts.mimeType);
  return {
    "Content-Type": contentType,
    "Content-Disposition": dispositionOf(contentType, fileName),
    "Accept-Ranges": "bytes",
    "Cache-Control": "private",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "X-Content-Type-Options": "nosniff",
    // The link is the key to the file.
    "Referrer-Policy": "no-referrer",
    ...(etag !== null && { ETag: etag }),
  };
}

function lengthOf(byteCount: number | null): Record<string, string> {
  return byteCount === null ? {} : { "Content-Length": String(byteCount) };
}

/** The hash of the file names its content for good. */
function etagOf(sha256: string | null): string | null {
  return sha256 !== null && /^[A-Za-z0-9+/=_-]{16,100}$/.test(sha256) ? `"${sha256}"` : null;
}

/** One range is passed on; several, and one of another version of the file, are answered with all of it (RFC 9110). */
function rangeOf(request: HttpRequest, etag: string | null): string | null {
  const { range } = request.headers;
  const condition = request.headers["if-range"];
  if (typeof range !== "string" || !/^bytes=(?:\d{1,15}-\d{0,15}|-\d{1,15})$/.test(range)) return null;
  return condition === undefined || condition === etag ? range : null;
}

/**
 * Gives back the memory of bytes that are on their way, now instead of at the next garbage collection, which for so few
 * objects comes late: a file would cost its whole length. Only memory that holds nothing else is given back; of a chunk
 * that has its buffer to itself nobody else has a view once it is written.
 */
function release({ buffer, byteLength }: Uint8Array): void {
  if (buffer instanceof ArrayBuffer && byteLength === buffer.byteLength) buffer.transfer(0);
}

class SlowReader extends Error {}

/** Settles when the reader has taken what was written. */
function drained(response: HttpResponse, signal: AbortSignal, idleTimeoutMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (error: Error | null) => {
      clearTimeout(timer);
      response.off("drain", drain);
      signal.removeEventListener("abort", abort);
      if (error === null) resolve();
      else reject(error);
    };
    const drain = () => settle(null);
    const abort = () => settle(new SlowReader("the stream was ended"));
    const timer = setTimeout(() => settle(new SlowReader("the reader takes nothing")), idleTimeoutMs);
    response.on("drain", drain);
    signal.addEventListener("abort", abort);
    if (signal.aborted) abort();
  });
}

/** Ends an answer so that nobody takes what came of it for the whole. */
function breakOff(response: HttpResponse): void {
  if ("stream" in response) response.stream?.close(constants.NGHTTP2_INTERNAL_ERROR);
  else response.destroy();
}
