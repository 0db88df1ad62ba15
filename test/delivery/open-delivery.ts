/** The pipeline on a real database, with a test in the place of the worker threads: it decides when what is reported. */

import pino from "pino";
import raw from "../../plugins/raw/transformer.ts";
import { systemClock } from "../../server/clock.ts";
import { createDispatcher } from "../../server/delivery/dispatcher.ts";
import { createHoldCheck } from "../../server/delivery/holds.ts";
import { createRecorder } from "../../server/delivery/recorder.ts";
import type { AttemptReport } from "../../server/domain/attempt-report.ts";
import { createRules } from "../../server/rpc/router.ts";
import { openDirectory } from "../../server/store/directory.ts";
import { createPostgresQueue } from "../../server/store/postgres-queue.ts";
import { createSealer } from "../../server/store/sealer.ts";
import type { DeliveryJob } from "../../server/workers/job.ts";
import { openTestPlugins, type TestPluginOptions } from "../helpers/plugins.ts";
import { openStore } from "../store/open-store.ts";

const settings = {
  requestTimeoutMs: 1_000,
  responseBytesMax: 65_536,
  scheduleResponseBytesMax: 65_536,
  pollMs: 20,
  leaseMs: 20_000,
  holdMs: 5_000,
  inFlightMax: 100,
  heldBusyCount: 1_000,
  recordBacklogMax: 1_000,
  retryScheduleMs: [10_000],
  recordBatchMax: 100,
  recordGatherMs: 1,
};

/** @param pluginOptions  plugins beside `raw` */
export async function openDelivery(pluginOptions: TestPluginOptions = {}) {
  const store = await openStore();
  await store.partitions.ensureDay(new Date());
  const log = pino({ level: "silent" });
  const directory = await openDirectory(store.database, store.url, createSealer([new Uint8Array(32)]), log);
  const clock = systemClock;
  const queue = createPostgresQueue(store.pool);
  const jobs: DeliveryJob[] = [];
  const plugins = await openTestPlugins({ builtin: [raw], ...pluginOptions });
  const recorder = createRecorder(
    {
      queue,
      ids: { next: () => store.newId(new Date()) },
      onRecorded: (ended) => dispatcher.onRecorded(ended),
      onScheduled: () => undefined,
      onCounted: () => undefined,
      isFailureTold: () => false,
      onFailuresNoted: () => undefined,
      clock,
      log,
    },
    settings,
  );
  const dispatcher = createDispatcher(
    {
      queue,
      database: store.database,
      directory,
      recorder,
      run: (started) => jobs.push(...started),
      factsOf: plugins.factsOf,
      findHold: createHoldCheck(createRules({ mode: "development", transformers: plugins.transformers })),
      plugins,
      failureToldTenants: () => [],
      clock,
      log,
    },
    settings,
  );
  directory.onChange(dispatcher.wake);
  plugins.onChange(dispatcher.wake);
  return {
    store,
    directory,
    dispatcher,
    recorder,
    /** What the threads were given so far. */
    jobs,
    succeed(job: DeliveryJob): AttemptReport {
      return {
        kind: "succeeded",
        deliveryId: job.deliveryId,
        webhookId: job.webhookId,
        attemptNumber: job.attemptNumber,
        startedAtMs: Date.now(),
        durationMs: 1,
        payload: null,
        response: { status: 200, headers: {}, body: new Uint8Array() },
      };
    },
    /** A webhook that the directory knows. */
    async addWebhook(maxInFlight = 64): Promise<number> {
      const id = await store.addWebhook();
      await store.pool.query("UPDATE webhook SET max_in_flight = $2, version = 2 WHERE id = $1", [
        id,
        maxInFlight,
      ]);
      await store.pool.query("UPDATE configuration SET version = version + 1");
      await store.pool.query(
        "UPDATE webhook SET version = (SELECT version FROM configuration) WHERE id = $1",
        [id],
      );
      await directory.refresh();
      return id;
    },
    async close() {
      await dispatcher.close(0);
      await recorder.close(1_000);
      await plugins.close();
      await directory.close();
      await store.close();
    },
  };
}
