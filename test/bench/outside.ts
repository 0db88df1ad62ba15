/** The peak rate once more, with wrk for the load: a program that knows nothing of ours confirms or refutes it. */

import { spawn, spawnSync } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { makeRequests, nowMs } from "./bodies.ts";
import { ratioOf, spreadOf } from "./figures.ts";
import type { Lab, Sender } from "./lab.ts";
import { roundCount } from "./peak.ts";
import type { Section } from "./section.ts";
import { deliveredCount, loadConnections, settle } from "./traffic.ts";

const seconds = { relay: 2, gateway: 4 };
/** More than a gateway answers in its seconds, since it drops repeats. The relay may get some bodies twice. */
const requestCount = { relay: 40_000, gateway: 60_000 };
const settleBoundMs = 60_000;
const heading = { name: "Peak, load by wrk", title: "Peak rate, one webhook, load by wrk" };

export async function measureFromOutside(lab: Lab): Promise<Section> {
  const found = spawnSync("wrk", ["-v"], { encoding: "utf8" });
  if (found.error) {
    return { ...heading, notes: ["Left out: wrk is not installed."], measures: [] };
  }
  const rates: Record<Sender, number[]> = { relay: [], gateway: [] };
  for (let round = 1; round <= roundCount; round++) {
    for (const sender of ["relay", "gateway"] as const) rates[sender].push(await runRound(lab, sender));
  }
  const [relay, gateway] = [spreadOf(rates.relay), spreadOf(rates.gateway)];
  const version = /wrk \S+/.exec(found.stdout)?.[0] ?? "wrk";
  return {
    ...heading,
    notes: [
      `${version}, ${loadConnections} connections for ${durationOf(lab, "gateway")} s (relay ${durationOf(lab, "relay")} s), bodies signed beforehand, each of the gateway's its own; from the first arrival to the last.`,
    ],
    measures: [{ label: "end to end", unit: "deliveries/s", gateway, relay, ratio: ratioOf(gateway, relay) }],
  };
}

function durationOf(lab: Lab, sender: Sender): number {
  return Math.max(1, Math.round(seconds[sender] * lab.scale));
}

async function runRound(lab: Lab, sender: Sender): Promise<number> {
  const file = join(lab.directory, "requests");
  const count = Math.ceil(requestCount[sender] * lab.scale);
  const address = `127.0.0.1:${lab.portOf(sender)}`;
  const { phoneNumberId } = lab.routes.peak;
  const requests = makeRequests(address, { phoneNumberId, first: lab.takeNumbers(count), count });
  await writeFile(
    file,
    requests.flatMap((request) => [Buffer.from(String(request.length).padStart(8, "0")), request]),
  );
  const deliveredBefore = await deliveredCount(lab, "peak");
  const arrivals = watchArrivals(lab, await lab.endpoint.arrivedCount());
  const duration = durationOf(lab, sender);
  const { answeredCount, failedCount } = await runWrk(address, duration, file);
  if (failedCount > 0) throw new Error(`wrk tells of ${failedCount} requests that failed`);
  if (sender === "gateway" && answeredCount > count)
    throw new Error(`wrk needs more than ${count} requests in ${duration} s`);
  const { arrivedCount, seconds: took } = await arrivals.finish(answeredCount);
  if (sender === "gateway") await settle(lab, "peak", deliveredBefore + arrivedCount);
  return arrivedCount / took;
}

/** Notes when the endpoint's count grows for the first and for the last time. */
function watchArrivals(lab: Lab, countBefore: number) {
  let [firstAtMs, lastAtMs, arrivedCount] = [0, 0, 0];
  let isWanted = true;
  const watching = (async () => {
    while (isWanted) {
      const count = (await lab.endpoint.arrivedCount()) - countBefore;
      const atMs = nowMs();
      if (count > 0 && firstAtMs === 0) firstAtMs = atMs;
      if (count > arrivedCount) [arrivedCount, lastAtMs] = [count, atMs];
      await sleep(10);
    }
  })();
  return {
    /**
     * Waits until as many have arrived as were answered, and nothing more comes: when its time is over wrk drops its
     * connections, and what was under way on them is delivered though wrk counts no answer.
     */
    async finish(answeredCount: number) {
      const endMs = nowMs() + settleBoundMs;
      while (arrivedCount < answeredCount || nowMs() - lastAtMs < 500) {
        if (nowMs() > endMs) throw new Error(`${arrivedCount} of ${answeredCount} deliveries arrived`);
        await sleep(50);
      }
      isWanted = false;
      await watching;
      return { arrivedCount, seconds: (lastAtMs - firstAtMs) / 1_000 };
    },
  };
}

async function runWrk(address: string, durationSeconds: number, file: string) {
  const script = fileURLToPath(new URL("wrk.lua", import.meta.url));
  const child = spawn(
    "wrk",
    [
      "-t1",
      "--timeout",
      "30s",
      `-c${loadConnections}`,
      `-d${durationSeconds}s`,
      "-s",
      script,
      `http://${address}`,
      "--",
      file,
    ],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    output += text;
  });
  const timer = setTimeout(() => child.kill("SIGKILL"), durationSeconds * 1_000 + 30_000);
  const code = await new Promise((resolve) => child.once("close", resolve));
  clearTimeout(timer);
  const counts = /answered=(\d+) failed=(\d+)/.exec(output);
  if (code !== 0 || !counts) throw new Error(`wrk ended with code ${code}:\n${output}`);
  return { answeredCount: Number(counts[1]), failedCount: Number(counts[2]) };
}
