/** The report as one picture (SVG): rates and processor time as bars, latency and backlog as curves. Pure. */

import type { Spread } from "./figures.ts";
import { drawCurves } from "./plot-curves.ts";
import { escapeText, type Frame, text } from "./plot-parts.ts";
import { formatNumber, type Report } from "./report.ts";
import type { Unit } from "./section.ts";

const chartWidth = 620;
const chartHeight = 380;
const titleHeight = 70;
const colours = { gateway: "#1f77b4", relay: "#b8bec6" };

export function drawReport(report: Report): string {
  const bars = (unit: Unit, title: string) => {
    const rows = report.sections.flatMap((section) =>
      section.measures
        .filter((measure) => measure.unit === unit && (measure.gateway || measure.relay))
        .map((measure) => ({
          label: unit === "deliveries/s" ? section.name : measure.label,
          gateway: measure.gateway,
          relay: measure.relay ?? null,
        })),
    );
    return rows.length === 0 ? [] : [(frame: Frame) => drawBars(frame, title, rows)];
  };
  const curves = report.sections.flatMap(({ chart }) =>
    chart?.curves.some((curve) => curve.points.length > 1)
      ? [(frame: Frame) => drawCurves(frame, chart)]
      : [],
  );
  const charts = [
    ...bars("deliveries/s", "Deliveries a second"),
    ...curves,
    ...bars("CPU s", "Processor time for 1,000 deliveries, seconds"),
    ...bars("µs", "Making one payload, µs"),
  ];
  const height = titleHeight + Math.ceil(charts.length / 2) * chartHeight;
  const drawn = charts.map((draw, index) =>
    draw({
      x: (index % 2) * chartWidth + 30,
      y: titleHeight + Math.floor(index / 2) * chartHeight,
      width: chartWidth - 60,
      height: chartHeight - 40,
    }),
  );
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${2 * chartWidth}" height="${height}" font-family="sans-serif" font-size="12">`,
    `<rect width="100%" height="100%" fill="white"/>`,
    text(30, 30, "Gateway and bare relay on one machine", 'font-size="18" font-weight="bold"'),
    text(
      30,
      50,
      [...Object.values(report.machine), ...Object.values(report.versions)].join(", "),
      'fill="#555"',
    ),
    ...drawn,
    "</svg>",
    "",
  ].join("\n");
}

interface BarRow {
  label: string;
  gateway: Spread | null;
  relay: Spread | null;
}

/** Two bars a row, each with a line from its least to its most and its median in figures. */
function drawBars(frame: Frame, title: string, rows: readonly BarRow[]): string {
  const labelWidth = 190;
  const figureWidth = 60;
  const most = Math.max(...rows.flatMap(({ gateway, relay }) => [gateway?.max ?? 0, relay?.max ?? 0]));
  const scale = (value: number) => (value / most) * (frame.width - labelWidth - figureWidth);
  const rowHeight = Math.min(60, (frame.height - 50) / rows.length);
  const barHeight = Math.min(18, rowHeight * 0.36);
  const left = frame.x + labelWidth;
  const parts = [text(frame.x, frame.y + 14, title, 'font-weight="bold"')];
  for (const [index, sender] of (["gateway", "relay"] as const).entries()) {
    const x = left + index * 90;
    parts.push(`<rect x="${x}" y="${frame.y + 24}" width="12" height="12" fill="${colours[sender]}"/>`);
    parts.push(text(x + 17, frame.y + 34, sender));
  }
  for (const [index, row] of rows.entries()) {
    const top = frame.y + 48 + index * rowHeight;
    parts.push(text(left - 8, top + barHeight + 4, row.label, 'text-anchor="end"'));
    for (const [line, sender] of (["gateway", "relay"] as const).entries()) {
      const spread = row[sender];
      if (spread === null) continue;
      const y = top + line * (barHeight + 1);
      const middle = y + barHeight / 2;
      parts.push(
        `<rect x="${left}" y="${y}" width="${scale(spread.median)}" height="${barHeight}" fill="${colours[sender]}"><title>${escapeText(`${row.label}, ${sender}: ${spread.rounds.map(formatNumber).join(", ")}`)}</title></rect>`,
        `<path d="M${left + scale(spread.min)} ${middle}H${left + scale(spread.max)}" stroke="black"/>`,
        text(left + scale(spread.max) + 5, middle + 4, formatNumber(spread.median)),
      );
    }
  }
  return parts.join("\n");
}
