import type { Reporter, SerializedError, TestModule } from "vitest/node";

/** Ends a run with one line for machines to read, such as `tests: 123 passed, 0 failed`. */
export default class ClosingLineReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly SerializedError[]): void {
    process.stdout.write(`${formatClosingLine(modules, unhandledErrors.length)}\n`);
  }
}

/** A file that could not be run and an error outside all tests fail the run, so each counts as a failure here. */
function formatClosingLine(modules: readonly TestModule[], unhandledErrorCount: number): string {
  const counts = { passed: 0, failed: unhandledErrorCount, skipped: 0, pending: 0 };
  for (const module of modules) {
    const failedBefore = counts.failed;
    for (const test of module.children.allTests()) counts[test.result().state] += 1;
    if (module.state() === "failed" && counts.failed === failedBefore) counts.failed += 1;
  }
  const skippedCount = counts.skipped + counts.pending;
  const skipped = skippedCount === 0 ? "" : `, ${skippedCount} skipped`;
  return `tests: ${counts.passed} passed, ${counts.failed} failed${skipped}`;
}
