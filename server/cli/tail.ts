/** Follows deliveries by asking for the newest ones again and again, and telling what is new about them. */

import { setTimeout as sleep } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import { type Fields, printNote, showText } from "./output.ts";

const askEveryMs = 2_000;

/**
 * Runs until the process is stopped. What there is at the start is taken as known. A gateway that is away or busy is
 * waited for.
 *
 * @param ask  gives the newest deliveries, newest first
 * @throws ConnectError for what waiting does not mend
 */
export async function followDeliveries(ask: () => Promise<Fields[]>, asJson: boolean): Promise<never> {
  let known: Map<string, string> | null = null;
  let isAway = false;
  for (;;) {
    try {
      const found = await ask();
      const seen = new Map(found.map((delivery) => [String(delivery.id), signOf(delivery)]));
      const before: ReadonlyMap<string, string> = known ?? seen;
      for (const delivery of found.reverse()) {
        if (before.get(String(delivery.id)) !== signOf(delivery))
          process.stdout.write(lineOf(delivery, asJson));
      }
      if (known === null) printNote("Following deliveries; Ctrl+C ends it.");
      known = seen;
      isAway = false;
    } catch (error) {
      if (!isPassing(error)) throw error;
      if (!isAway) printNote(`posthorn: ${(error as ConnectError).rawMessage}; trying again`);
      isAway = true;
    }
    await sleep(askEveryMs);
  }
}

function signOf(delivery: Fields): string {
  return `${delivery.state} ${delivery.attempt_count}`;
}

function lineOf(delivery: Fields, asJson: boolean): string {
  if (asJson) return `${JSON.stringify(delivery)}\n`;
  const parts = [
    new Date().toISOString(),
    String(delivery.state).padEnd(10),
    `attempt ${delivery.attempt_count}`,
    `webhook ${delivery.webhook_id}`,
    delivery.event_type,
    delivery.id,
    delivery.reason ?? "",
  ];
  return `${showText(parts.join("  ").trimEnd())}\n`;
}

function isPassing(error: unknown): boolean {
  const codes = [Code.Unavailable, Code.DeadlineExceeded, Code.ResourceExhausted];
  return error instanceof ConnectError && codes.includes(error.code);
}
