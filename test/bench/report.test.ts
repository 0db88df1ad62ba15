import { describe, expect, test } from "vitest";
import { spreadOf } from "./figures.ts";
import { drawReport } from "./plot.ts";
import { formatNumber, formatSpread, type Report, writeReport, writeSection } from "./report.ts";
import type { Section } from "./section.ts";

const peak: Section = {
  name: "Peak",
  title: "Peak rate",
  notes: ["As fast as it goes."],
  measures: [
    {
      label: "end to end",
      unit: "deliveries/s",
      gateway: spreadOf([7_000, 8_000, 6_500]),
      relay: spreadOf([20_000, 21_000, 19_000]),
      ratio: spreadOf([0.35, 0.381, 0.342]),
      bar: { text: "≥ 0.35 of the relay", isMet: true },
    },
    { label: "processor", unit: "CPU s", gateway: null },
  ],
};

const report: Report = {
  startedAt: "2026-03-05T12:00:00.000Z",
  durationSeconds: 12.3,
  machine: { processor: "A <fast> one", cores: "2 cores" },
  versions: { node: "Node 26.10.0" },
  settings: { fsync: "on" },
  sections: [peak],
};

describe("the report as text", () => {
  test("shows the median with its spread, the relay, the ratio and whether the goal is met", () => {
    const line = writeSection(peak).find((one) => one.includes("end to end"))!;
    const cells = line.split("|").map((cell) => cell.trim());
    expect(cells.slice(1, -1)).toEqual([
      "end to end",
      "7,000 /s (6,500 … 8,000)",
      "20,000 /s (19,000 … 21,000)",
      "0.35 (0.34 … 0.38)",
      "≥ 0.35 of the relay: met",
    ]);
  });

  test("says so when the system does not tell a figure", () => {
    expect(writeSection(peak).find((one) => one.includes("processor"))).toContain("unknown");
  });

  test("lines its columns up", () => {
    const lengths = writeSection(peak)
      .filter((line) => line.startsWith("|"))
      .map((line) => line.length);
    expect(lengths).toHaveLength(4);
    expect(new Set(lengths).size).toBe(1);
  });

  test("of a step that measured nothing is its notes", () => {
    const lines = writeSection({ name: "x", title: "Left out", notes: ["Not installed."], measures: [] });
    expect(lines).toEqual(["## Left out", "", "Not installed."]);
  });

  test("names machine, versions and settings", () => {
    const text = writeReport(report);
    for (const value of ["A <fast> one", "2 cores", "Node 26.10.0", "fsync"]) expect(text).toContain(value);
  });

  test.each([
    [12_345.6, "12,346"],
    [45.67, "45.7"],
    [0.456, "0.46"],
    [0, "0.00"],
  ])("writes %d with the digits that say something", (value, written) => {
    expect(formatNumber(value)).toBe(written);
  });

  test("gives a single round no spread", () => {
    expect(formatSpread(spreadOf([234]), "MiB")).toBe("234 MiB");
  });
});

describe("the plot", () => {
  const chart = {
    title: "Latency, ms",
    xLabel: "percentile",
    xNames: ["p50", "p99"],
    isLogarithmic: true,
    curves: [
      {
        label: "gateway",
        points: [
          { x: 0, y: 1 },
          { x: 1, y: 100 },
        ],
      },
    ],
  };
  const drawn = drawReport({ ...report, sections: [{ ...peak, chart }] });

  test("draws a bar whose length is the share of the longest measured value", () => {
    const widths = [...drawn.matchAll(/<rect x="220"[^>]* width="([\d.]+)"[^>]*><title>Peak, (\w+):/g)];
    const [gateway, relay] = ["gateway", "relay"].map((sender) =>
      Number(widths.find((one) => one[2] === sender)?.[1]),
    );
    expect(gateway! / relay!).toBeCloseTo(7_000 / 20_000);
  });

  test("puts values a hundred times apart two steps of a logarithmic axis apart", () => {
    const [, from, to] = /d="M[\d.]+ ([\d.]+)L[\d.]+ ([\d.]+)" fill="none"/.exec(drawn)!.map(Number);
    const ticks = [...drawn.matchAll(/<path d="M[\d.]+ ([\d.]+)H[\d.]+" stroke="#ddd"/g)].map((one) =>
      Number(one[1]),
    );
    expect(from).toBeCloseTo(ticks[0]!);
    expect(to).toBeCloseTo(ticks[2]!);
  });

  test("holds no text as markup, and no value that is no number", () => {
    expect(drawn).toContain("A &lt;fast&gt; one");
    expect(drawn).not.toMatch(/NaN|Infinity|undefined/);
  });

  test("of a report without figures is still a picture", () => {
    expect(drawReport({ ...report, sections: [] })).toMatch(/^<svg .*<\/svg>\n$/s);
  });
});
