/** Times: WhatsApp's are strings or numbers of Unix seconds, in some deliveries of milliseconds. */

import { textOf } from "./json.ts";

const earliestMs = Date.UTC(2000, 0, 1);
const endMs = Date.UTC(2100, 0, 1);

/** As seconds this is the year 5138, as milliseconds 1973: no timestamp of either kind lies on the other side. */
const smallestMilliseconds = 1e11;

/**
 * Reads a timestamp of a WhatsApp item, such as `"1772712000"`.
 *
 * @returns null if it is none, or lies before the year 2000 or after 2099
 */
export function timeOf(value: unknown): Date | null {
  const text = textOf(value)?.trim();
  if (text === undefined || !/^\d{1,17}(?:\.\d{1,9})?$/.test(text)) return null;
  const amount = Number(text);
  const milliseconds = Math.floor(amount < smallestMilliseconds ? amount * 1000 : amount);
  return milliseconds >= earliestMs && milliseconds < endMs ? new Date(milliseconds) : null;
}

/**
 * An instant in ISO 8601, in UTC: `2026-03-05T12:00:00Z`.
 *
 * @param at         an instant of the input (`event.occurredAt`, `sentAt`, …), or a timestamp of an item
 * @param precision  `milliseconds` writes them always: `2026-03-05T12:00:00.000Z`; seconds are cut, not rounded
 * @returns null for null, and for what is no time
 */
export function toIsoTime(at: unknown, precision: "seconds" | "milliseconds" = "seconds"): string | null {
  const date = at instanceof Date ? at : timeOf(at);
  if (date === null || Number.isNaN(date.getTime())) return null;
  const text = date.toISOString();
  return precision === "milliseconds" ? text : `${text.slice(0, -".000Z".length)}Z`;
}
