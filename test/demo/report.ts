/** The end of the demo: what came of it, in words, numbers and checks. */

import { styleText } from "node:util";
import { checkReplies } from "./check-replies.ts";
import { type Account, checkAll, waitsBetween } from "./checks.ts";
import * as print from "./print.ts";
import type { RepliesAccount } from "./replies.ts";

/**
 * Gives false if anything was not as promised.
 *
 * @param beganAtMs  on the clock of `performance.now()`
 */
export function report(
  account: Account,
  replies: RepliesAccount,
  sceneCount: number,
  beganAtMs: number,
): boolean {
  const { arrivals, troubled, log } = account;
  print.printHeading(`The log of delivery ${troubled.id}`);
  const waits = waitsBetween(troubled.attempts);
  print.printTable([
    ["attempt", "waited", "took", "outcome", "answer"],
    ...troubled.attempts.map(
      ({ number, durationMs, outcome, errorKind, responseStatus, responseBody }, index) => [
        String(number),
        index === 0 ? "" : `${Math.round(waits[index - 1]!)} ms`,
        `${durationMs} ms`,
        [outcome, errorKind].filter(Boolean).join(", "),
        [responseStatus, responseBody && JSON.stringify(responseBody)].filter(Boolean).join(" ") || "none",
      ],
    ),
  ]);

  print.printHeading("In numbers");
  const tally = [...Map.groupBy(log, ({ state }) => state)].map(([state, all]) => `${all.length} ${state}`);
  print.printFact("bodies", `${sceneCount} and a repeat, a forged one and one that makes no sense`);
  print.printFact("deliveries", tally.join(", "));
  print.printFact(
    "requests",
    `${arrivals.length}, of which ${arrivals.filter(({ number }) => number > 1).length} retries`,
  );

  print.printHeading("Checks");
  const checks = [...checkAll(account), ...checkReplies(replies)];
  print.printChecks(checks);
  const wrongCount = checks.filter(({ faults }) => faults.length > 0).length;
  const tookSeconds = ((performance.now() - beganAtMs) / 1000).toFixed(1);
  if (wrongCount === 0) {
    print.printLine(styleText(["bold", "green"], `\nAll is right, after ${tookSeconds} s.`));
  } else {
    print.printLine(styleText(["bold", "red"], `\n${wrongCount} of ${checks.length} checks failed.`));
    print.printHeading("What the gateway printed");
    print.printLine(account.gatewayOutput);
  }
  return wrongCount === 0;
}
