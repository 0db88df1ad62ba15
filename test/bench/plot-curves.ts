/** A chart of curves over two axes. */

import { type Frame, text } from "./plot-parts.ts";
import { formatNumber } from "./report.ts";
import type { Chart } from "./section.ts";

const colours = ["#1f77b4", "#9fc3e0", "#d62728", "#e8a3a3", "#2ca02c", "#9467bd"];
const margin = { left: 60, right: 110, top: 30, bottom: 36 };

export function drawCurves(frame: Frame, chart: Chart): string {
  const points = chart.curves.flatMap((curve) => curve.points);
  const left = frame.x + margin.left;
  const right = frame.x + frame.width - margin.right;
  const top = frame.y + margin.top;
  const bottom = frame.y + frame.height - margin.bottom;
  const xMost = chart.xNames ? chart.xNames.length - 1 : Math.max(...points.map(({ x }) => x));
  const xOf = (x: number) => left + (x / (xMost || 1)) * (right - left);
  const ticks = chart.isLogarithmic
    ? decadesAround(points.map(({ y }) => y))
    : evenTicks(Math.max(...points.map(({ y }) => y)));
  const [least, most] = [ticks[0]!, ticks.at(-1)!];
  const shareOf = (y: number) =>
    chart.isLogarithmic
      ? Math.log10(Math.max(y, least) / least) / Math.log10(most / least)
      : (y - least) / (most - least);
  const yOf = (y: number) => bottom - shareOf(y) * (bottom - top);

  const parts = [text(frame.x, frame.y + 14, chart.title, 'font-weight="bold"')];
  for (const tick of ticks) {
    parts.push(`<path d="M${left} ${yOf(tick)}H${right}" stroke="#ddd"/>`);
    parts.push(text(left - 6, yOf(tick) + 4, formatTick(tick), 'text-anchor="end"'));
  }
  const xTicks = chart.xNames
    ? chart.xNames.map((_, index) => index)
    : evenTicks(xMost).filter((x) => x <= xMost);
  for (const tick of xTicks) {
    const name = chart.xNames?.[tick] ?? formatTick(tick);
    parts.push(text(xOf(tick), bottom + 16, name, 'text-anchor="middle"'));
  }
  parts.push(text((left + right) / 2, bottom + 32, chart.xLabel, 'text-anchor="middle" fill="#555"'));
  for (const [index, curve] of chart.curves.entries()) {
    const colour = colours[index % colours.length]!;
    const path = curve.points.map(({ x, y }) => `${xOf(x).toFixed(1)} ${yOf(y).toFixed(1)}`).join("L");
    parts.push(`<path d="M${path}" fill="none" stroke="${colour}" stroke-width="2"/>`);
    parts.push(text(right + 12, top + 12 + index * 18, curve.label, `fill="${colour}" font-weight="bold"`));
  }
  return parts.join("\n");
}

/** Powers of ten from below the least value to above the most. */
function decadesAround(values: readonly number[]): number[] {
  const first = Math.floor(Math.log10(Math.max(0.01, Math.min(...values))));
  const last = Math.max(first + 1, Math.ceil(Math.log10(Math.max(...values))));
  return Array.from({ length: last - first + 1 }, (_, index) => 10 ** (first + index));
}

/** From 0 on, five steps or so, of 1, 2 or 5 times a power of ten. */
function evenTicks(most: number): number[] {
  if (!(most > 0)) return [0, 1];
  const rough = most / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((factor) => factor * power >= rough) ?? 10);
  return Array.from({ length: Math.ceil(most / step) + 1 }, (_, index) => index * step);
}

function formatTick(value: number): string {
  return Number.isInteger(value) ? value.toLocaleString("en-US") : formatNumber(value).replace(/\.?0+$/, "");
}
