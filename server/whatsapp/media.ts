/**
 * The files of messages, as WhatsApp keeps them: one call to Graph tells where a file lies, for five minutes, and a
 * second one, with the same access token, gets its bytes. They are passed on as they come and never kept.
 *
 * The token goes to Graph's own host and to Meta's media hosts over https, and to no other: a redirect is not followed,
 * and where Graph says that a file lies elsewhere, nobody is asked.
 */

import { type Dispatcher, request } from "undici";
import type { Clock } from "../clock.ts";
import { createGraphDispatcher, type GraphSettings, withoutToken } from "./graph.ts";
import { drop, readAnswer } from "./media-bytes.ts";
import type { MediaAnswer, MediaAsked, MediaFacts, MediaSettings } from "./media-facts.ts";
import { MediaFault, refuseForNow } from "./media-fault.ts";
import { createMediaLocations, type MediaLocation } from "./media-locations.ts";

export type { MediaAnswer, MediaAsked, MediaFacts, MediaSettings } from "./media-facts.ts";

export interface MediaSource {
  /**
   * What Graph tells of a file; asked once for all who want to know it within `locationKeptMs`, and, where it cannot be
   * had, within `failureKeptMs`.
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

export function createMediaSource(graph: GraphSettings, settings: MediaSettings, clock: Clock): MediaSource {
  const dispatcher = createGraphDispatcher(graph);
  const locations = createMediaLocations(graph, settings, dispatcher, clock);

  /** One request for the bytes. */
  async function get({ url }: MediaLocation, accessToken: string, range: string | null, signal: AbortSignal) {
    signal.throwIfAborted();
    try {
      const response = await request(url, {
        dispatcher,
        signal,
        headers: {
          Authorization: `Bearer ${accessToken}`,
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
      throw refuseForNow(withoutToken(error, accessToken));
    }
  }

  async function open(asked: MediaAsked, range: string | null, signal: AbortSignal): Promise<MediaAnswer> {
    const { accessToken } = asked;
    let location = await locations.find(asked);
    let response = await get(location, accessToken, range, signal);
    if (expiredStatuses.has(response.statusCode)) {
      // What was true at the first look may have run out since.
      await drop(response);
      locations.expire(asked, location);
      location = await locations.find(asked);
      response = await get(location, accessToken, range, signal);
    }
    try {
      const { fileBytesMax } = settings;
      return await readAnswer(response, { range, sha256: location.sha256, fileBytesMax, accessToken });
    } catch (error) {
      if (error instanceof MediaFault && isLasting(response)) locations.fail(asked, location, error);
      throw error;
    }
  }

  return { look: locations.find, open, close: () => dispatcher.destroy() };
}

/** What a location that ran out is answered with, by one media host or another. */
const expiredStatuses = new Set([401, 403, 404, 410]);

/** Of the answer at a location that Graph has just given. */
function isLasting({ statusCode }: Dispatcher.ResponseData): boolean {
  return expiredStatuses.has(statusCode);
}

function ignore(): void {}
