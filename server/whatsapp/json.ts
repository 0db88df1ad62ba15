/** What WhatsApp sends, read as the transformers' own helpers read it: both must find the same in an item. */

import { textOf } from "../../plugins/sdk/json.ts";

export { cleanText, isJsonObject, listOf, parseLossless, recordOf, textOf } from "../../plugins/sdk/json.ts";

const idLengthMax = 256;

/** As `textOf`; null too for a text longer than any id (256 characters): it could not be indexed. */
export function idOf(value: unknown): string | null {
  const text = textOf(value);
  return text !== null && text.length <= idLengthMax ? text : null;
}
