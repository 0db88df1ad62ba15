/** What every worker thread is told at its start: plain data, given to it as `workerData`. */
export interface WorkerSettings {
  /** `production` sends to https and public addresses only; `development` also to http, loopback and private ones. */
  mode: "production" | "development";
  /** CIDRs that are open besides, such as `10.1.0.0/16` or `fd00::/8`; default none. Https stays required. */
  allowedNetworks: string[];
  /** Certificates (PEM, one after another) of authorities trusted besides the usual ones; null = none. */
  caPem: string | null;
  /** URL of an HTTP proxy (`http://user:password@host:port`) that all requests go through; null = none. */
  egressProxy: string | null;
  /** The gateway's version, for `User-Agent`. */
  version: string;
  /** How long a transformer that answers with a promise may take, in milliseconds. */
  transformTimeoutMs: number;
}
