/** What each part of the gateway is told, its slice of the configuration. */

import type { RecoverySettings } from "./delivery/recovery.ts";
import type { WatchSettings } from "./delivery/watches.ts";
import type { ListenerLimits } from "./http/listener.ts";

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
  recovery: RecoverySettings;
  watches: WatchSettings;
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
