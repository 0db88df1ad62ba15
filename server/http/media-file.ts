/**
 * How a file that a WhatsApp user sent is shown. Whatever it is, it comes from our origin, so nothing of it may run
 * here: only pictures made of dots, audio and video are shown in place, all else is offered for saving.
 */

/** A type with nothing but `codecs`, which players ask for, beside it. */
const typePattern =
  /^([a-z0-9][a-z0-9!#$&^_.+-]{0,63}\/[a-z0-9][a-z0-9!#$&^_.+-]{0,63})(?:\s*;\s*codecs=("?)([a-z0-9.,_ -]{1,64})\2)?\s*(?:;|$)/i;

/** The content type, fit for a header; `application/octet-stream` for what is none. */
export function contentTypeOf(mimeType: string | null): string {
  const [, type, , codecs] = typePattern.exec(mimeType?.trim() ?? "") ?? [];
  if (type === undefined) return "application/octet-stream";
  if (codecs === undefined) return type.toLowerCase();
  return `${type.toLowerCase()}; codecs=${/[, ]/.test(codecs) ? `"${codecs}"` : codecs}`;
}

/** SVG is no such picture: it can hold scripts. */
const shownInPlace =
  /^(?:image\/(?:jpeg|jpg|png|gif|webp|avif|bmp|heic|heif)|(?:audio|video)\/(?!.*(?:xml|html|script))[a-z0-9.+-]+)(?:;|$)/;

/**
 * Value of `Content-Disposition` (RFC 6266): the name in ASCII, and beside it as it is if that says more.
 *
 * @param contentType  as `contentTypeOf` gives it
 * @param fileName     as the sender wrote it; null if they gave none
 */
export function dispositionOf(contentType: string, fileName: string | null): string {
  const kind = shownInPlace.test(contentType) ? "inline" : "attachment";
  const name = cleanName(fileName ?? "") || `file${endings.get(contentType.split(";")[0]!) ?? ""}`;
  const plain = name.replace(/[^\x20-\x7e]|["\\%]/gu, "_");
  const exact = plain === name ? "" : `; filename*=UTF-8''${encodeExtended(name)}`;
  return `${kind}; filename="${plain}"${exact}`;
}

const nameLengthMax = 150;

/**
 * The last part of a path, without what steers a terminal, a text's direction or a file system; `""` if nothing is
 * left. A name that is too long loses its middle, not its ending.
 */
function cleanName(fileName: string): string {
  const name = fileName
    .toWellFormed()
    .replace(/[\p{Cc}\p{Zl}\p{Zp}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/gu, "")
    .replace(/^.*[/\\]/s, "")
    .replace(/[:*?"<>|]/g, "_")
    .replace(/^[\s.]+|[\s.]+$/g, "");
  const characters = [...name];
  if (characters.length <= nameLengthMax) return name;
  const ending = /\.[A-Za-z0-9]{1,10}$/.exec(name)?.[0] ?? "";
  return characters.slice(0, nameLengthMax - ending.length).join("") + ending;
}

/** Percent-encoding of RFC 8187. */
function encodeExtended(name: string): string {
  return encodeURIComponent(name).replace(
    /['()*]/g,
    (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

/** Of what WhatsApp takes, for files that nobody named. */
const endings: ReadonlyMap<string, string> = new Map([
  ["image/jpeg", ".jpg"],
  ["image/png", ".png"],
  ["image/webp", ".webp"],
  ["image/gif", ".gif"],
  ["audio/ogg", ".ogg"],
  ["audio/opus", ".opus"],
  ["audio/mpeg", ".mp3"],
  ["audio/mp4", ".m4a"],
  ["audio/aac", ".aac"],
  ["audio/amr", ".amr"],
  ["video/mp4", ".mp4"],
  ["video/3gpp", ".3gp"],
  ["application/pdf", ".pdf"],
  ["text/plain", ".txt"],
]);
