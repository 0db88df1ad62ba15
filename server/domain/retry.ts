import type { AttemptReport } from "./attempt-report.ts";

const retryAfterMaxMs = 3_600_000;

/**
 * The wait before the next attempt: the scheduled one, or longer if the endpoint asked for it with `Retry-After`
 * on a 429 or 503 (at most one hour, never shorter than scheduled).
 *
 * @param endedAtMs  end of the failed attempt, Unix milliseconds; a date in `Retry-After` counts from it
 */
export function retryDelayMs(scheduledMs: number, report: AttemptReport, endedAtMs: number): number {
  if (report.kind !== "failed" || report.response === null) return scheduledMs;
  const { status, headers } = report.response;
  if (status !== 429 && status !== 503) return scheduledMs;
  const asked = parseRetryAfterMs(headers["retry-after"], endedAtMs);
  return asked === null ? scheduledMs : Math.max(scheduledMs, Math.min(asked, retryAfterMaxMs));
}

/** Seconds or an HTTP date, as milliseconds from `nowMs`; null if the header is missing or makes no sense. */
function parseRetryAfterMs(header: string | undefined, nowMs: number): number | null {
  const text = header?.trim();
  if (!text) return null;
  if (/^\d+$/.test(text)) return Number(text) * 1000;
  // RFC 9110 dates name a day and a month; Date.parse alone would take "-5" for a year.
  if (!/^[A-Za-z]{3,9},? /.test(text)) return null;
  // The oldest of its three date forms names no zone and means UTC; Date.parse would take the machine's own.
  const at = Date.parse(/\d$/.test(text) ? `${text} GMT` : text);
  return Number.isNaN(at) ? null : Math.max(0, at - nowMs);
}
