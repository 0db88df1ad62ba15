import type { Outcome } from "./scene.ts";

const columns = [
  ["acknowledged", "acknowledged"],
  ["delivered", "delivered"],
  ["failed", "failed"],
  ["duplicates", "duplicates"],
  ["lost tries", "lostAttempts"],
  ["lost", "lost"],
  ["longest delay", "longestDelayMs"],
] as const satisfies readonly [string, keyof Outcome][];
const nameWidth = 38;

export function tableHead(): string {
  return `${"scenario".padEnd(nameWidth)}${columns.map(([title]) => title.padStart(14)).join("")}`;
}

/** One line of the table, and below it what is known besides. */
export function tableLine(outcome: Outcome): string {
  const figures = columns.map(([, name]) => {
    const text = name === "longestDelayMs" ? `${outcome[name]} ms` : String(outcome[name]);
    return text.padStart(14);
  });
  const more = [...outcome.notes, ...outcome.faults.map((fault) => `FAULT: ${fault}`)];
  return [`${outcome.name.padEnd(nameWidth)}${figures.join("")}`, ...more.map((line) => `    ${line}`)].join(
    "\n",
  );
}

/** The figures of one scenario, on standard output. */
export function show(outcome: Outcome): void {
  process.stdout.write(`${tableLine(outcome)}\n`);
}
