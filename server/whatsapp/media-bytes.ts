/**
 * What the media host answered: judged by its head, then passed on as it comes. Nothing that is incomplete, too long or
 * other than promised ends as if it were whole.
 */

import { createHash } from "node:crypto";
import type { Dispatcher } from "undici";
import { withoutToken } from "./graph.ts";
import type { MediaAnswer } from "./media-facts.ts";
import {
  MediaFault,
  refuseBytes,
  refuseForNow,
  refuseMissing,
  refuseSize,
  refuseToken,
} from "./media-fault.ts";

export interface Asked {
  range: string | null;
  /** Of the whole file, as Graph writes it; null if it did not. */
  sha256: string | null;
  fileBytesMax: number;
  /** Kept out of every error. */
  accessToken: string;
}

type Response = Dispatcher.ResponseData;

/** @throws MediaFault if this is no file, or none that is passed on */
export async function readAnswer(response: Response, asked: Asked): Promise<MediaAnswer> {
  const { statusCode: status, headers, body } = response;
  const contentRange = singleOf(headers["content-range"]);
  if (status === 416 && asked.range !== null) {
    await drop(response);
    return { status, contentRange: /^bytes \*\/\d{1,15}$/.test(contentRange) ? contentRange : null };
  }
  const saidBytes = countOf(singleOf(headers["content-length"]));
  const partBytes = status === 206 ? countRange(contentRange) : null;
  const fault = findFault(response, asked, saidBytes, partBytes);
  if (fault !== null) {
    await drop(response);
    throw fault;
  }
  const byteCount = partBytes ?? saidBytes;
  const bytes = readBytes(body, byteCount, asked);
  const digest = status === 200 ? digestOf(asked.sha256) : null;
  return {
    status: status as 200 | 206,
    byteCount,
    contentRange: status === 206 ? contentRange : null,
    body: digest === null ? bytes : checkBytes(bytes, digest),
  };
}

/** A short body is read, so that its connection can be used again. */
export async function drop({ body }: Response): Promise<void> {
  await body.dump({ limit: 16 * 1024 }).catch(ignore);
}

function findFault(
  { statusCode: status, headers }: Response,
  { range, fileBytesMax }: Asked,
  saidBytes: number | null,
  partBytes: number | null,
): MediaFault | null {
  const answered = `the media host answered with status ${status}`;
  if (status === 401 || status === 403) return refuseToken(answered);
  if (status === 404 || status === 410) return refuseMissing(answered);
  if (status !== 200 && !(status === 206 && range !== null)) return refuseForNow(answered);
  if (status === 206 && (partBytes === null || (saidBytes !== null && saidBytes !== partBytes))) {
    return refuseForNow(`${answered} and no range, or one that its length does not fit`);
  }
  const encoding = singleOf(headers["content-encoding"]);
  if (encoding !== "" && encoding !== "identity") return refuseForNow(`${answered}, encoded as ${encoding}`);
  return (partBytes ?? saidBytes ?? 0) > fileBytesMax ? refuseSize(fileBytesMax) : null;
}

/** The bytes as they come: one that is not read holds back the next. */
async function* readBytes(
  body: Response["body"],
  byteCount: number | null,
  { fileBytesMax, accessToken }: Asked,
): AsyncGenerator<Uint8Array> {
  let readCount = 0;
  try {
    for await (const chunk of body) {
      readCount += (chunk as Buffer).length;
      if (readCount > fileBytesMax) throw refuseSize(fileBytesMax);
      yield chunk as Buffer;
    }
  } catch (error) {
    throw error instanceof MediaFault ? error : refuseForNow(withoutToken(error, accessToken));
  }
  if (byteCount !== null && readCount !== byteCount) {
    throw refuseForNow(`${readCount} bytes came instead of ${byteCount}`);
  }
}

/** Holds back the last bytes until all are known to be right: who got the promised length took it for the whole. */
async function* checkBytes(bytes: AsyncIterable<Uint8Array>, digest: string): AsyncGenerator<Uint8Array> {
  const hash = createHash("sha256");
  let held: Uint8Array | null = null;
  for await (const chunk of bytes) {
    hash.update(chunk);
    if (held !== null) yield held;
    held = chunk;
  }
  const came = hash.digest("hex");
  if (came !== digest) throw refuseBytes(`sha256 ${came} instead of ${digest}`);
  if (held !== null) yield held;
}

/** Hexadecimal, for it comes like that or in base64; null for what is no such digest. */
function digestOf(sha256: string | null): string | null {
  if (sha256 === null) return null;
  if (/^[0-9a-f]{64}$/i.test(sha256)) return sha256.toLowerCase();
  return /^[A-Za-z0-9+/_-]{43}=?$/.test(sha256) ? Buffer.from(sha256, "base64").toString("hex") : null;
}

/** How many bytes a `Content-Range` is of; null for what is none. */
function countRange(contentRange: string): number | null {
  const [, first, last, total] = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15}|\*)$/.exec(contentRange) ?? [];
  if (first === undefined || Number(last) < Number(first)) return null;
  return total === "*" || Number(last) < Number(total) ? Number(last) - Number(first) + 1 : null;
}

function countOf(text: string): number | null {
  return /^\d{1,15}$/.test(text) ? Number(text) : null;
}

/** A header that came once; `""` for one that did not. */
function singleOf(header: string | string[] | undefined): string {
  return typeof header === "string" ? header : "";
}

function ignore(): void {}
