/** Which part of a file is asked for, and whether the reader has it already (RFC 9110, sections 13 and 14). */

import type { IncomingHttpHeaders } from "node:http";

/** A hash of the file, such as Graph gives, names its content for good; null for what is none. */
export function etagOf(sha256: string | null): string | null {
  return sha256 !== null && /^[A-Za-z0-9+/=_-]{16,100}$/.test(sha256) ? `"${sha256}"` : null;
}

/**
 * What the conditions of a request come to; 200 = it is answered as usual.
 *
 * @param etag  of the file; null if it has none
 */
export function judgeConditions(headers: IncomingHttpHeaders, etag: string | null): 200 | 304 | 412 {
  const wanted = headers["if-match"];
  if (wanted !== undefined && wanted.trim() !== "*" && !(etag !== null && tagsOf(wanted).includes(etag))) {
    return 412;
  }
  const known = headers["if-none-match"];
  if (known === undefined) return 200;
  // What stood between us and the reader may have made the tag a weak one.
  const isKnown =
    known.trim() === "*" || (etag !== null && tagsOf(known).some((tag) => strongOf(tag) === etag));
  return isKnown ? 304 : 200;
}

/**
 * Value of `Range` for the media host; null = the whole file. One range is passed on; several, one that ends before it
 * begins, and one of another version of the file are answered with all of it.
 */
export function rangeOf(headers: IncomingHttpHeaders, etag: string | null): string | null {
  const { range } = headers;
  const condition = headers["if-range"];
  const parts = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(range ?? "");
  if (range === undefined || parts === null) return null;
  const [, first, last] = parts as unknown as [string, string, string];
  if (first === "" ? last === "" : last !== "" && Number(last) < Number(first)) return null;
  return condition === undefined || condition === etag ? range : null;
}

function tagsOf(list: string): string[] {
  return list.match(/(?:W\/)?"[^"]*"/g) ?? [];
}

function strongOf(tag: string): string {
  return tag.replace(/^W\//, "");
}
