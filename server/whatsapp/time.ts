/** WhatsApp's times: strings or numbers of Unix seconds, in some deliveries of milliseconds. */

import { timeOf } from "../../plugins/sdk/time.ts";
import { recordOf } from "./json.ts";

export { timeOf } from "../../plugins/sdk/time.ts";

/** How far into a value, and over how many of its parts, a time is looked for. */
const depthMax = 6;
const partCountMax = 200;

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
