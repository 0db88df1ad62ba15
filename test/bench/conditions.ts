/** Under which conditions the figures hold: machine, versions and settings. */

import { arch, availableParallelism, cpus, platform, release, totalmem } from "node:os";
import { maxInFlight } from "./gateway.ts";
import type { Lab } from "./lab.ts";
import { loadConnections } from "./traffic.ts";

export function describeMachine(): Record<string, string | number> {
  return {
    processor: cpus()[0]?.model.trim() ?? "unknown",
    cores: `${availableParallelism()} cores`,
    memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
    system: `${platform()} ${release()} ${arch()}`,
  };
}

export function describeVersions(lab: Lab): Record<string, string> {
  return {
    node: `Node ${process.versions.node}`,
    database: lab.database.version,
    endpoint: lab.endpoint.name,
  };
}

export function describeSettings(lab: Lab): Record<string, string | number> {
  return {
    gateway: "defaults of development, embedded database",
    ...lab.database.settings,
    max_in_flight: `${maxInFlight}; of webhooks in the fan-out the default`,
    "load's connections": loadConnections,
    "endpoint of latency": "a Node process",
    "load average before": lab.loadAverageBefore.toFixed(1),
    ...(lab.scale !== 1 && { "BENCH_SCALE (figures are worth little)": lab.scale }),
  };
}
