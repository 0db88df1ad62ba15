/**
 * Composition root: builds every part in order and closes them in reverse. It reads as the list of parts.
 *
 *   WhatsApp ─► routes ─► publisher ─► (database) ─► dispatcher ─► worker threads ─► endpoint
 *                                          ▲              │
 *                                          └── recorder ◄─┘ reports
 */

import { hash, randomBytes, randomFillSync } from "node:crypto";
import { fileURLToPath } from "node:url";
import type { Logger } from "pino";
import { builtinTransformers } from "../plugins/builtin.ts";
import { type Clock, systemClock } from "./clock.ts";
import type { Config } from "./config.ts";
import { loadKeys } from "./data-dir.ts";
import { appSecretsOf } from "./delivery/app-secrets.ts";
import { createDispatcher } from "./delivery/dispatcher.ts";
import { createFailureWatch } from "./delivery/failure-watch.ts";
import { createGatewayEvents } from "./delivery/gateway-events.ts";
import { createHoldCheck } from "./delivery/holds.ts";
import { createLateRouting } from "./delivery/late-routing.ts";
import { createListeners } from "./delivery/listeners.ts";
import { createPreview } from "./delivery/preview.ts";
import { createProbe } from "./delivery/probe.ts";
import { createPublisher } from "./delivery/publish.ts";
import { createRecorder } from "./delivery/recorder.ts";
import { createRecoveries } from "./delivery/recovery.ts";
import { createRescuer } from "./delivery/rescuer.ts";
import { createWatches } from "./delivery/watches.ts";
import { makeGatewaySample } from "./domain/gateway-event.ts";
import { createIdSource } from "./domain/ids.ts";
import { createMediaLinks } from "./domain/media-link.ts";
import { createListener } from "./http/listener.ts";
import type { HttpHandler } from "./http/message.ts";
import { createRoutes } from "./http/routes.ts";
import { readPemFile } from "./pem-file.ts";
import { createMessages } from "./replies/messages.ts";
import { createKeyUsage } from "./rpc/key-usage.ts";
import { createPlainCalls } from "./rpc/plain-call.ts";
import { createRpcHandler, createRules, type RpcParts } from "./rpc/router.ts";
import { sealedFor } from "./store/configuration.ts";
import { retryDelivery } from "./store/delivery-changes.ts";
import { openDirectory } from "./store/directory.ts";
import { openEmbeddedPostgres } from "./store/embedded/open.ts";
import { createHousekeeper } from "./store/housekeeping.ts";
import { keepMalformed } from "./store/malformed.ts";
import { findLinkedMedia } from "./store/media-links.ts";
import { type Database, openDatabase } from "./store/orm.ts";
import { createPartitions } from "./store/partitions.ts";
import { createPostgresQueue } from "./store/postgres-queue.ts";
import { createRateLimiter } from "./store/rate-limiter.ts";
import { createRetention } from "./store/retention.ts";
import { createSealer } from "./store/sealer.ts";
import { version } from "./version.ts";
import { splitBody } from "./whatsapp/envelope.ts";
import { createGraph } from "./whatsapp/graph.ts";
import { createGraphMessages } from "./whatsapp/graph-messages.ts";
import { createMediaSource } from "./whatsapp/media.ts";
import { makeOutgoingEvent, readStatus, restoreCallback } from "./whatsapp/outgoing-event.ts";
import { makeSampleEvent } from "./whatsapp/sample.ts";
import { judgeSendError } from "./whatsapp/send-errors.ts";
import { openPluginPool, type PluginPool } from "./workers/plugin-pool.ts";
import { createWorkerPool, type WorkerPool } from "./workers/pool.ts";

export interface App {
  /** Where it listens, such as `http://127.0.0.1:8080`. */
  url: string;
  /** The operator key, if this very start made it. */
  newOperatorKey: string | null;
  /** Loads transformer plugins as their files are now; what does not load is in the log. */
  reloadPlugins(): Promise<void>;
  /** Finishes what is in flight, then closes everything; may be called twice. */
  close(): Promise<void>;
}

export interface AppOptions {
  log: Logger;
  clock?: Clock;
  /** Called once when worker threads cannot be started any more: nothing would be delivered, so the process should end. */
  onBroken?: (error: Error) => void;
}

/** @throws Error or GatewayError saying what to do; what was opened by then is closed again */
export async function startApp(config: Config, options: AppOptions): Promise<App> {
  const { log, clock = systemClock } = options;
  const closers: (() => Promise<unknown>)[] = [];
  const closing = <T>(part: T, close: (part: T) => Promise<unknown>): T => {
    closers.push(() => close(part));
    return part;
  };
  let closed: Promise<void> | null = null;
  const close = () => {
    closed ??= closeAll(closers, log);
    return closed;
  };

  try {
    const databaseUrl =
      config.database.url ??
      closing(await openEmbeddedPostgres({ dataDir: config.dataDir, log }), (it) => it.close()).url;
    const keys = await loadKeys(config.keys, config.dataDir);
    const sealer = createSealer(keys.masterKeys);
    const onConnectionError = (error: Error) => log.warn({ err: error }, "a database connection broke");
    const database = closing(await openDatabase(databaseUrl, { onConnectionError }), (it) => it.close());
    const directory = closing(await openDirectory(database, databaseUrl, sealer, log), (it) => it.close());
    const partitions = createPartitions(database.pool);
    const queue = createPostgresQueue(database.pool);
    await partitions.ensureDay(clock.now());

    const ids = createIdSource(
      () => clock.now().getTime(),
      (bytes) => randomFillSync(bytes),
    );
    const { host, port, tls, limits, closeGraceMs } = config.listener;
    // Without a public URL: as configured until it is known which port was free.
    let baseUrl = config.publicUrl ?? urlOf(tls !== null, host, port);
    const makeMediaLink = createMediaLinks(() => baseUrl, randomBytes);

    const plugins = closing(await openPlugins(config, clock, log), (it) => it.close());
    const findHold = createHoldCheck(createRules({ mode: config.mode, transformers: plugins.transformers }));

    const listeners = createListeners(directory);
    const failureToldTenants = () => listeners.tenantsOf("posthorn.delivery.failed");
    const failureWatch = closing(
      createFailureWatch(
        {
          database,
          announce: directory.announce,
          onDisabled: () => gatewayEvents.wake(),
          clock,
          log,
        },
        config.autoDisable,
      ),
      (it) => it.close(),
    );

    const watches = createWatches({ database, clock }, config.watches);

    // Attempts travel in a circle: dispatcher, threads, recorder, dispatcher. The callbacks close it; none is called
    // before the dispatcher hands out the first attempt.
    const recorder = closing(
      createRecorder(
        {
          queue,
          ids,
          onRecorded(ended) {
            dispatcher.onRecorded(ended);
            watches.note();
          },
          onScheduled: () => messages.wake(),
          onCounted: failureWatch.note,
          isFailureTold: (tenantId) => listeners.hasListener(tenantId, "posthorn.delivery.failed"),
          onFailuresNoted: () => gatewayEvents.wake(),
          clock,
          log,
        },
        config.delivery,
      ),
      (it) => it.close(config.delivery.recordGraceMs),
    );
    const { caPath, threadCount, ...workers } = config.workers;
    const caPem = caPath && (await readPemFile("POSTHORN_CA_FILE", caPath));
    const pool = closing(
      createWorkerPool({
        threads: threadCount,
        settings: {
          ...workers,
          allowedNetworks: [...workers.allowedNetworks],
          mode: config.mode,
          caPem,
          version,
        },
        log,
        onReports: (reports) => dispatcher.onReports(probe.takeReports(reports)),
        onLost: (jobs) => rescuer.rescue(dispatcher.onLost(probe.takeLost(jobs))),
        ...(options.onBroken && { onBroken: options.onBroken }),
      }),
      (it) => it.close(),
    );
    const probe = closing(
      createProbe(
        {
          directory,
          run: pool.run,
          factsOf: plugins.factsOf,
          plugins,
          sampleEvent: (type, at) => makeSampleEvent(type, at) ?? makeGatewaySample(type, at),
          ids,
          clock,
        },
        config.delivery,
      ),
      (it) => it.close(),
    );
    const dispatcher = closing(
      createDispatcher(
        {
          queue,
          database,
          directory,
          recorder,
          run: pool.run,
          factsOf: plugins.factsOf,
          findHold,
          plugins,
          failureToldTenants,
          clock,
          log,
        },
        config.delivery,
      ),
      (it) => it.close(config.delivery.closeGraceMs),
    );
    directory.onChange(dispatcher.wake);
    plugins.onChange(dispatcher.wake);
    const rescuer = closing(
      createRescuer(
        {
          queue,
          isHolding: dispatcher.isHolding,
          wakeDispatcher: dispatcher.wake,
          failureToldTenants,
          clock,
          log,
        },
        config.delivery,
      ),
      (it) => it.close(),
    );
    const publisher = closing(
      createPublisher(
        {
          queue,
          database,
          directory,
          partitions,
          handover: dispatcher,
          handlesOf: (name) => plugins.factsOf(name)?.handles,
          ids,
          makeMediaLink,
          clock,
          log,
        },
        { ...config.publish, autoClients: config.autoClients, leaseMs: config.delivery.leaseMs },
      ),
      (it) => it.close(),
    );
    const gatewayEvents = closing(
      createGatewayEvents(
        { database, listeners, publish: publisher.publish, clock, log },
        config.gatewayEvents,
      ),
      (it) => it.close(),
    );
    const graphSettings = { ...config.graph, caPem, egressProxy: config.workers.egressProxy };
    const graphMessages = closing(createGraphMessages(graphSettings), (it) => it.close());
    const messages = closing(
      createMessages(
        {
          database,
          publish: publisher.publish,
          graph: graphMessages,
          judgeError: judgeSendError,
          makeEvent: makeOutgoingEvent,
          readStatus,
          restoreCallback,
          openToken: (sealed) => sealer.open(Buffer.from(sealed), sealedFor.accessToken),
          ids,
          random: Math.random,
          clock,
          log,
        },
        { ...config.replies, requestTimeoutMs: config.graph.timeoutMs },
      ),
      (it) => it.close(),
    );
    const lateRouting = closing(
      createLateRouting(
        {
          queue,
          database,
          directory,
          partitions,
          handlesOf: (name) => plugins.factsOf(name)?.handles,
          wakeDispatcher: dispatcher.wake,
          ids,
          makeMediaLink,
          clock,
          log,
        },
        config.lateRouting,
      ),
      (it) => it.close(),
    );
    directory.onChange(lateRouting.wake);
    const recoveries = closing(
      createRecoveries(
        {
          queue,
          database,
          directory,
          partitions,
          handlesOf: (name) => plugins.factsOf(name)?.handles,
          wakeDispatcher: dispatcher.wake,
          ids,
          clock,
          log,
        },
        config.recovery,
      ),
      (it) => it.close(),
    );
    await pool.ready();

    closing(createHousekeeper({ database, clock, log }, config.retention), (it) => it.close());
    closing(
      createRetention(
        { database, failureToldTenants, onExpired: gatewayEvents.wake, clock, log },
        config.retention,
      ),
      (it) => it.close(),
    );
    const keyUsage = closing(createKeyUsage({ database, clock, log }), (it) => it.close());
    const graph = closing(createGraph(graphSettings), (it) => it.close());
    const mediaSource = closing(createMediaSource(graphSettings, config.media, clock), (it) => it.close());
    const stopCalls = new AbortController();
    const rpcParts: RpcParts = {
      database,
      sealer,
      clock,
      log,
      mode: config.mode,
      operatorKeyDigests: keys.operatorKeys.map((key) => hash("sha256", key, "buffer")),
      directory: directory.current,
      rateLimiter: createRateLimiter(database.pool),
      noteKeyUsed: keyUsage.note,
      transformers: plugins.transformers,
      plugins,
      preview: createPreview({ database, plugins, ids, clock }),
      graph,
      probe,
      publisher: messages,
      messages,
      splitBody,
      configurationChanged: directory.announce,
      wakeDispatcher: dispatcher.wake,
      retryDelivery: (owner, deliveryId, now) => retryDelivery(database, owner, deliveryId, now),
      startRecovery: recoveries.start,
      watchAttempts: watches.watch,
      shutdownSignal: stopCalls.signal,
    };
    const routes = createRoutes(
      {
        publish: messages.publish,
        hasClientSecrets: () => directory.current.clientsWithSecret.size > 0,
        findClientSecrets: (ids) => appSecretsOf(directory.current, ids),
        keepMalformed: (body, reason) => keepMalformed(database, body, reason, clock.now()),
        isReady: () => checkReadiness(database, pool),
        rpcHandler: createRpcHandler(rpcParts) as HttpHandler,
        ...createPlainCalls(rpcParts),
        findLinkedMedia: (tokenDigest) => findLinkedMedia(database, sealer, tokenDigest),
        mediaSource,
        clock,
        log,
      },
      { ...config.intake, mode: config.mode },
      config.media,
    );
    const listener = closing(
      createListener(routes, { host, port, tls: tls && (await readCertificate(tls)), limits }),
      async (it) => {
        const stopTimer = setTimeout(() => stopCalls.abort(), closeGraceMs / 2);
        await it.close(closeGraceMs);
        clearTimeout(stopTimer);
      },
    );
    const address = await listener.listen();
    // The first to close: streams end by themselves only.
    closing(watches, (it) => it.close());
    const url = urlOf(tls !== null, address.address, address.port);
    baseUrl = config.publicUrl ?? url;
    return {
      url,
      newOperatorKey: keys.newOperatorKey,
      reloadPlugins: plugins.reload,
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Every part gets its chance to close, whatever happened to the others. */
async function closeAll(closers: (() => Promise<unknown>)[], log: Logger): Promise<void> {
  for (const close of closers.reverse()) {
    try {
      await close();
    } catch (error) {
      log.error({ err: error }, "a part did not close cleanly");
    }
  }
}

function openPlugins(config: Config, clock: Clock, log: Logger): Promise<PluginPool> {
  const { named, loadTimeoutMs, heapMaxMib, residentMaxMib, quarantine, watchMs } = config.plugins;
  const limits = { budgetMs: config.workers.transformTimeoutMs, loadTimeoutMs, heapMaxMib, residentMaxMib };
  const sources = {
    named,
    workingDirectory: process.cwd(),
    ownDirectory: fileURLToPath(new URL("../plugins/", import.meta.url)),
    ownNames: new Set(builtinTransformers.map(({ name }) => name)),
  };
  return openPluginPool(
    { builtin: builtinTransformers, clock, log },
    { sources, limits, quarantine, watchMs },
  );
}

function urlOf(isTls: boolean, host: string, port: number): string {
  return `${isTls ? "https" : "http"}://${host.includes(":") ? `[${host}]` : host}:${port}`;
}

async function readCertificate(paths: { certPath: string; keyPath: string }) {
  return {
    cert: await readPemFile("POSTHORN_TLS_CERT", paths.certPath),
    key: await readPemFile("POSTHORN_TLS_KEY", paths.keyPath),
  };
}

async function checkReadiness(database: Database, pool: WorkerPool) {
  const reasons: string[] = [];
  try {
    await database.pool.query("SELECT 1");
  } catch {
    reasons.push("the database does not answer");
  }
  if (!pool.isHealthy()) reasons.push("a worker thread does not answer");
  return { ready: reasons.length === 0, reasons };
}
