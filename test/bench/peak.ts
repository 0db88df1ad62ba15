/** The most events a second that go in at one side and come out at the other, and what a thousand of them cost. */

import { ratioOf, type Spread, spreadOf } from "./figures.ts";
import type { Lab, RouteName, Sender } from "./lab.ts";
import type { Measure, Section, Unit } from "./section.ts";
import { type Burst, loadConnections, runBurst } from "./traffic.ts";

export const roundCount = 3;
const eventCountMax = 40_000;
/** On a machine where that many take longer, a round is about as long as this. */
const roundSecondsMax = 8;
/** Deliveries of each before the first round: until then, code is still being compiled for what it turns out to do. */
const warmUpCount = 30_000;

export async function measurePeak(lab: Lab): Promise<Section> {
  const rounds = await runRounds(lab, "peak", Math.ceil(eventCountMax * lab.scale));
  const [relay, gateway] = [ratesOf(rounds.relay), ratesOf(rounds.gateway)];
  const ratio = ratioOf(gateway, relay);
  const bar = { text: "≥ 0.35 of the relay", isMet: ratio.median >= 0.35 };
  return {
    name: "Peak",
    title: "Peak rate, one webhook",
    notes: [
      `${rounds.eventCount.toLocaleString("en-US")} events a round over ${loadConnections} connections, each its own WhatsApp body; from the first post to the last arrival.`,
      "Every event is committed before its 200, and every delivery is in the log as delivered before the round counts.",
      "Processor time and bytes hold for a thousand deliveries, everything that follows the last arrival included.",
    ],
    measures: [
      { label: "end to end", unit: "deliveries/s", gateway, relay, ratio, bar },
      ...describeUsage(rounds),
    ],
  };
}

export interface Rounds extends Record<Sender, Burst[]> {
  /** Events of each. */
  eventCount: number;
}

/**
 * Three rounds, relay and gateway taking turns; one before them that does not count but tells how many events keep the
 * gateway busy for long enough: a slow machine need not take `eventCountMax`.
 */
export async function runRounds(lab: Lab, route: RouteName, eventCountMax: number): Promise<Rounds> {
  const endpointCount = lab.routes[route].endpoints.length;
  const warmUp = Math.min(eventCountMax, Math.ceil(warmUpCount / endpointCount));
  await runBurst(lab, "relay", route, warmUp);
  const { deliveriesPerSecond } = await runBurst(lab, "gateway", route, warmUp);
  const enough = Math.ceil((deliveriesPerSecond * roundSecondsMax) / endpointCount);
  const rounds: Rounds = { relay: [], gateway: [], eventCount: Math.min(eventCountMax, enough) };
  for (let round = 1; round <= roundCount; round++) {
    for (const sender of ["relay", "gateway"] as const) {
      rounds[sender].push(await runBurst(lab, sender, route, rounds.eventCount));
    }
  }
  return rounds;
}

export function ratesOf(rounds: readonly Burst[]): Spread {
  return spreadOf(rounds.map((round) => round.deliveriesPerSecond));
}

function describeUsage(rounds: Record<Sender, Burst[]>): Measure[] {
  const spread = (sender: Sender, read: (burst: Burst) => number | null) => {
    const values = rounds[sender].map(read).filter((value) => value !== null);
    return values.length < rounds[sender].length ? null : spreadOf(values);
  };
  const both = (label: string, unit: Unit, read: (burst: Burst) => number | null): Measure => {
    const [gateway, relay] = [spread("gateway", read), spread("relay", read)];
    return { label, unit, gateway, relay, ...(gateway && relay && { ratio: ratioOf(gateway, relay) }) };
  };
  const gatewayOnly = (label: string, unit: Unit, read: (burst: Burst) => number | null): Measure => ({
    label,
    unit,
    gateway: spread("gateway", read),
  });
  return [
    both("processor, gateway or relay itself", "CPU s", ({ usage }) => usage.cpuSeconds.sender),
    gatewayOnly("processor, PostgreSQL", "CPU s", ({ usage }) => usage.cpuSeconds.postgres),
    both("processor, load and endpoint", "CPU s", ({ usage: { cpuSeconds } }) =>
      cpuSeconds.load === null || cpuSeconds.endpoint === null ? null : cpuSeconds.load + cpuSeconds.endpoint,
    ),
    gatewayOnly("tables and indexes", "bytes", ({ usage }) => usage.tableBytes),
    gatewayOnly("log of changes (WAL)", "bytes", ({ usage }) => usage.walBytes),
  ];
}
