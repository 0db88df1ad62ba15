/** The report as text that people read: one table a section, every figure with its spread. Pure. */

import type { Spread } from "./figures.ts";
import type { Measure, Section, Unit } from "./section.ts";

export interface Report {
  /** ISO 8601, in UTC. */
  startedAt: string;
  durationSeconds: number;
  machine: Record<string, string | number>;
  versions: Record<string, string>;
  settings: Record<string, string | number>;
  sections: Section[];
}

/** Markdown whose tables line up as plain text too. */
export function writeReport(report: Report): string {
  const facts = { ...report.machine, ...report.versions, ...report.settings };
  const lines = [
    "# Benchmark",
    "",
    `${report.startedAt}, ${Math.round(report.durationSeconds)} s. Median of the rounds, with the least and the most in brackets. Ratio: gateway to bare relay, round by round.`,
    "",
    ...formatTable([
      ["what", "value"],
      ...Object.entries(facts).map(([name, value]) => [name, String(value)]),
    ]),
    "",
    "![Plot](report.svg)",
  ];
  for (const section of report.sections) lines.push("", ...writeSection(section));
  return `${lines.join("\n")}\n`;
}

export function writeSection({ title, notes, measures }: Section): string[] {
  const lines = [`## ${title}`, "", ...notes];
  if (measures.length === 0) return lines;
  const hasRelay = measures.some((measure) => measure.relay);
  const hasRatio = measures.some((measure) => measure.ratio);
  const hasBar = measures.some((measure) => measure.bar);
  const head = ["", "gateway"];
  if (hasRelay) head.push("relay");
  if (hasRatio) head.push("ratio");
  if (hasBar) head.push("goal");
  const rows = measures.map((measure) => {
    const row = [measure.label, formatSpread(measure.gateway, measure.unit)];
    if (hasRelay) row.push(measure.relay ? formatSpread(measure.relay, measure.unit) : "");
    if (hasRatio) row.push(measure.ratio ? formatSpread(measure.ratio, null) : "");
    if (hasBar) row.push(formatBar(measure));
    return row;
  });
  return [...lines, "", ...formatTable([head, ...rows])];
}

/** `7,318 /s (7,001 … 7,402)`; a single round has no spread. Null = the system does not tell. */
export function formatSpread(spread: Spread | null, unit: Unit | null): string {
  if (spread === null) return "unknown";
  const { min, median, max, rounds } = spread;
  const middle = `${formatNumber(median)}${unit === null ? "" : ` ${shortUnits[unit]}`}`;
  return rounds.length === 1 ? middle : `${middle} (${formatNumber(min)} … ${formatNumber(max)})`;
}

const shortUnits: Record<Unit, string> = {
  "deliveries/s": "/s",
  ms: "ms",
  µs: "µs",
  MiB: "MiB",
  "CPU s": "s",
  bytes: "B",
  pages: "pages",
  times: "times",
};

/** Three digits that say something, thousands apart. */
export function formatNumber(value: number): string {
  const size = Math.abs(value);
  const decimals = size >= 100 ? 0 : size >= 10 ? 1 : 2;
  return value.toLocaleString("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
}

function formatBar({ bar }: Measure): string {
  return bar ? `${bar.text}: ${bar.isMet ? "met" : "missed"}` : "";
}

function formatTable(rows: string[][]): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(3, ...rows.map((row) => row[column]!.length)));
  const format = (row: string[]) =>
    `| ${row.map((cell, column) => cell.padEnd(widths[column]!)).join(" | ")} |`;
  const [head, ...body] = rows;
  return [format(head!), `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`, ...body.map(format)];
}
