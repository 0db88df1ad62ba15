/**
 * Where files lie: asked of Graph once for all who want to know it within five minutes, which is as long as an answer
 * holds. That a look-up failed is remembered too, for seconds: WhatsApp shuts out numbers whose look-ups fail often, and
 * those who are given a link try again at once.
 */

import type { Dispatcher } from "undici";
import type { Clock } from "../clock.ts";
import { askGraph, codeOf, describeAnswer, type GraphSettings, refusesToken } from "./graph.ts";
import { recordOf, textOf } from "./json.ts";
import type { MediaAsked, MediaFacts, MediaSettings } from "./media-facts.ts";
import {
  type MediaFault,
  refuseForNow,
  refuseMissing,
  refusePlace,
  refuseSize,
  refuseToken,
} from "./media-fault.ts";

export interface MediaLocation extends MediaFacts {
  url: URL;
}

export interface MediaLocations {
  /** @throws MediaFault */
  find(asked: MediaAsked): Promise<MediaLocation>;
  /** The location has run out: it is asked for anew, unless somebody did so already. */
  expire(asked: MediaAsked, location: MediaLocation): void;
  /** The location is as Graph says, and leads to nothing: nobody needs to ask again for a while. */
  fail(asked: MediaAsked, location: MediaLocation, fault: MediaFault): void;
}

interface Entry {
  location: Promise<MediaLocation>;
  /** Null while the answer is awaited. */
  found: MediaLocation | null;
  /** Whose answer it is: a new token may be told what the old one was not. */
  accessToken: string;
  endsAtMs: number;
}

const locationsMax = 2_000;
const metaHosts = /^(lookaside\.fbsbx\.com|([a-z0-9-]+\.)+(fbcdn|whatsapp)\.net)$/;

export function createMediaLocations(
  graph: GraphSettings,
  settings: MediaSettings,
  dispatcher: Dispatcher,
  clock: Clock,
): MediaLocations {
  const graphOrigin = new URL(graph.url).origin;
  /** In the order in which they were asked for. */
  const entries = new Map<string, Entry>();

  function find(asked: MediaAsked): Promise<MediaLocation> {
    const nowMs = clock.now().getTime();
    const known = entries.get(keyOf(asked));
    if (known && known.accessToken === asked.accessToken && nowMs < known.endsAtMs) return known.location;
    const location = ask(asked);
    const endsAtMs = nowMs + settings.locationKeptMs;
    const entry: Entry = { location, found: null, accessToken: asked.accessToken, endsAtMs };
    keep(asked, entry);
    location.then(
      (found) => {
        entry.found = found;
      },
      () => {
        entry.endsAtMs = clock.now().getTime() + settings.failureKeptMs;
      },
    );
    return location;
  }

  function keep(asked: MediaAsked, entry: Entry): void {
    const key = keyOf(asked);
    entries.delete(key);
    entries.set(key, entry);
    for (const oldest of entries.keys()) {
      if (entries.size <= locationsMax) break;
      entries.delete(oldest);
    }
  }

  async function ask({ mediaId, phoneNumberId, accessToken }: MediaAsked): Promise<MediaLocation> {
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
    if (!isTrusted(url, graphOrigin)) throw refusePlace(url.host);
    const byteCount = numberOf(record.file_size);
    if ((byteCount ?? 0) > settings.fileBytesMax) throw refuseSize(settings.fileBytesMax);
    return { url, mimeType: textOf(record.mime_type), byteCount, sha256: textOf(record.sha256) };
  }

  /** Null if another answer has taken its place. */
  function entryOf(asked: MediaAsked, location: MediaLocation): Entry | null {
    const entry = entries.get(keyOf(asked));
    return entry?.found === location ? entry : null;
  }

  return {
    find,
    expire(asked, location) {
      if (entryOf(asked, location) !== null) entries.delete(keyOf(asked));
    },
    fail(asked, location, fault) {
      const entry = entryOf(asked, location);
      if (entry === null) return;
      const failed = Promise.reject(fault);
      failed.catch(ignore);
      const endsAtMs = clock.now().getTime() + settings.failureKeptMs;
      keep(asked, { location: failed, found: null, accessToken: entry.accessToken, endsAtMs });
    },
  };
}

function isTrusted(url: URL, graphOrigin: string): boolean {
  if (url.username !== "" || url.password !== "") return false;
  if (url.origin === graphOrigin) return true;
  return url.protocol === "https:" && url.port === "" && metaHosts.test(url.hostname);
}

function keyOf({ clientId, phoneNumberId, mediaId }: MediaAsked): string {
  return `${clientId} ${phoneNumberId} ${mediaId}`;
}

/** Graph writes sizes as numbers and as texts. */
function numberOf(value: unknown): number | null {
  const text = textOf(value);
  return text !== null && /^\d{1,15}$/.test(text) ? Number(text) : null;
}

function ignore(): void {}
