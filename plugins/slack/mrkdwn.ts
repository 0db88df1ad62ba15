/** Slack's text format, in which `&`, `<` and `>` are the only characters with a meaning that can do harm. */

import { cleanText } from "../transformer.ts";

const entities: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;" };

/** Text that Slack shows as it is: no mention (`<!channel>`), link or entity comes out of it. */
export function escapeText(text: string): string {
  return cleanText(text).replace(/[&<>]/g, (character) => entities[character]!);
}

/** At most so many UTF-16 units, with `…` for what is cut; no entity, link or character is cut in half. */
export function shorten(text: string, lengthMax: number): string {
  if (text.length <= lengthMax) return text;
  return `${text
    .slice(0, lengthMax - 1)
    .replace(/&[a-z]{0,3}$/, "")
    .replace(/<[^>]*$/, "")
    .replace(/[\ud800-\udbff]$/, "")}…`;
}
