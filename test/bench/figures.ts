/** What many measured values come to. Pure. */

/** A figure that was measured once a round. */
export interface Spread {
  min: number;
  median: number;
  max: number;
  /** By round, in the order in which they were measured. */
  rounds: number[];
}

/** @throws RangeError if there are no values */
export function spreadOf(rounds: readonly number[]): Spread {
  if (rounds.length === 0) throw new RangeError("a spread needs at least one round");
  return {
    min: Math.min(...rounds),
    median: median(rounds),
    max: Math.max(...rounds),
    rounds: [...rounds],
  };
}

/** Each round of `over` divided by the same round of `under`: what both were measured in stands for both. */
export function ratioOf(over: Spread, under: Spread): Spread {
  if (over.rounds.length !== under.rounds.length) throw new RangeError("both need the same rounds");
  return spreadOf(over.rounds.map((value, index) => value / under.rounds[index]!));
}

/** The middle value, or the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const upper = sorted[Math.floor(sorted.length / 2)]!;
  return sorted.length % 2 === 1 ? upper : (sorted[sorted.length / 2 - 1]! + upper) / 2;
}

export interface Percentiles {
  p50: number;
  p90: number;
  p99: number;
  p999: number;
}

/** By nearest rank: the smallest value that at least this share of all values does not exceed. */
export function percentilesOf(values: Float64Array): Percentiles {
  if (values.length === 0) throw new RangeError("percentiles need at least one value");
  const sorted = values.toSorted();
  const at = (perMille: number) => sorted[Math.ceil((sorted.length * perMille) / 1_000) - 1]!;
  return { p50: at(500), p90: at(900), p99: at(990), p999: at(999) };
}
