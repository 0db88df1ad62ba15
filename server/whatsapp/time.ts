/** WhatsApp's times: strings or numbers of Unix seconds, in some deliveries of milliseconds. */

import { recordOf, textOf } from "./json.ts";

const earliestMs = Date.UTC(2000, 0, 1);
const endMs = Date.UTC(2100, 0, 1);

/** As seconds this is the year 5138, as milliseconds 1973: no timestamp of either kind lies on the other side. */
const smallestMilliseconds = 1e11;

/** How far into a value, and over how many of its parts, a time is looked for. */
const depthMax = 6;
const partCountMax = 200;

/** Reads one timestamp. Null if it is none, or lies before the year 2000 or after 2099. */
export function timeOf(value: unknown): Date | null {
  const text = textOf(value)?.trim();
  if (text === undefined || !/^\d{1,17}(?:\.\d{1,9})?$/.test(text)) return null;
  const amount = Number(text);
  const milliseconds = Math.floor(amount < smallestMilliseconds ? amount * 1000 : amount);
  return milliseconds >= earliestMs && milliseconds < endMs ? new Date(milliseconds) : null;
}

/**
 * The time of a whole change: its own `timestamp`, else the first usable one among its parts, in their order
 * (`calls[0].timestamp`, `standby.messages[0].timestamp`, …). Null if there is none near the surface.
 */
export function findTime(value: unknown): Date | null {
  return searchTime(value, 0, { left: partCountMax });
}

function searchTime(value: unknown, depth: number, budget: { left: number }): Date | null {
  const record = recordOf(value);
  const own = record === null ? null : timeOf(record.timestamp);
  if (own !== null || depth === depthMax || (record === null && !Array.isArray(value))) return own;
  for (const part of record === null ? (value as unknown[]) : Object.values(record)) {
    if (budget.left-- <= 0) return null;
    const found = searchTime(part, depth + 1, budget);
    if (found !== null) return found;
  }
  return null;
}
