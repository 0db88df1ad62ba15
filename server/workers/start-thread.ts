/** What a worker thread does: takes runs of jobs, posts reports and signs of life. */

import assert from "node:assert/strict";
import { parentPort, threadId, workerData } from "node:worker_threads";
import type { Transformer } from "../../plugins/transformer.ts";
import { createDeliver } from "./deliver.ts";
import type { JobRun, ThreadMessage } from "./job.ts";
import { createReportBundle } from "./report-bundle.ts";
import { createSender } from "./send.ts";
import type { WorkerSettings } from "./settings.ts";

const aliveIntervalMs = 1_000;

/**
 * Sets this thread up and returns the function that the pool calls with each run. Its promise settles when every job
 * of the run has ended; reports do not wait for that, so a slow job holds nobody back.
 */
export function startThread(transformers: readonly Transformer[]): (run: JobRun) => Promise<void> {
  assert(parentPort !== null, "only a worker thread can be started");
  const port = parentPort;
  const post = (message: ThreadMessage, handedOver: ArrayBuffer[] = []) =>
    port.postMessage(message, handedOver);

  const settings = workerData as WorkerSettings;
  const deliver = createDeliver(createSender(settings), transformers, settings);
  const bundle = createReportBundle(post);

  const sayAlive = () => post({ kind: "alive", threadId });
  setInterval(sayAlive, aliveIntervalMs);
  sayAlive();

  return async ({ firstNumber, jobs }) => {
    // A defect that makes one job reject must not cost the others their reports; the pool counts that job as lost.
    const ends = await Promise.allSettled(
      jobs.map(async (job, index) => bundle.add(firstNumber + index, await deliver(job))),
    );
    bundle.flush();
    const defect = ends.find((end) => end.status === "rejected");
    if (defect !== undefined) throw defect.reason;
  };
}
