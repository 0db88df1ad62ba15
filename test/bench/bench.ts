/**
 * `npm run bench`: how fast the gateway is, and what that costs, each figure beside that of a bare relay which stores
 * nothing. All parts share this machine. `npm run bench -- peak latency` measures these alone.
 *
 * Writes report.json, report.md and report.svg into BENCH_DIR (default ./bench-report). BENCH_SCALE (default 1)
 * multiplies all counts: 0.1 shows in a fraction of the time that all works, its figures are worth little.
 */

import { mkdir, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { measureBacklog } from "./backlog.ts";
import { measureClaim } from "./claim.ts";
import { describeMachine, describeSettings, describeVersions } from "./conditions.ts";
import { measureFanOut } from "./fan-out.ts";
import { type Lab, openLab } from "./lab.ts";
import { measureLatency } from "./latency.ts";
import { watchMemory } from "./memory.ts";
import { measureFromOutside } from "./outside.ts";
import { measurePeak } from "./peak.ts";
import { drawReport } from "./plot.ts";
import { type Report, writeReport, writeSection } from "./report.ts";
import type { Section } from "./section.ts";
import { measureTransform } from "./transform.ts";

const steps: Record<string, (lab: Lab) => Promise<Section>> = {
  peak: measurePeak,
  outside: measureFromOutside,
  "fan-out": measureFanOut,
  latency: measureLatency,
  backlog: measureBacklog,
  claim: measureClaim,
  transform: measureTransform,
};

const { names, scale, directory } = readOrder(process.argv.slice(2), process.env);
const startedAt = new Date();
const opening = openLab(scale);
let isInterrupted = false;
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    isInterrupted = true;
    void opening.then((lab) => lab.close()).finally(() => process.exit(1));
  });
}
const lab = await opening;
// `npm run bench | head` closes the pipe: the report is written all the same, and no process is left behind.
process.stdout.on("error", () => undefined);
try {
  const report = await measure(lab);
  if (!isInterrupted) await writeAll(report);
} finally {
  await lab.close();
}

async function measure(lab: Lab): Promise<Report> {
  const memory = await watchMemory(lab.gateway.pid);
  const sections: Section[] = [];
  for (const name of names) {
    const section = await measureStep(name, lab);
    await memory.note(name);
    sections.push(section);
    print(`${writeSection(section).join("\n")}\n`);
  }
  sections.push(memory.section());
  print(`${writeSection(sections.at(-1)!).join("\n")}\n`);
  return {
    startedAt: startedAt.toISOString(),
    durationSeconds: (Date.now() - startedAt.getTime()) / 1_000,
    machine: describeMachine(),
    versions: describeVersions(lab),
    settings: describeSettings(lab),
    sections,
  };
}

/** One step that fails costs the others nothing. */
async function measureStep(name: string, lab: Lab): Promise<Section> {
  try {
    return await steps[name]!(lab);
  } catch (error) {
    process.exitCode = 1;
    process.stderr.write(`${name}: ${error instanceof Error ? error.stack : error}\n`);
    const reason = error instanceof Error ? error.message : String(error);
    return { name, title: name, notes: [`Failed: ${reason}`], measures: [] };
  }
}

async function writeAll(report: Report): Promise<void> {
  await mkdir(directory, { recursive: true });
  await writeFile(join(directory, "report.json"), `${JSON.stringify(report, null, 2)}\n`);
  await writeFile(join(directory, "report.md"), writeReport(report));
  await writeFile(join(directory, "report.svg"), drawReport(report));
  print(`${Math.round(report.durationSeconds)} s; report.md, report.json and report.svg are in ${directory}`);
}

function readOrder(asked: string[], environment: NodeJS.ProcessEnv) {
  const unknown = asked.filter((name) => !Object.hasOwn(steps, name));
  const scale = Number(environment.BENCH_SCALE ?? 1);
  if (unknown.length > 0) {
    stop(`There is no step ${unknown.join(", ")}; there are ${Object.keys(steps).join(", ")}.`);
  }
  if (!(scale > 0 && scale <= 10)) stop("BENCH_SCALE must be a number above 0, at most 10.");
  return {
    names: Object.keys(steps).filter((name) => asked.length === 0 || asked.includes(name)),
    scale,
    directory: resolve(environment.BENCH_DIR ?? "bench-report"),
  };
}

function stop(fault: string): never {
  process.stderr.write(`${fault}\n`);
  process.exit(64);
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
