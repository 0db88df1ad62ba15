/** Where the demo takes place: endpoints, a stand-in for WhatsApp, and all that has arrived so far. */

import { setTimeout as sleep } from "node:timers/promises";
import { openTestGraph, type TestGraph } from "../helpers/graph.ts";
import type { ExpectedDelivery } from "./expected.ts";
import * as print from "./print.ts";
import { type Arrival, type Endpoint, type EndpointAnswer, openEndpoint } from "./receiver.ts";

export interface Stage {
  graph: TestGraph;
  endpoints: Endpoint[];
  /** In the order in which they came. */
  arrivals: Arrival[];
  /** Prints what is posted now; the times of what arrives are counted from here. */
  announcePost(title: string): void;
  /** Settles once all have arrived; after `arriveBoundMs` what is missing is left to the checks at the end. */
  waitForArrivals(expected: ExpectedDelivery[]): Promise<void>;
  /** Settles with the next arrival, or after the time. */
  waitForOne(boundMs: number): Promise<void>;
  close(): Promise<void>;
}

const arriveBoundMs = 5_000;

export async function openStage(): Promise<Stage> {
  const arrivals: Arrival[] = [];
  let arrived = Promise.withResolvers<void>();
  let postedAtMs = 0;
  const endpoints: Endpoint[] = [];
  const graph = await openTestGraph();

  function noteArrival(arrival: Arrival): void {
    arrivals.push(arrival);
    print.printArrival(arrival, arrival.number === 1 ? arrival.atMs - postedAtMs : null);
    arrived.resolve();
    arrived = Promise.withResolvers();
  }

  async function waitForArrivals(expected: ExpectedDelivery[]): Promise<void> {
    const deadlineMs = performance.now() + arriveBoundMs;
    const isThere = (one: ExpectedDelivery) => {
      return arrivals.some(({ endpoint, body }) => endpoint === one.endpoint && body === one.body);
    };
    while (!expected.every(isThere)) {
      const leftMs = deadlineMs - performance.now();
      if (leftMs <= 0) return;
      await within(arrived.promise, leftMs);
    }
  }

  async function close(): Promise<void> {
    for (const endpoint of endpoints) await endpoint.close();
    await graph.close();
  }

  try {
    for (const name of ["intelli", "insights", "raw"] as const) {
      endpoints.push(
        await openEndpoint(name, name === "intelli" ? failTwiceAtFirst : () => ({}), noteArrival),
      );
    }
  } catch (error) {
    await close();
    throw error;
  }
  return {
    graph,
    endpoints,
    arrivals,
    announcePost(title) {
      postedAtMs = performance.now();
      print.printPosted(title);
    },
    waitForArrivals,
    waitForOne: (boundMs) => within(arrived.promise, boundMs),
    close,
  };
}

/** The first delivery meets an endpoint in trouble: away, then starting, then well. */
function failTwiceAtFirst(number: number, deliveryNumber: number): EndpointAnswer {
  if (deliveryNumber > 1 || number > 2) return {};
  return number === 1 ? { status: 503, body: "back in a second" } : { status: 500, body: "almost there" };
}

/** Settles with the promise or after the time, whichever is first; leaves no timer behind. */
async function within(promise: Promise<void>, boundMs: number): Promise<void> {
  const done = new AbortController();
  await Promise.race([promise, sleep(boundMs, undefined, { signal: done.signal }).catch(() => undefined)]);
  done.abort();
}
