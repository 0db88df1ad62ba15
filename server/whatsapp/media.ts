/**
 * The files of messages, as WhatsApp keeps them: one call to Graph tells where a file lies, for five minutes, and a
 * second one, with the same access token, gets its bytes. They are passed on as they come and never kept.
 *
 * The token goes to Graph's own host and to Meta's media hosts over https, and to no other: a redirect is not followed,
 * and where Graph says that a file lies elsewhere, nobody is asked.
 */

import { type Dispatcher, request } from "undici";
import type { Clock } from "../clock.ts";
import {
  askGraph,
  codeOf,
  createGraphDispatcher,
  describeAnswer,
  type GraphSettings,
  refusesToken,
  withoutToken,
} from "./graph.ts";
import { recordOf, textOf } from "./json.ts";

export interface MediaSettings {
  /** Largest file that is passed on. */
  fileBytesMax: number;
  /** How long where a file lies is remembered. */
  locationKeptMs: number;
  /** Silence of the media host that ends a stream. */
  idleTimeoutMs: number;
}

export interface MediaAsked {
  mediaId: string;
  /** The number that got or sent the message. */
  phoneNumberId: string;
  /** Whose access token it is: what one client was told is no other's. */
  clientId: number;
  accessToken: string;
}

/** What Graph tells of a file; null for what it does not tell. */
export interface MediaFacts {
  mimeType: string | null;
  byteCount: number | null;
  /** As Graph writes it: hexadecimal or base64. */
  sha256: string | null;
}

export type MediaAnswer =
  | {
      status: 200 | 206;
      /** Of this answer's bytes; null if the host did not say. */
      byteCount: number | null;
      /** As the host wrote it, checked for its form; null for a whole file. */
      contentRange: string | null;
      /** Reading it may fail with a MediaFault. To be read to its end, or ended by the signal. */
      body: AsyncIterable<Uint8Array>;
    }
  | { status: 416; contentRange: string | null };

export type MediaFaultKind = "token_refused" | "missing" | "too_large" | "unavailable" | "untrusted";

/** Why a file cannot be had. The message may be shown to anybody; `cause` is for the log. */
export class MediaFault extends Error {
  readonly kind: MediaFaultKind;

  constructor(kind: MediaFaultKind, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "MediaFault";
    this.kind = kind;
  }
}

export interface MediaSource {
  /**
   * What Graph tells of a file; asked once for all who want to know it within `locationKeptMs`.
   *
   * @throws MediaFault
   */
  look(asked: MediaAsked): Promise<MediaFacts>;
  /**
   * Begins to read a file.
   *
   * @param range   value of a `Range` header with one range; null = the whole file
   * @param signal  ends the reading, whenever it aborts
   * @throws MediaFault
   */
  open(asked: MediaAsked, range: string | null, signal: AbortSignal): Promise<MediaAnswer>;
  /** Drops every connection; streams under way fail. */
  close(): Promise<void>;
}

interface Location extends MediaFacts {
  url: URL;
}

const locationsMax = 2_000;
const metaHosts = /^(lookaside\.fbsbx\.com|([a-z0-9-]+\.)+(fbcdn|whatsapp)\.net)$/;

export function createMediaSource(graph: GraphSettings, settings: MediaSettings, clock: Clock): MediaSource {
  const dispatcher = createGraphDispatcher(graph);
  const graphOrigin = new URL(graph.url).origin;
  /** In the order in which they were asked for. */
  const locations = new Map<string, { location: Promise<Location>; askedAtMs: number }>();

  function locate(asked: MediaAsked): Promise<Location> {
    const key = keyOf(asked);
    const nowMs = clock.now().getTime();
    const known = locations.get(key);
    if (known && nowMs < known.askedAtMs + settings.locationKeptMs) return known.location;
    const location = askLocation(asked);
    const entry = { location, askedAtMs: nowMs };
    locations.delete(key);
    locations.set(key, entry);
    for (const oldest of locations.keys()) {
      if (locations.size <= locationsMax) break;
      locations.delete(oldest);
    }
    location.catch(() => {
      if (locations.get(key) === entry) locations.delete(key);
    });
    return location;
  }

  async function askLocation({ mediaId, phoneNumberId, accessToken }: MediaAsked): Promise<Location> {
    if (!/^[A-Za-z0-9_-]{1,128}$/.test(mediaId)) throw refuseMissing("its id has the wrong form");
    const path = `${mediaId}?phone_number_id=${encodeURIComponent(phoneNumberId)}`;
    const { status, body } = await askGraph(graph, dispatcher, path, accessToken).catch((error: Error) => {
      throw refuseForNow(error.cause ?? error);
    });
    const code = codeOf(body);
    const answered = describeAnswer(status, code);
    if (refusesToken(status, code)) throw refuseToken(answered);
    // 100 is Graph's word for an id that it does not know, or does not show to this token.
    if (status === 404 || (status === 400 && code === "100")) throw refuseMissing(answered);
    const record = status >= 200 && status < 300 ? recordOf(body) : null;
    const url = URL.parse(textOf(record?.url) ?? "");
    if (record === null || url === null) throw refuseForNow(answered);
    if (!isTrusted(url, graphOrigin)) {
      throw new MediaFault("untrusted", "WhatsApp keeps this file where it is not fetched from.", url.host);
    }
    const byteCount = numberOf(record.file_size);
    if ((byteCount ?? 0) > settings.fileBytesMax) throw refuseSize(settings);
    return { url, mimeType: textOf(record.mime_type), byteCount, sha256: textOf(record.sha256) };
  }

  /** One request for the bytes. */
  async function get(asked: MediaAsked, range: string | null, signal: AbortSignal) {
    const { url } = await locate(asked);
    signal.throwIfAborted();
    try {
      const response = await request(url, {
        dispatcher,
        signal,
        headers: {
          Authorization: `Bearer ${asked.accessToken}`,
          "Accept-Encoding": "identity",
          "User-Agent": "Posthorn",
          ...(range !== null && { Range: range }),
        },
        headersTimeout: graph.timeoutMs,
        bodyTimeout: settings.idleTimeoutMs,
      });
      // An aborted body that nobody reads would else end the process with its error.
      response.body.on("error", ignore);
      return response;
    } catch (error) {
      throw refuseForNow(withoutToken(error, asked.accessToken));
    }
  }

  return {
    look: locate,
    async open(asked, range, signal) {
      let response = await get(asked, range, signal);
      if (expiredStatuses.has(response.statusCode)) {
        // What was true at the first look may have run out since.
        await drop(response);
        locations.delete(keyOf(asked));
        response = await get(asked, range, signal);
      }
      return await readAnswer(response, range, settings, asked.accessToken);
    },
    close: () => dispatcher.destroy(),
  };
}

/** What a location that ran out is answered with, by one media host or another. */
const expiredStatuses = new Set([401, 403, 404, 410]);

async function readAnswer(
  response: Dispatcher.ResponseData,
  range: string | null,
  settings: MediaSettings,
  accessToken: string,
): Promise<MediaAnswer> {
  const { statusCode: status, headers, body } = response;
  const contentRange = singleOf(headers["content-range"]);
  if (status === 416 && range !== null) {
    await drop(response);
    return { status, contentRange: /^bytes \*\/\d{1,15}$/.test(contentRange) ? contentRange : null };
  }
  const fault = findFault(status, headers, range !== null, settings);
  if (fault !== null) {
    await drop(response);
    throw fault;
  }
  const byteCount = numberOf(singleOf(headers["content-length"]));
  return {
    status: status as 200 | 206,
    byteCount,
    contentRange: status === 206 ? contentRange : null,
    body: readBytes(body, byteCount, settings, accessToken),
  };
}

function findFault(
  status: number,
  headers: Dispatcher.ResponseData["headers"],
  isRanged: boolean,
  settings: MediaSettings,
): MediaFault | null {
  const answered = `the media host answered with status ${status}`;
  if (status === 401 || status === 403) return refuseToken(answered);
  if (status === 404 || status === 410) return refuseMissing(answered);
  if (status !== 200 && !(status === 206 && isRanged)) return refuseForNow(answered);
  if (
    status === 206 &&
    !/^bytes \d{1,15}-\d{1,15}\/(\d{1,15}|\*)$/.test(singleOf(headers["content-range"]))
  ) {
    return refuseForNow(`${answered} and no range`);
  }
  const encoding = singleOf(headers["content-encoding"]);
  if (encoding !== "" && encoding !== "identity") return refuseForNow(`${answered}, encoded as ${encoding}`);
  const byteCount = numberOf(singleOf(headers["content-length"]));
  return (byteCount ?? 0) > settings.fileBytesMax ? refuseSize(settings) : null;
}

/** The bytes as they come: one that is not read holds back the next. */
async function* readBytes(
  body: Dispatcher.ResponseData["body"],
  byteCount: number | null,
  settings: MediaSettings,
  accessToken: string,
): AsyncGenerator<Uint8Array> {
  let readCount = 0;
  try {
    for await (const chunk of body) {
      readCount += (chunk as Buffer).length;
      if (readCount > settings.fileBytesMax) throw refuseSize(settings);
      yield chunk as Buffer;
    }
  } catch (error) {
    throw error instanceof MediaFault ? error : refuseForNow(withoutToken(error, accessToken));
  }
  if (byteCount !== null && readCount !== byteCount) {
    throw refuseForNow(`${readCount} bytes came instead of ${byteCount}`);
  }
}

function isTrusted(url: URL, graphOrigin: string): boolean {
  if (url.username !== "" || url.password !== "") return false;
  if (url.origin === graphOrigin) return true;
  return url.protocol === "https:" && url.port === "" && metaHosts.test(url.hostname);
}

function refuseToken(cause: string): MediaFault {
  return new MediaFault(
    "token_refused",
    "WhatsApp refuses the access token of the business that this file belongs to. The operator of this gateway can set " +
      "a new one: ClientService/UpdateClient with access_token.",
    cause,
  );
}

function refuseMissing(cause: string): MediaFault {
  return new MediaFault(
    "missing",
    "WhatsApp has this file no more, or does not show it to the business that it belongs to.",
    cause,
  );
}

function refuseSize({ fileBytesMax }: MediaSettings): MediaFault {
  return new MediaFault(
    "too_large",
    `This file has more than ${fileBytesMax} bytes, which are not passed on.`,
  );
}

function refuseForNow(cause: unknown): MediaFault {
  return new MediaFault("unavailable", "WhatsApp does not give this file now, try again later.", cause);
}

function keyOf({ clientId, phoneNumberId, mediaId }: MediaAsked): string {
  return `${clientId} ${phoneNumberId} ${mediaId}`;
}

/** Graph writes sizes as numbers and as texts. */
function numberOf(value: unknown): number | null {
  const text = textOf(value);
  return text !== null && /^\d{1,15}$/.test(text) ? Number(text) : null;
}

/** A header that came once; `""` for one that did not. */
function singleOf(header: string | string[] | undefined): string {
  return typeof header === "string" ? header : "";
}

/** A short body is read, so that its connection can be used again. */
async function drop({ body }: Dispatcher.ResponseData): Promise<void> {
  await body.dump({ limit: 16 * 1024 }).catch(ignore);
}

function ignore(): void {}
