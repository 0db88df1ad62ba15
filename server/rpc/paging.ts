/** Lists in pages. A page token says where the page before ended, and of which list it was. */

import { hash } from "node:crypto";
import { GatewayError } from "../domain/errors.ts";

const pageSizeDefault = 50;
const pageSizeMax = 500;

/** 0 = the default; more than the greatest is the greatest. */
export function pageSizeOf(asked: number): number {
  return asked === 0 ? pageSizeDefault : Math.min(asked, pageSizeMax);
}

/**
 * Cuts what was found into a page and its token.
 *
 * @param found  up to one more than `size`, which shows that there is a next page
 * @param list   what the list is of: name, tenant and filters. A token is good for the same list only
 */
export function cutPage<T extends { id: string | number }>(
  found: readonly T[],
  size: number,
  list: readonly unknown[],
): { page: T[]; nextPageToken: string } {
  const page = found.slice(0, size);
  const last = page.at(-1);
  if (found.length <= size || last === undefined) return { page, nextPageToken: "" };
  const token = `${fingerprint(list)}${last.id}`;
  return { page, nextPageToken: Buffer.from(token).toString("base64url") };
}

/**
 * The id of the last thing on the page before; null for the first page.
 *
 * @param isId  true for what can be an id of this list
 * @throws GatewayError `invalid_input` for a token that is none, or is of another list
 */
export function readPageToken(
  token: string,
  list: readonly unknown[],
  isId: (text: string) => boolean,
): string | null {
  if (token === "") return null;
  const text = Buffer.from(token, "base64url").toString("latin1");
  const id = text.slice(fingerprintLength);
  if (text.slice(0, fingerprintLength) === fingerprint(list) && isId(id)) return id;
  throw new GatewayError(
    "invalid_input",
    "page_token: must be the next_page_token of a page of this list, asked for with the same filters",
    { field: "page_token" },
  );
}

/** True for what can be the id of a row of a table with integer ids. */
export function isRowId(text: string): boolean {
  return /^[1-9][0-9]{0,9}$/.test(text) && Number(text) <= 2_147_483_647;
}

const fingerprintLength = 16;

function fingerprint(list: readonly unknown[]): string {
  return hash("sha256", JSON.stringify(list), "base64url").slice(0, fingerprintLength);
}
