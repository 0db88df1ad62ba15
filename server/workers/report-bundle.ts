import type { AttemptReport } from "../domain/attempt-report.ts";

const bundleSizeMax = 64;
const bundleWaitMs = 1;

export interface ReportBundle {
  add(report: AttemptReport): void;
  /** Posts what has come together so far. */
  flush(): void;
}

/**
 * Collects reports for about a millisecond, or until 64 have come together: a message to the main thread costs more
 * than a report in it, and the recorder writes bundles.
 */
export function createReportBundle(post: (reports: AttemptReport[]) => void): ReportBundle {
  let reports: AttemptReport[] = [];
  let timer: NodeJS.Timeout | null = null;

  const flush = () => {
    if (timer !== null) clearTimeout(timer);
    timer = null;
    if (reports.length === 0) return;
    const bundle = reports;
    reports = [];
    post(bundle);
  };

  return {
    add(report) {
      reports.push(report);
      if (reports.length >= bundleSizeMax) flush();
      else timer ??= setTimeout(flush, bundleWaitMs);
    },
    flush,
  };
}
