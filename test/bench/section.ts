/** What a step of the benchmark found, in the form that the report writes down. */

import type { Spread } from "./figures.ts";

export type Unit = "deliveries/s" | "ms" | "µs" | "MiB" | "CPU s" | "bytes" | "pages" | "times";

export interface Measure {
  /** What was measured; begins a line of the report. */
  label: string;
  unit: Unit;
  /** Null when the system does not tell it. */
  gateway: Spread | null;
  /** The same of the bare relay in the same run; left out where it has no such thing. */
  relay?: Spread | null;
  /** Gateway to relay, round by round; left out where it says nothing. */
  ratio?: Spread;
  /** What it should be on two cores. */
  bar?: { text: string; isMet: boolean };
}

/** Points of a curve, `x` growing. */
export interface Curve {
  label: string;
  points: { x: number; y: number }[];
}

export interface Chart {
  title: string;
  xLabel: string;
  /** Names of the places 0, 1, 2, … of the x axis; left out = numbers. */
  xNames?: string[];
  /** True = each step of the y axis is ten times the one before. */
  isLogarithmic?: boolean;
  curves: Curve[];
}

export interface Section {
  /** A word or two, for the plot. */
  name: string;
  title: string;
  /** How it was measured, and what to keep in mind. */
  notes: string[];
  measures: Measure[];
  /** Drawn beside the bars that are made of the measures. */
  chart?: Chart;
}
