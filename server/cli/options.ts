/** How the text of an option or argument becomes a value. Whether the value is allowed, the gateway says. */

import { readFileSync } from "node:fs";
import type { JsonObject } from "@bufbuild/protobuf";
import { type Timestamp, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { InvalidArgumentError } from "commander";

const uint32Max = 4_294_967_295;

export function wholeNumber(text: string): number {
  if (!/^\d{1,10}$/.test(text) || Number(text) > uint32Max) {
    throw new InvalidArgumentError("It must be a whole number.");
  }
  return Number(text);
}

export function positiveNumber(text: string): number {
  const value = wholeNumber(text);
  if (value === 0) throw new InvalidArgumentError("It must be at least 1.");
  return value;
}

/** For options that may be given several times, or once with commas. */
export function list(text: string, before: string[] = []): string[] {
  return [...before, ...text.split(",").map((piece) => piece.trim())];
}

/** For options that may be given several times, and whose values may hold commas. */
export function repeated(text: string, before: string[] = []): string[] {
  return [...before, text];
}

/** `Name: value`, several times. */
export function header(text: string, before: Record<string, string> = {}): Record<string, string> {
  const [, name, value] = /^([^:]+):\s*(.*)$/s.exec(text) ?? [];
  if (name === undefined || value === undefined) {
    throw new InvalidArgumentError("It must look like 'Name: value'.");
  }
  return { ...before, [name.trim()]: value };
}

export function jsonObject(text: string): JsonObject {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as JsonObject;
  } catch {
    // Told below, like every other text that is no object.
  }
  throw new InvalidArgumentError("It must be a JSON object such as '{\"history_size\": 20}'.");
}

const unitMs: Record<string, number> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** An instant, or how long ago it was: `2026-03-05T12:00:00Z`, `30m`, `7d`. */
export function pastTime(text: string): Timestamp {
  return time(text, -1);
}

/** An instant, or how long from now it is. */
export function futureTime(text: string): Timestamp {
  return time(text, 1);
}

function time(text: string, direction: 1 | -1): Timestamp {
  const [, count, unit] = /^(\d{1,9})([smhd])$/.exec(text) ?? [];
  const at =
    count !== undefined && unit !== undefined
      ? new Date(Date.now() + direction * Number(count) * unitMs[unit]!)
      : /^\d{4}-\d{2}-\d{2}/.test(text)
        ? new Date(text)
        : new Date(Number.NaN);
  const isFit = !Number.isNaN(at.getTime()) && at.getUTCFullYear() <= 9999 && at.getUTCFullYear() > 0;
  if (!isFit)
    throw new InvalidArgumentError("It must be a time such as 2026-03-05T12:00:00Z, 30m, 6h or 7d.");
  return timestampFromDate(at);
}

/** Secrets are read from a file, or from standard input for `-`: arguments can be seen by others on the machine. */
export function secretFile(path: string): string {
  let text: string;
  try {
    text = readFileSync(path === "-" ? 0 : path, "utf8");
  } catch (error) {
    throw new InvalidArgumentError(`It cannot be read: ${(error as Error).message}.`);
  }
  const secret = text.replace(/\r?\n$/, "");
  if (secret === "") throw new InvalidArgumentError("It is empty.");
  return secret;
}
