/**
 * Environment -> Config: read once, checked once, every fault told at once. Pure: no file is opened here.
 * Each part of the gateway gets its own slice. What is no setting stands here as a constant of its slice, so that a
 * test can change it; `checkConfig` says how they hang together.
 */

import type { ListenerLimits } from "./http/listener.ts";
import { type Setting, type SettingName, type SettingValues, settings } from "./settings.ts";

export interface Config {
  mode: "production" | "development";
  database: { /** Null = the embedded PostgreSQL in `dataDir`. */ url: string | null };
  dataDir: string;
  listener: {
    host: string;
    port: number;
    /** Paths of PEM files; null = no TLS. */
    tls: { certPath: string; keyPath: string } | null;
    limits: ListenerLimits;
    /** How long requests in flight may take to finish at shutdown. */
    closeGraceMs: number;
  };
  intake: {
    /** Empty = none configured. */
    appSecrets: string[];
    verifyToken: string | null;
    bodyBytesMax: number;
    bodyDeadlineMs: number;
    heldBytesMax: number;
  };
  graph: {
    /** Without a slash at its end. */
    url: string;
    /** Such as `v23.0`. */
    version: string;
    /** Bound on a call to the Graph API. */
    timeoutMs: number;
    /** Longest answer of the Graph API. */
    responseBytesMax: number;
  };
  media: {
    /** Largest file that is passed on. */
    fileBytesMax: number;
    /** How long where a file lies is remembered. */
    locationKeptMs: number;
    /** How long it is remembered that a file cannot be had. */
    failureKeptMs: number;
    /** Silence of WhatsApp's media host, or of the one who reads, that ends a stream. */
    idleTimeoutMs: number;
    /** Bound on a whole stream. */
    streamTimeoutMs: number;
    /** Files passed on at once, and of one client. */
    streamsMax: number;
    streamsPerClientMax: number;
    /** Links to files looked up in the database at once, those that nobody made included. */
    linksSoughtMax: number;
  };
  /** Without a slash at its end; null = the address listened on. */
  publicUrl: string | null;
  /** Empty = use those of the data directory; never empty in production. */
  keys: { masterKeys: Uint8Array[]; operatorKeys: string[] };
  delivery: {
    /** Waits before the second, third, … attempt. */
    retryScheduleMs: number[];
    /** Bound on connect, send and wait for the head of the answer together. */
    requestTimeoutMs: number;
    /** How long a claim on a delivery holds. */
    leaseMs: number;
    /** A delivery in hand that cannot start for so long goes back to the table. */
    holdMs: number;
    /** How much of an answer's body is read. */
    responseBytesMax: number;
    /** The same for webhooks that schedule replies from the answer. */
    scheduleResponseBytesMax: number;
    /** How often the table is looked through for due deliveries, besides when there is a reason to. */
    pollMs: number;
    /** Attempts in flight of all webhooks together. */
    inFlightMax: number;
    /** Deliveries in hand from which on the publisher waits a moment before it commits more. */
    heldBusyCount: number;
    /** Reports saved by one statement at most. */
    recordBatchMax: number;
    /** Reports that come within this time of the first share its statement. */
    recordGatherMs: number;
    /** Reports that may wait to be saved before no new attempt is started. */
    recordBacklogMax: number;
    /** How often leases that ran out are looked for. */
    rescueIntervalMs: number;
    /** How long attempts in flight may take to end at shutdown. */
    closeGraceMs: number;
    /** How long the last reports may take to be saved at shutdown. */
    recordGraceMs: number;
  };
  retention: {
    /** How long events, deliveries and attempts are kept, in days. */
    logDays: number;
    /** How long messages and contacts are kept, in days; 0 = for ever. */
    conversationDays: number;
    /** How long the audit is kept, in days. */
    auditDays: number;
    /** How often what is old enough is looked for, and after a failure. */
    sweepMs: number;
    retryMs: number;
  };
  autoDisable: {
    /** First and last of nothing but failed attempts have to lie so far apart; 0 = webhooks are never turned off. */
    afterMs: number;
    /** So many attempts have to have failed. */
    failedCountMin: number;
    /** How often a process tells what it counted. */
    flushMs: number;
    /** Between the two looks at failures that are enough. */
    confirmMs: number;
  };
  gatewayEvents: {
    /** How often what another process left to be told is looked for. */
    pollMs: number;
    /** How long a claim on it holds. */
    leaseMs: number;
  };
  replies: {
    /** Messages of one number in a second. */
    perNumberSecond: number;
    /** From one message to a recipient to the next, once the burst is used up. */
    pairIntervalMs: number;
    /** Messages that one recipient may get at once. */
    pairBurst: number;
    /** How often the table is looked through for due messages, besides when there is a reason to. */
    pollMs: number;
    /** How long a claim on a message holds. */
    leaseMs: number;
    /** Scheduled messages under way at once. */
    inFlightMax: number;
    /** Bound on a call that sends, requests that are repeated included. */
    callTimeoutMs: number;
    /** How long requests under way may take to end at shutdown. */
    closeGraceMs: number;
  };
  publish: {
    /** Events that share a commit at most. */
    batchEventsMax: number;
    /** Bytes of the events that share a commit, roughly at most. */
    batchBytesMax: number;
    /** Events that wait for their commit at most. */
    queueEventsMax: number;
  };
  lateRouting: {
    /** Events that share a commit at most. */
    batchEventsMax: number;
    /** How often tasks that another process left are looked for. */
    pollMs: number;
    /** Events that were received longer before their client was added make no deliveries. */
    deliverWithinMs: number;
  };
  recovery: {
    /** How often recoveries that nobody has in hand are looked for. */
    pollMs: number;
    /** How long a recovery is a process's without a sign of life. */
    leaseMs: number;
    /** Recoveries that a process works on at once. */
    heldMax: number;
    /** How long a process rests between two rounds of its recoveries when there is more to do. */
    restMs: number;
    /** How often the endings of one recovery are counted: at most, and while nothing ends at least. */
    settleEveryMs: number;
    settleEveryMaxMs: number;
    /** How long a start may take to count what is ahead. */
    countAtStartMs: number;
    /** Rows that one look reads at most. */
    lookRowsMax: number;
    /** Endings that one look counts at most. */
    settleRowsMax: number;
  };
  watches: {
    /** How often a stream looks for what other processes logged. */
    pollMs: number;
    /** What is logged within this time is read together. */
    gatherMs: number;
    /** Silence after which a sign of life is sent. */
    signOfLifeMs: number;
    /** A stream is cut off when a message is not taken for so long. */
    stallMaxMs: number;
    /** The connection of one that still takes nothing after so long is broken: it cannot be told anything. */
    abandonMs: number;
    /** And when it had caught up and is behind by so much. */
    lagMaxMs: number;
    /** Attempts that are read at once with all that is known of them. */
    detailsMax: number;
    /** Streams of one key, and of all, on a process. */
    streamsPerCallerMax: number;
    streamsMax: number;
  };
  workers: {
    threadCount: number;
    allowedNetworks: string[];
    /** Path of a PEM file; null = none. */
    caPath: string | null;
    egressProxy: string | null;
    transformTimeoutMs: number;
  };
  plugins: {
    /** Paths and names of packages, beside the gateway's own `plugins/`. */
    named: string[];
    /** How long a plugin's code may take to load. */
    loadTimeoutMs: number;
    /** JavaScript heap of one plugin. */
    heapMaxMib: number;
    /** Memory of one plugin's process in all. */
    residentMaxMib: number;
    /** A plugin whose process ends so often within so long makes nothing more until its files change. */
    quarantine: {
      endsMax: number;
      withinMs: number;
      /** From the second end on, before it is started again. */
      pauseMs: number;
    };
    /** How often the files are looked at for changes; null = on SIGHUP only. */
    watchMs: number | null;
  };
  autoClients: boolean;
  log: { level: string };
  /** What is odd but no fault, for the log. */
  warnings: string[];
}

export interface ConfigFault {
  /** Name of the environment variable, or of the constants that do not fit. */
  name: string;
  /** What is wrong and what to write; holds no secret. */
  message: string;
}

/** Its message lists every fault, one a line. */
export class ConfigError extends Error {
  readonly faults: readonly ConfigFault[];

  constructor(faults: readonly ConfigFault[]) {
    super(faults.map(({ name, message }) => `${name} ${message}`).join("\n"));
    this.name = "ConfigError";
    this.faults = faults;
  }
}

const mebibyte = 1024 * 1024;
const retentionDaysDefault = 30;

/**
 * @param env      the process's environment; blank counts as unset
 * @param machine  how many cores there are, which decides the default of POSTHORN_WORKERS
 * @returns the settings, frozen all the way down
 * @throws ConfigError with every fault
 */
export function loadConfig(
  env: Readonly<Record<string, string | undefined>>,
  machine: { coreCount: number },
): Config {
  const faults: ConfigFault[] = [];
  const values = readSettings(env, faults);
  // An unreadable mode is judged by the strict rules, so that the first list of faults is the whole one.
  const mode =
    values.NODE_ENV === "production" || faults.some(({ name }) => name === "NODE_ENV")
      ? "production"
      : "development";
  faults.push(...checkTogether(values, mode, new Set(faults.map(({ name }) => name))));
  if (faults.length > 0) throw new ConfigError(faults);
  const config = buildConfig(values, mode, machine.coreCount, findUnknown(env));
  checkConfig(config);
  return freeze(config);
}

/**
 * Checks the constants of the slices against each other; for configurations that a test changed, too.
 *
 * @throws ConfigError
 */
export function checkConfig(config: Config): void {
  const { intake, listener, graph, delivery, replies, workers, autoDisable } = config;
  const faults: ConfigFault[] = [];
  const expect = (isTrue: boolean, name: string, message: string) => {
    if (!isTrue) faults.push({ name, message });
  };
  expect(
    delivery.leaseMs >= delivery.holdMs + delivery.requestTimeoutMs + workers.transformTimeoutMs + 1_000,
    "delivery.leaseMs",
    "must outlast the wait in hand, a transform and a request by a second, or deliveries are claimed while they are sent",
  );
  expect(
    delivery.leaseMs + 2 * delivery.rescueIntervalMs <= 30_000,
    "delivery.leaseMs",
    "and two rescueIntervalMs must be at most 30000: a dead process's claims are free by then",
  );
  expect(
    intake.heldBytesMax >= 2 * intake.bodyBytesMax,
    "intake.heldBytesMax",
    "must hold two of the longest bodies",
  );
  expect(
    listener.limits.requestTimeoutMs >= listener.limits.headersTimeoutMs &&
      listener.limits.requestTimeoutMs >= intake.bodyDeadlineMs,
    "listener.limits.requestTimeoutMs",
    "must cover the head and the body of a request",
  );
  expect(
    replies.leaseMs >= graph.timeoutMs + 2_000,
    "replies.leaseMs",
    "must outlast a request and the wait for its place by a second, or what is under way is taken for lost",
  );
  expect(
    autoDisable.confirmMs >= 2 * autoDisable.flushMs,
    "autoDisable.confirmMs",
    "must be two flushMs at least: a success that another process has not told of yet would not count",
  );
  expect(
    listener.closeGraceMs + replies.closeGraceMs + delivery.closeGraceMs + delivery.recordGraceMs < 15_000,
    "closeGraceMs",
    "of listener, replies and delivery and recordGraceMs must leave the other parts time to close within 15 s",
  );
  if (faults.length > 0) throw new ConfigError(faults);
}

function readSettings(
  env: Readonly<Record<string, string | undefined>>,
  faults: ConfigFault[],
): SettingValues {
  const values: Partial<Record<SettingName, unknown>> = {};
  for (const [name, setting] of Object.entries<Setting>(settings)) {
    const text = env[name]?.trim() ?? "";
    if (text === "") continue;
    const result = setting.schema.safeParse(text);
    if (result.success) values[name as SettingName] = result.data;
    else {
      const problems = [...new Set(result.error.issues.map((issue) => issue.message))].join(" and ");
      const shown = setting.isSecret ? "" : `${JSON.stringify(text.slice(0, 100))} `;
      faults.push({ name, message: `${shown}${problems}: write ${setting.write}.` });
    }
  }
  return values as SettingValues;
}

/** Rules that concern several settings. `faulty` names those whose own fault is told already. */
function checkTogether(
  values: SettingValues,
  mode: Config["mode"],
  faulty: ReadonlySet<string>,
): ConfigFault[] {
  const faults: ConfigFault[] = [];
  const isMissing = (name: SettingName) => values[name] === undefined && !faulty.has(name);
  if (mode === "production") {
    for (const name of ["POSTHORN_MASTER_KEY", "POSTHORN_OPERATOR_KEY", "POSTHORN_PUBLIC_URL"] as const) {
      if (!isMissing(name)) continue;
      faults.push({ name, message: `is required in production: write ${settings[name].write}.` });
    }
    if (values.WHATSAPP_GRAPH_URL?.startsWith("http:")) {
      faults.push({
        name: "WHATSAPP_GRAPH_URL",
        message: `is not encrypted: write ${settings.WHATSAPP_GRAPH_URL.write}.`,
      });
    }
  } else {
    const host = values.POSTHORN_HOST ?? "127.0.0.1";
    if (!isLoopback(host) && values.POSTHORN_ALLOW_INSECURE !== true) {
      faults.push({
        name: "POSTHORN_HOST",
        message:
          `${JSON.stringify(host)} lets others reach a gateway with development's loose rules: set ` +
          "NODE_ENV=production, or write 127.0.0.1, or set POSTHORN_ALLOW_INSECURE=true if the network is yours alone.",
      });
    }
  }
  const { POSTHORN_CONVERSATION_DAYS: conversationDays = 0 } = values;
  const logDays = values.POSTHORN_RETENTION_DAYS ?? retentionDaysDefault;
  const isJudged = !faulty.has("POSTHORN_RETENTION_DAYS");
  if (conversationDays > 0 && conversationDays < logDays && isJudged) {
    faults.push({
      name: "POSTHORN_CONVERSATION_DAYS",
      message:
        `${conversationDays} is less than POSTHORN_RETENTION_DAYS (${logDays}): events that are still in the log need ` +
        `the messages before them. Write at least ${logDays}, or 0 for ever, or keep the log shorter.`,
    });
  }
  for (const [name, other] of [
    ["POSTHORN_TLS_CERT", "POSTHORN_TLS_KEY"],
    ["POSTHORN_TLS_KEY", "POSTHORN_TLS_CERT"],
  ] as const) {
    if (isMissing(name) && !isMissing(other)) {
      faults.push({
        name,
        message: `is missing beside ${other}: write ${settings[name].write}, or set neither.`,
      });
    }
  }
  return faults;
}

function buildConfig(
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

/** Read by the commands that speak to a gateway; one `.env` may serve both. */
const commandVariables = new Set(["POSTHORN_URL", "POSTHORN_KEY"]);

/** Variables that look like ours and are not: most are typing errors, which would otherwise have no effect unseen. */
function findUnknown(env: Readonly<Record<string, string | undefined>>): string[] {
  return Object.keys(env)
    .filter((name) => /^(POSTHORN|WHATSAPP)_/.test(name) && !Object.hasOwn(settings, name))
    .filter((name) => !commandVariables.has(name))
    .sort()
    .map((name) => `${name} is no setting and has no effect; --help lists them all`);
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127\.\d+\.\d+\.\d+$/.test(host);
}

function freeze<T extends object>(value: T): T {
  for (const part of Object.values(value)) {
    // Bytes cannot be frozen.
    if (typeof part === "object" && part !== null && !ArrayBuffer.isView(part)) freeze(part);
  }
  return Object.freeze(value);
}
