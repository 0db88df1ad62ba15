import type { Ledger } from "./ledger.ts";

/** From the post of an event to its first good arrival at an endpoint, in milliseconds. */
export interface Delays {
  count: number;
  /** Half of them, 99 of a hundred, all. */
  p50Ms: number;
  p99Ms: number;
  longestMs: number;
}

/** @param fromAtMs  only events that were posted from then on (`performance.now()`) */
export function measureDelays(
  ledger: Ledger,
  endpoints: readonly string[],
  fromAtMs = 0,
  toAtMs = Number.POSITIVE_INFINITY,
): Delays {
  const delays: number[] = [];
  for (const endpoint of endpoints) {
    for (const { wamid, firstTakenAtMs } of ledger.arrivalsAt(endpoint).values()) {
      const postedAtMs = ledger.posted.get(wamid);
      if (firstTakenAtMs === null || postedAtMs === undefined) continue;
      if (postedAtMs >= fromAtMs && postedAtMs < toAtMs) delays.push(firstTakenAtMs - postedAtMs);
    }
  }
  const sorted = Float64Array.from(delays).sort();
  const at = (share: number) => Math.round((sorted[Math.floor(sorted.length * share)] ?? 0) * 10) / 10;
  return {
    count: sorted.length,
    p50Ms: at(0.5),
    p99Ms: at(0.99),
    longestMs: Math.round(sorted.at(-1) ?? 0),
  };
}
