/**
 * How long an event takes at a fixed rate. The timetable does not wait for answers, and the time from an event's place
 * in it is told beside the time from its 200: a gateway that stood still for a while would look good by the second
 * alone, since nothing would have been sent meanwhile.
 */

import { type Percentiles, percentilesOf, ratioOf, spreadOf } from "./figures.ts";
import type { Lab, Sender } from "./lab.ts";
import { roundCount } from "./peak.ts";
import type { Curve, Measure, Section } from "./section.ts";
import { runTimetable, type TimedEvents } from "./traffic.ts";

const rates = [1_000, 3_000];
const roundSeconds = 4;
const warmUpCount = 1_000;

interface Timed {
  accepted: Percentiles;
  scheduled: Percentiles;
  late: Percentiles;
  /** Share of the events that arrived before their 200 was read. */
  aheadShare: number;
}

export async function measureLatency(lab: Lab): Promise<Section> {
  const measures: Measure[] = [];
  const curves: Curve[] = [];
  const notes = [
    `${roundSeconds * lab.scale} s a round at each rate, by a timetable that does not wait for answers; percentiles of each round.`,
    '"scheduled" counts from an event\'s place in the timetable, "accepted" from the moment its 200 was read.',
  ];
  for (const rate of rates) {
    const rounds = await runAtRate(lab, rate, Math.ceil(rate * roundSeconds * lab.scale));
    measures.push(...describe(rate, rounds));
    for (const sender of ["gateway", "relay"] as const) {
      curves.push(curveOf(`${sender}, ${rate.toLocaleString("en-US")}/s`, rounds[sender]));
    }
    const [ahead, late] = [
      spreadOf(rounds.gateway.map((round) => round.aheadShare * 100)),
      spreadOf(rounds.gateway.map((round) => round.late.p99)),
    ];
    notes.push(
      `At ${rate.toLocaleString("en-US")}/s ${ahead.median.toFixed(0)} % arrived before their 200 was read (0 ms); 99 % were sent within ${late.median.toFixed(1)} ms of their place.`,
    );
  }
  const chart = {
    title: "Scheduled to received, ms",
    xLabel: "percentile of events",
    xNames: Object.values(names),
    isLogarithmic: true,
    curves,
  };
  return { name: "Latency", title: "Latency at a fixed rate, one webhook", notes, measures, chart };
}

async function runAtRate(lab: Lab, rate: number, count: number): Promise<Record<Sender, Timed[]>> {
  const rounds: Record<Sender, Timed[]> = { relay: [], gateway: [] };
  const senders = ["relay", "gateway"] as const;
  for (const sender of senders) await runTimetable(lab, sender, Math.min(count, warmUpCount), rate);
  for (let round = 1; round <= roundCount; round++) {
    for (const sender of senders) rounds[sender].push(timed(await runTimetable(lab, sender, count, rate)));
  }
  return rounds;
}

function timed({ scheduledAtMs, sentAtMs, acceptedAtMs, receivedAtMs }: TimedEvents): Timed {
  const aheadCount = receivedAtMs.filter((at, index) => at < acceptedAtMs[index]!).length;
  return {
    // The sender may read its 200 after the delivery has arrived: such an event took no time at all after it.
    accepted: percentilesOf(receivedAtMs.map((at, index) => Math.max(0, at - acceptedAtMs[index]!))),
    scheduled: percentilesOf(receivedAtMs.map((at, index) => at - scheduledAtMs[index]!)),
    late: percentilesOf(sentAtMs.map((at, index) => at - scheduledAtMs[index]!)),
    aheadShare: aheadCount / receivedAtMs.length,
  };
}

const names: Record<keyof Percentiles, string> = { p50: "p50", p90: "p90", p99: "p99", p999: "p99.9" };
const barsMs: Partial<Record<keyof Percentiles, number>> = { p50: 5, p99: 25 };

function describe(rate: number, rounds: Record<Sender, Timed[]>): Measure[] {
  const measures: Measure[] = [];
  for (const since of ["accepted", "scheduled"] as const) {
    for (const [percentile, name] of Object.entries(names) as [keyof Percentiles, string][]) {
      const of = (sender: Sender) => spreadOf(rounds[sender].map((round) => round[since][percentile]));
      const [gateway, relay] = [of("gateway"), of("relay")];
      const barMs = rate === 1_000 && since === "accepted" ? barsMs[percentile] : undefined;
      measures.push({
        label: `${rate.toLocaleString("en-US")}/s, ${since} to received, ${name}`,
        unit: "ms",
        gateway,
        relay,
        // Nothing can be compared to no time.
        ...(relay.min > 0 && { ratio: ratioOf(gateway, relay) }),
        ...(barMs !== undefined && { bar: { text: `< ${barMs} ms`, isMet: gateway.median < barMs } }),
      });
    }
  }
  return measures;
}

/** The places of the percentiles are even: each stands for a tenth as many events as the one before, or half. */
function curveOf(label: string, rounds: readonly Timed[]): Curve {
  const percentiles = Object.keys(names) as (keyof Percentiles)[];
  const points = percentiles.map((percentile, index) => ({
    x: index,
    y: spreadOf(rounds.map((round) => round.scheduled[percentile])).median,
  }));
  return { label, points };
}
