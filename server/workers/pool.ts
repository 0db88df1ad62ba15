/**
 * The main thread's side of the worker threads: hands jobs over, and sees to it that each of them is answered exactly
 * once, by its report or as lost.
 *
 * A job is lost when its thread dies: an uncaught error, a full heap, or the watchdog, which ends threads whose event
 * loop has stood still for too long. The pool starts a new thread in its place by itself.
 */

import assert from "node:assert/strict";
import { getCompileCacheDir } from "node:module";
import { dirname } from "node:path";
import { Piscina } from "piscina";
import type { AttemptReport } from "../domain/attempt-report.ts";
import type { DeliveryJob, JobRun, ThreadMessage } from "./job.ts";
import type { WorkerSettings } from "./settings.ts";

export interface JobKey {
  deliveryId: string;
  attemptNumber: number;
}

export interface WorkerPoolOptions {
  /** Number of worker threads. */
  threads: number;
  settings: WorkerSettings;
  log: { warn(fields: object, message: string): void; error(fields: object, message: string): void };
  /** Gets each report once, in bundles, as attempts end. */
  onReports(reports: AttemptReport[]): void;
  /** Gets the jobs whose thread went away before it reported them: their requests may or may not have been made. */
  onLost(jobs: JobKey[]): void;
  /**
   * Called once, when threads cannot be started any more (a file is missing, memory is short): the pool will not
   * mend itself, so the process should end and be started anew.
   */
  onBroken?(error: Error): void;
  /** A thread that gave no sign of life for so many seconds is ended; default 10. */
  stillSecondsMax?: number;
  /** Heap of one thread in MiB; default 512. */
  heapMaxMib?: number;
  /** Entry file of the threads; default is ours. */
  threadFile?: URL;
}

export interface WorkerPool {
  /** Settles once every thread has given a sign of life; rejects if they cannot start, or not within 30 s. */
  ready(): Promise<void>;
  /** Hands jobs over and returns at once. */
  run(jobs: DeliveryJob[]): void;
  /** Jobs that were not answered yet. */
  inFlightCount(): number;
  /** True while every thread gives signs of life. */
  isHealthy(): boolean;
  /** Settles when every job was answered and the threads have ended. May be called twice. */
  close(): Promise<void>;
}

const readyTimeoutMs = 30_000;
/** A thread that loads its code on a busy machine is not stuck. */
const startSecondsMax = 30;
const watchIntervalMs = 1_000;
/** Runs that wait while threads start; no more than a backlog that the dispatcher would make in that time. */
const queuedRunsMax = 10_000;
/** Between the end of a run and its last reports, which take another way through the event loop. */
const straggleMaxMs = 5_000;

export function createWorkerPool(options: WorkerPoolOptions): WorkerPool {
  const { threads, settings, log, stillSecondsMax = 10 } = options;
  /** By the number that each job got when it was handed over. */
  const inFlight = new Map<number, JobKey>();
  let nextNumber = 1;
  /** Watchdog ticks since each thread's last sign of life; a thread that never gave one is not `isUp`. */
  const lifeByThread = new Map<number, { stillSeconds: number; isUp: boolean }>();
  let isBroken = false;
  let closing: Promise<void> | null = null;
  const allUp = Promise.withResolvers<void>();
  const drained = Promise.withResolvers<void>();
  allUp.promise.catch(() => {});

  const piscina = new Piscina({
    filename: (options.threadFile ?? new URL("./thread.ts", import.meta.url)).href,
    minThreads: threads,
    maxThreads: threads,
    // A blocking wait between runs would freeze the thread's event loop: kept-alive sockets, time-outs, sign of life.
    atomics: "disabled",
    // Runs mostly wait for endpoints. A slow one must not hold a slot that others need; how much is in flight is the
    // dispatcher's business.
    concurrentTasksPerWorker: 1_000_000,
    maxQueue: queuedRunsMax,
    workerData: settings,
    // Threads hold signing secrets for a moment; the gateway's own secrets they need not see at all.
    env: compileCacheOnly(),
    // What a job leaves behind is gone with its report: a large young generation would only be more memory.
    resourceLimits: { maxOldGenerationSizeMb: options.heapMaxMib ?? 512, maxYoungGenerationSizeMb: 48 },
    recordTiming: false,
  });

  piscina.on("workerCreate", ({ id }: { id: number }) => {
    if (!lifeByThread.has(id)) lifeByThread.set(id, { stillSeconds: 0, isUp: false });
  });
  piscina.on("workerDestroy", () => forgetEndedThreads());
  piscina.on("message", (message: ThreadMessage) => {
    if (message.kind === "alive") noteAlive(message.threadId);
    else settleReports(message);
  });
  piscina.on("error", (error: Error) => {
    log.error({ err: error }, "a worker thread failed");
    checkThreadCount(error);
  });

  const watchdog = setInterval(watch, watchIntervalMs);
  watchdog.unref();
  const readyTimer = setTimeout(
    () => allUp.reject(new Error(`the worker threads did not start within ${readyTimeoutMs} ms`)),
    readyTimeoutMs,
  );
  readyTimer.unref();

  return {
    ready: () => allUp.promise,
    run(jobs) {
      assert(closing === null, "a closed pool takes no jobs");
      const firstNumber = nextNumber;
      for (const { deliveryId, attemptNumber } of jobs) {
        inFlight.set(nextNumber++, { deliveryId, attemptNumber });
      }
      if (isBroken) return settleLost(firstNumber, jobs.length, "the pool is broken");
      let shared = firstNumber;
      for (const share of splitEvenly(jobs.map(withOwnBytes), threads)) {
        runShare({ firstNumber: shared, jobs: share });
        shared += share.length;
      }
    },
    inFlightCount: () => inFlight.size,
    isHealthy: () => countUp() === threads,
    close() {
      closing ??= (async () => {
        if (inFlight.size > 0) await drained.promise;
        clearInterval(watchdog);
        clearTimeout(readyTimer);
        allUp.reject(new Error("the pool was closed"));
        // With nothing in flight there is nothing to wait for; piscina's own close() would wait for idle threads.
        await piscina.destroy();
      })();
      return closing;
    },
  };

  function runShare(run: JobRun): void {
    // Nothing here keeps the jobs themselves until the run is done: they have gone to the thread.
    const { firstNumber } = run;
    const count = run.jobs.length;
    start(run).then(
      () => {
        if (!isAnyInFlight(firstNumber, count)) return;
        // The reports are on their way: they were posted before the run's end was.
        const giveUp = () => settleLost(firstNumber, count, "the thread did not report them");
        setTimeout(giveUp, straggleMaxMs).unref();
      },
      (error: unknown) =>
        settleLost(firstNumber, count, error instanceof Error ? error.message : "the run failed"),
    );
  }

  /** Whatever goes wrong is a rejection. Without `await`, which would keep the jobs for as long as it waits. */
  async function start(run: JobRun): Promise<void> {
    return piscina.run(run);
  }

  function isAnyInFlight(firstNumber: number, count: number): boolean {
    for (let number = firstNumber; number < firstNumber + count; number++) {
      if (inFlight.has(number)) return true;
    }
    return false;
  }

  function settleReports({ numbers, reports }: Extract<ThreadMessage, { kind: "reports" }>): void {
    const expected: AttemptReport[] = [];
    for (const [index, report] of reports.entries()) {
      const key = inFlight.get(numbers[index]!);
      // A report that comes after its job was given up for lost is dropped: the job has had its answer.
      if (key === undefined) continue;
      inFlight.delete(numbers[index]!);
      // The very text that this thread knows the delivery by: to look up a copy of it costs several times as much.
      report.deliveryId = key.deliveryId;
      expected.push(report);
    }
    if (expected.length > 0) options.onReports(expected);
    if (inFlight.size === 0 && closing !== null) drained.resolve();
  }

  function settleLost(firstNumber: number, count: number, reason: string): void {
    const lost: JobKey[] = [];
    for (let number = firstNumber; number < firstNumber + count; number++) {
      const key = inFlight.get(number);
      if (key !== undefined) lost.push(key);
      inFlight.delete(number);
    }
    if (lost.length > 0) {
      log.warn({ lostCount: lost.length, reason }, "attempts were lost with their worker thread");
      options.onLost(lost);
    }
    if (inFlight.size === 0 && closing !== null) drained.resolve();
  }

  function noteAlive(threadId: number): void {
    lifeByThread.set(threadId, { stillSeconds: 0, isUp: true });
    if (countUp() === threads) allUp.resolve();
  }

  function countUp(): number {
    let count = 0;
    for (const life of lifeByThread.values()) if (life.isUp) count++;
    return count;
  }

  function watch(): void {
    forgetEndedThreads();
    checkThreadCount(new Error("worker threads ended and were not replaced"));
    for (const thread of piscina.threads) {
      const life = lifeByThread.get(thread.threadId);
      if (life === undefined) {
        lifeByThread.set(thread.threadId, { stillSeconds: 0, isUp: false });
        continue;
      }
      // Ticks are counted rather than time measured: while the main thread itself stands still, signs of life pile up
      // unread, and no thread is to blame.
      life.stillSeconds += watchIntervalMs / 1_000;
      if (life.stillSeconds < (life.isUp ? stillSecondsMax : Math.max(stillSecondsMax, startSecondsMax)))
        continue;
      life.stillSeconds = 0;
      log.error({ threadId: thread.threadId, stillSecondsMax }, "a worker thread stood still and is ended");
      void thread.terminate();
    }
  }

  function forgetEndedThreads(): void {
    const running = new Set(piscina.threads.map((thread) => thread.threadId));
    for (const threadId of lifeByThread.keys()) if (!running.has(threadId)) lifeByThread.delete(threadId);
  }

  /** After a thread fails while it starts, piscina starts no others, and says so nowhere. */
  function checkThreadCount(error: Error): void {
    if (isBroken || closing !== null || piscina.threads.length >= threads) return;
    isBroken = true;
    allUp.reject(error);
    // Whatever waits for a thread or runs on one is answered now, as lost; nothing else would ever answer it.
    void piscina.destroy();
    options.onBroken?.(error);
  }
}

/** Even shares of at least eight jobs: a message between threads costs more than a few jobs in it. */
function splitEvenly<T>(items: T[], partsMax: number): T[][] {
  const parts = Math.max(1, Math.min(partsMax, Math.floor(items.length / 8)));
  const size = Math.ceil(items.length / parts);
  return Array.from({ length: parts }, (_, index) => items.slice(index * size, (index + 1) * size));
}

/** A view (what database drivers give) would be copied to the thread with the whole buffer behind it. */
function withOwnBytes(job: DeliveryJob): DeliveryJob {
  if (job.payload.kind !== "made") return job;
  const { body } = job.payload;
  if (body.byteLength === body.buffer.byteLength) return job;
  return { ...job, payload: { ...job.payload, body: new Uint8Array(body) } };
}

/** What takes the types off our files is large: a thread that finds them in the cache never loads it. */
function compileCacheOnly(): Record<string, string> {
  const directory = getCompileCacheDir();
  return directory === undefined ? {} : { NODE_COMPILE_CACHE: dirname(directory) };
}
