/** How long the latest transforms took: enough of them for a 99th percentile, and no more memory than that. */

const samplesMax = 1_000;

export interface RecentDurations {
  add(durationMs: number): void;
  /** The value that a share (0 to 1) of the samples does not exceed, in milliseconds; null without a sample. */
  percentile(share: number): number | null;
}

export function createRecentDurations(): RecentDurations {
  const samples = new Float64Array(samplesMax);
  let count = 0;
  return {
    add(durationMs) {
      samples[count % samplesMax] = durationMs;
      count += 1;
    },
    percentile(share) {
      const kept = Math.min(count, samplesMax);
      if (kept === 0) return null;
      const sorted = samples.slice(0, kept).sort();
      return sorted[Math.max(0, Math.ceil(share * kept) - 1)]!;
    },
  };
}
