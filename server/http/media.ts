/**
 * `GET` and `HEAD /media/{token}`: the file of a message, passed on from WhatsApp as it comes. Nothing of it is kept:
 * a reader that is slow holds back WhatsApp's host, and one that goes away ends the request there.
 */

import type { Logger } from "pino";
import type { Clock } from "../clock.ts";
import { digestOfToken } from "../domain/media-link.ts";
import { isDatabaseOutage } from "../store/faults.ts";
import type { LinkedMedia } from "../store/media-links.ts";
import type { MediaAsked, MediaFacts, MediaSource } from "../whatsapp/media.ts";
import { MediaFault } from "../whatsapp/media-fault.ts";
import { answerError } from "./answers.ts";
import { etagOf, judgeConditions, rangeOf } from "./media-conditions.ts";
import { contentTypeOf, dispositionOf } from "./media-file.ts";
import { breakOff, drained, release, SlowReader } from "./media-stream.ts";
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
  /** Links looked up in the database at once, those that nobody made included. */
  linksSoughtMax: number;
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
  /** Links being looked up: anybody may ask for any. */
  let soughtCount = 0;

  async function seek(tokenDigest: Uint8Array): Promise<LinkedMedia | null> {
    soughtCount += 1;
    try {
      return await parts.findLinkedMedia(tokenDigest);
    } finally {
      soughtCount -= 1;
    }
  }

  async function find(request: HttpRequest, response: HttpResponse): Promise<LinkedMedia | null> {
    const tokenDigest = digestOfToken(pathOf(request).slice(prefix.length));
    if (tokenDigest !== null && soughtCount >= settings.linksSoughtMax) {
      answerError(response, tooMany);
      return null;
    }
    const file = tokenDigest && (await seek(tokenDigest));
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

  async function answer(
    request: HttpRequest,
    response: HttpResponse,
    file: LinkedMedia,
    signal: AbortSignal,
  ): Promise<void> {
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
      answerError(response, tooMany);
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
    const verdict = judgeConditions(request.headers, etag);
    if (verdict === 412) {
      const message = "This file is another one than If-Match asks for.";
      answerError(response, { status: verdict, code: "failed_precondition", message });
      return;
    }
    if (verdict === 304) {
      response.writeHead(verdict, headers);
      response.end();
      return;
    }
    if (request.method === "HEAD") {
      response.writeHead(200, { ...headers, ...lengthOf(facts.byteCount) });
      response.end();
      return;
    }
    const opened = await parts.mediaSource.open(asked, rangeOf(request.headers, etag), signal);
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

  function fail(error: unknown, response: HttpResponse, file: LinkedMedia | null): void {
    const isOutage = isDatabaseOutage(error);
    const whose = { clientRef: file?.clientRef, phoneNumberId: file?.phoneNumberId };
    if (error instanceof MediaFault) {
      log.warn({ err: error, kind: error.kind, ...whose }, "a file could not be had from WhatsApp");
    } else if (!isOutage) log.error({ err: error, ...whose }, "a file could not be passed on");
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
    for (const [name, value] of Object.entries(safeHeaders)) response.setHeader(name, value);
    const signal = AbortSignal.any([gone.signal, AbortSignal.timeout(settings.streamTimeoutMs)]);
    let file: LinkedMedia | null = null;
    try {
      file = await find(request, response);
      if (file !== null && !signal.aborted) await answer(request, response, file, signal);
    } catch (error) {
      if (gone.signal.aborted) return;
      if (error instanceof SlowReader) breakOff(response);
      else fail(error, response, file);
    }
  };
}

/** Of every answer, errors too: whatever came of a link, nothing of it runs here. */
const safeHeaders = {
  "Content-Security-Policy": "sandbox; default-src 'none'",
  "X-Content-Type-Options": "nosniff",
  // The link is the key to the file.
  "Referrer-Policy": "no-referrer",
};

const tooMany = {
  status: 503,
  code: "unavailable",
  message: "Too many files are being read just now, try again in a few seconds.",
  retryAfterSeconds: 2,
};

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
    ...(etag !== null && { ETag: etag }),
  };
}

function lengthOf(byteCount: number | null): Record<string, string> {
  return byteCount === null ? {} : { "Content-Length": String(byteCount) };
}
