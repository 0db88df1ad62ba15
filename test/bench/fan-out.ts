/** One event to ten webhooks. */

import { ratioOf } from "./figures.ts";
import { fanOutCount, type Lab } from "./lab.ts";
import { ratesOf, runRounds } from "./peak.ts";
import type { Section } from "./section.ts";

const eventCountMax = 3_000;

export async function measureFanOut(lab: Lab): Promise<Section> {
  const rounds = await runRounds(lab, "fanOut", Math.ceil(eventCountMax * lab.scale));
  const count = rounds.eventCount;
  const [relay, gateway] = [ratesOf(rounds.relay), ratesOf(rounds.gateway)];
  return {
    name: `Fan-out to ${fanOutCount}`,
    title: `Fan-out, one event to ${fanOutCount} webhooks`,
    notes: [
      `${count.toLocaleString("en-US")} events a round, ${(count * fanOutCount).toLocaleString("en-US")} deliveries; each webhook signs with a secret of its own, as the relay does for each endpoint.`,
    ],
    measures: [{ label: "end to end", unit: "deliveries/s", gateway, relay, ratio: ratioOf(gateway, relay) }],
  };
}
