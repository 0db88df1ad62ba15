/** What was acknowledged and what arrived, told apart from what the gateway itself keeps of it. */

import { hash } from "node:crypto";

/** All requests of one delivery at one endpoint. */
export interface Arrivals {
  wamid: string;
  count: number;
  /** Requests that were answered with 2xx. */
  takenCount: number;
  /** SHA-256 of the bytes, in hexadecimal; more than one is a fault. */
  bodyDigests: Set<string>;
  /** When the first request that was answered with 2xx came (`performance.now()`); null if none was. */
  firstTakenAtMs: number | null;
}

export interface Ledger {
  /** WhatsApp message ids with the instant when they were first posted (`performance.now()`). */
  readonly posted: ReadonlyMap<string, number>;
  /** The same, with the instant of their 200. */
  readonly acknowledged: ReadonlyMap<string, number>;
  /** How often which status was answered; 0 stands for no answer. */
  readonly statusCounts: ReadonlyMap<number, number>;
  /** Refusals with 503 that named no time to come back after. */
  readonly unexplainedRefusals: number;
  notePost(wamid: string): void;
  noteAnswer(wamid: string, status: number, retryAfter?: string | undefined): void;
  /** A request came to an endpoint, which will answer it with 2xx or not. */
  noteArrival(endpoint: string, webhookId: string, body: Uint8Array, isTaken: boolean): void;
  /** By `webhook-id`, of one endpoint. */
  arrivalsAt(endpoint: string): ReadonlyMap<string, Arrivals>;
  /** Deliveries that an endpoint has taken. */
  takenCountAt(endpoint: string): number;
}

export function createLedger(): Ledger {
  const posted = new Map<string, number>();
  const acknowledged = new Map<string, number>();
  const takenCounts = new Map<string, number>();
  const statusCounts = new Map<number, number>();
  const byEndpoint = new Map<string, Map<string, Arrivals>>();
  let unexplainedRefusals = 0;

  function at(endpoint: string): Map<string, Arrivals> {
    let arrivals = byEndpoint.get(endpoint);
    if (!arrivals) {
      arrivals = new Map();
      byEndpoint.set(endpoint, arrivals);
    }
    return arrivals;
  }

  return {
    posted,
    acknowledged,
    statusCounts,
    get unexplainedRefusals() {
      return unexplainedRefusals;
    },
    notePost(wamid) {
      if (!posted.has(wamid)) posted.set(wamid, performance.now());
    },
    noteAnswer(wamid, status, retryAfter) {
      statusCounts.set(status, (statusCounts.get(status) ?? 0) + 1);
      if (status === 503 && !/^\d+$/.test(retryAfter ?? "")) unexplainedRefusals += 1;
      if (status === 200 && !acknowledged.has(wamid)) acknowledged.set(wamid, performance.now());
    },
    noteArrival(endpoint, webhookId, body, isTaken) {
      const arrivals = at(endpoint);
      let one = arrivals.get(webhookId);
      if (!one) {
        const wamid = /"id":"([^"]+)"/.exec(Buffer.from(body).toString("utf8"))?.[1] ?? "";
        one = { wamid, count: 0, takenCount: 0, bodyDigests: new Set(), firstTakenAtMs: null };
        arrivals.set(webhookId, one);
      }
      one.count += 1;
      one.bodyDigests.add(hash("sha256", body, "hex"));
      if (!isTaken) return;
      one.takenCount += 1;
      if (one.takenCount === 1) takenCounts.set(endpoint, (takenCounts.get(endpoint) ?? 0) + 1);
      one.firstTakenAtMs ??= performance.now();
    },
    arrivalsAt: at,
    takenCountAt: (endpoint) => takenCounts.get(endpoint) ?? 0,
  };
}
