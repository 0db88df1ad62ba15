/**
 * Settings -> the slice of each part. What is no setting stands here as a constant of its slice, so that a test can change
 * it; `checkConfig` (`config.ts`) says how they hang together.
 */

import type { Config } from "./config-slices.ts";
import type { SettingValues } from "./settings.ts";

const mebibyte = 1024 * 1024;
export const retentionDaysDefault = 30;

/** @param coreCount  decides how many threads send, unless a setting does */
export function buildConfig(
  values: SettingValues,
  mode: Config["mode"],
  coreCount: number,
  warnings: string[],
): Config {
  const { POSTHORN_TLS_CERT: certPath, POSTHORN_TLS_KEY: keyPath } = values;
  return {
    mode,
    database: { url: values.DATABASE_URL ?? null },
    dataDir: values.POSTHORN_DATA_DIR ?? ".posthorn",
    listener: {
      host: values.POSTHORN_HOST ?? "127.0.0.1",
      port: values.PORT ?? 8080,
      tls: certPath === undefined || keyPath === undefined ? null : { certPath, keyPath },
      limits: {
        socketsMax: 10_000,
        sessionsMax: 1_000,
        streamsPerSessionMax: 128,
        headerBytesMax: 16 * 1024,
        sniffTimeoutMs: 10_000,
        headersTimeoutMs: 10_000,
        requestTimeoutMs: 60_000,
        timeoutCheckMs: 5_000,
        keepAliveMs: 75_000,
        sessionIdleMs: 600_000,
      },
      closeGraceMs: 2_000,
    },
    intake: {
      appSecrets: values.WHATSAPP_APP_SECRET ?? [],
      verifyToken: values.WHATSAPP_VERIFY_TOKEN ?? null,
      bodyBytesMax: 4 * mebibyte,
      bodyDeadlineMs: 20_000,
      heldBytesMax: 64 * mebibyte,
    },
    graph: {
      url: values.WHATSAPP_GRAPH_URL ?? "https://graph.facebook.com",
      version: values.WHATSAPP_GRAPH_VERSION ?? "v23.0",
      timeoutMs: 10_000,
      responseBytesMax: 256 * 1024,
    },
    media: {
      fileBytesMax: 100 * mebibyte,
      locationKeptMs: 5 * 60_000,
      failureKeptMs: 5_000,
      idleTimeoutMs: 30_000,
      streamTimeoutMs: 15 * 60_000,
      streamsMax: 64,
      streamsPerClientMax: 16,
      linksSoughtMax: 32,
    },
    publicUrl: values.POSTHORN_PUBLIC_URL ?? null,
    keys: {
      masterKeys: values.POSTHORN_MASTER_KEY ?? [],
      operatorKeys: values.POSTHORN_OPERATOR_KEY ?? [],
    },
    delivery: {
      retryScheduleMs: (values.POSTHORN_RETRY_SECONDS ?? [10, 60, 300]).map((seconds) =>
        Math.round(seconds * 1_000),
      ),
      requestTimeoutMs: 10_000,
      leaseMs: 20_000,
      holdMs: 5_000,
      responseBytesMax: 64 * 1024,
      scheduleResponseBytesMax: 512 * 1024,
      pollMs: 500,
      inFlightMax: 2_048,
      heldBusyCount: 1_000,
      recordBatchMax: 500,
      recordGatherMs: 1,
      recordBacklogMax: 5_000,
      rescueIntervalMs: 2_000,
      closeGraceMs: 10_500,
      recordGraceMs: 1_000,
    },
    retention: {
      logDays: values.POSTHORN_RETENTION_DAYS ?? retentionDaysDefault,
      conversationDays: values.POSTHORN_CONVERSATION_DAYS ?? 0,
      auditDays: Math.max(400, values.POSTHORN_RETENTION_DAYS ?? 0),
      sweepMs: 3_600_000,
      retryMs: 60_000,
    },
    autoDisable: {
      afterMs: (values.POSTHORN_AUTO_DISABLE_AFTER ?? 5) * 86_400_000,
      failedCountMin: 20,
      flushMs: 5_000,
      confirmMs: 15_000,
    },
    gatewayEvents: { pollMs: 2_000, leaseMs: 30_000 },
    replies: {
      perNumberSecond: 80,
      pairIntervalMs: 6_000,
      pairBurst: 45,
      pollMs: 500,
      leaseMs: 20_000,
      inFlightMax: 200,
      callTimeoutMs: 25_000,
      closeGraceMs: 1_000,
    },
    publish: { batchEventsMax: 500, batchBytesMax: 4 * 1024 * 1024, queueEventsMax: 20_000 },
    lateRouting: { batchEventsMax: 200, pollMs: 2_000, deliverWithinMs: 24 * 3_600_000 },
    recovery: {
      pollMs: 2_000,
      leaseMs: 10_000,
      heldMax: 200,
      restMs: 20,
      settleEveryMs: 500,
      settleEveryMaxMs: 4_000,
      countAtStartMs: 2_000,
      lookRowsMax: 1_000,
      settleRowsMax: 2_000,
    },
    watches: {
      pollMs: 500,
      gatherMs: 50,
      signOfLifeMs: 15_000,
      stallMaxMs: 10_000,
      abandonMs: 60_000,
      lagMaxMs: 30_000,
      detailsMax: 100,
      streamsPerCallerMax: 8,
      streamsMax: 200,
    },
    workers: {
      threadCount: values.POSTHORN_WORKERS ?? Math.min(16, Math.max(1, coreCount - 1)),
      allowedNetworks: values.POSTHORN_ALLOWED_NETWORKS ?? [],
      caPath: values.POSTHORN_CA_FILE ?? null,
      egressProxy: values.POSTHORN_EGRESS_PROXY ?? null,
      transformTimeoutMs: values.POSTHORN_TRANSFORM_TIMEOUT_MS ?? 250,
    },
    plugins: {
      named: values.POSTHORN_PLUGINS ?? [],
      loadTimeoutMs: 10_000,
      heapMaxMib: 64,
      residentMaxMib: 512,
      quarantine: { endsMax: 3, withinMs: 10 * 60_000, pauseMs: 1_000 },
      watchMs: mode === "development" ? 500 : null,
    },
    autoClients: values.POSTHORN_AUTO_CLIENTS ?? mode === "development",
    log: { level: values.LOG_LEVEL ?? "info" },
    warnings,
  };
}
