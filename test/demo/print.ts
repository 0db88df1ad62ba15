/** What the demo shows on the terminal. */

import { styleText } from "node:util";
import type { EndpointName, ExpectedDelivery } from "./expected.ts";
import type { Arrival } from "./receiver.ts";

const endpointColors: Record<EndpointName, "cyan" | "magenta" | "yellow"> = {
  intelli: "cyan",
  insights: "magenta",
  raw: "yellow",
};

export function printLine(line = ""): void {
  process.stdout.write(`${line}\n`);
}

export function printHeading(text: string): void {
  printLine(`\n${styleText("bold", text)}`);
}

export function printFact(name: string, value: string): void {
  printLine(`  ${styleText("dim", name.padEnd(16))}${value}`);
}

/** A body that is being posted. */
export function printPosted(title: string): void {
  printLine(`  ${styleText("bold", `▶ ${title}`)}`);
}

export function printNote(text: string): void {
  printLine(`    ${styleText("dim", text)}`);
}

/** A request that an endpoint got. */
export function printArrival(arrival: Arrival, sincePostMs: number | null): void {
  const { endpoint, number, answered, signatureFaults, rawBody } = arrival;
  const name = styleText(endpointColors[endpoint], endpoint.padEnd(9));
  const answer =
    answered === 200 ? styleText("green", "200  ") : styleText("red", String(answered).padEnd(5));
  const signed = signatureFaults.length > 0 ? styleText("red", "BAD SIGNATURE") : describeSigning(arrival);
  const time = sincePostMs === null ? styleText("yellow", `attempt ${number}`) : formatMs(sincePostMs);
  printLine(`    └▶ ${name} ${answer} ${time}  ${signed}  ${shorten(summarize(endpoint, rawBody), 56)}`);
}

function describeSigning({ endpoint }: Arrival): string {
  return endpoint === "raw" ? styleText("dim", "unsigned") : styleText("green", "signed ✓");
}

/** What a payload says, in a few words. */
export function summarize(endpoint: EndpointName, body: string): string {
  const payload = JSON.parse(body);
  switch (endpoint) {
    case "intelli": {
      if (payload.event === "message.status")
        return `${payload.event}  ${payload.status.status} to ${payload.to}`;
      const { type } = payload.message;
      const detail = payload.message[type];
      const shown = detail.body ?? detail.emoji ?? detail.caption ?? detail.name ?? "";
      return `${payload.event}  ${type} ${shown === "" ? "" : `“${shown}” `}from ${payload.contact.name}`;
    }
    case "insights":
      return `${payload.last_messages.length} in conversation with ${payload.recipient_name}: “${payload.last_messages[0].content}”`;
    case "raw":
      return `${payload.event} ${payload.message_template_name}`;
  }
}

export function describeExpected({ endpoint, body }: ExpectedDelivery): string {
  return body === null ? `${endpoint}: nothing to send` : `${endpoint}: ${summarize(endpoint, body)}`;
}

/** Rows below a head, each column as wide as its longest cell. */
export function printTable(rows: string[][]): void {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  for (const [index, row] of rows.entries()) {
    const line = row.map((cell, column) => cell.padEnd(widths[column]!)).join("  ");
    printLine(`  ${index === 0 ? styleText("dim", line) : line}`.trimEnd());
  }
}

export function printChecks(checks: { promise: string; faults: string[] }[]): void {
  for (const { promise, faults } of checks) {
    const mark = faults.length === 0 ? styleText("green", "✓") : styleText("red", "✗");
    printLine(`  ${mark} ${promise}`);
    for (const fault of faults) printLine(`      ${styleText("red", fault)}`);
  }
}

export function formatMs(ms: number): string {
  return `${ms.toFixed(1)} ms`.padStart(9);
}

function shorten(text: string, width: number): string {
  const characters = [...text];
  return characters.length <= width ? text : `${characters.slice(0, width - 1).join("")}…`;
}
