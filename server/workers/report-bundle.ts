import type { AttemptReport } from "../domain/attempt-report.ts";
import type { ThreadMessage } from "./job.ts";

const bundleSizeMax = 64;
const bundleWaitMs = 1;

export interface ReportBundle {
  /** @param number  of the report's job */
  add(number: number, report: AttemptReport): void;
  /** Posts what has come together so far. */
  flush(): void;
}

/**
 * Collects reports for about a millisecond, or until 64 have come together: a message to the main thread costs more
 * than a report in it, and the recorder writes bundles.
 *
 * @param post  gets them, with the memory that changes hands instead of being copied
 */
export function createReportBundle(
  post: (message: ThreadMessage, handedOver: ArrayBuffer[]) => void,
): ReportBundle {
  let numbers: number[] = [];
  let reports: AttemptReport[] = [];
  let timer: NodeJS.Timeout | null = null;

  const flush = () => {
    if (timer !== null) clearTimeout(timer);
    timer = null;
    if (reports.length === 0) return;
    const bundle = { kind: "reports" as const, numbers, reports };
    numbers = [];
    reports = [];
    post(bundle, [packBytes(bundle.reports)]);
  };

  return {
    add(number, report) {
      numbers.push(number);
      reports.push(report);
      if (reports.length >= bundleSizeMax) flush();
      else timer ??= setTimeout(flush, bundleWaitMs);
    },
    flush,
  };
}

/**
 * Moves payloads and answers into one piece of memory: to hand over many small ones, and to sweep them afterwards, costs
 * more than to copy them here.
 */
function packBytes(reports: readonly AttemptReport[]): ArrayBuffer {
  const holders: { body: Uint8Array }[] = [];
  let byteCount = 0;
  for (const report of reports) {
    if ("payload" in report && report.payload !== null) holders.push(report.payload);
    if ("response" in report && report.response !== null) holders.push(report.response);
  }
  for (const { body } of holders) byteCount += body.byteLength;
  const packed = new Uint8Array(byteCount);
  let offset = 0;
  for (const holder of holders) {
    const { body } = holder;
    packed.set(body, offset);
    holder.body = packed.subarray(offset, offset + body.byteLength);
    offset += body.byteLength;
  }
  return packed.buffer;
}
