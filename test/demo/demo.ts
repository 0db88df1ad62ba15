/**
 * `npm run demo`: the real gateway beside four endpoints and a stand-in for WhatsApp, a day's worth of WhatsApp bodies,
 * and an account of all that came in and went out. It ends with 0 only if every delivery arrived as promised.
 */

import { styleText } from "node:util";
import { version } from "../../server/version.ts";
import type { Account } from "./checks.ts";
import { type Gateway, retrySeconds, withGateway } from "./gateway.ts";
import { readTroubled, waitUntilSettled } from "./log.ts";
import { playPosts, playRefusals, publishAgain } from "./posts.ts";
import * as print from "./print.ts";
import { registerAll } from "./registration.ts";
import { playReplies } from "./replies.ts";
import { report } from "./report.ts";
import { makeScenes } from "./scenes.ts";
import { openStage, type Stage } from "./stage.ts";

const beganAtMs = performance.now();
const stopped = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const)
  process.once(signal, () => stopped.abort(new Error(signal)));

try {
  const stage = await openStage();
  try {
    print.printHeading("Posthorn, from a WhatsApp body to a signed delivery");
    await withGateway(stage.graph.url, (gateway) => {
      const interrupted = new Promise<never>((_, reject) => {
        stopped.signal.addEventListener("abort", () => reject(stopped.signal.reason));
      });
      return Promise.race([play(gateway, stage), interrupted]);
    });
  } finally {
    await stage.close();
  }
} catch (error) {
  print.printLine(
    styleText("red", `\nThe demo broke off: ${error instanceof Error ? error.message : error}`),
  );
  process.exitCode = 1;
}

async function play(gateway: Gateway, stage: Stage): Promise<void> {
  print.printFact("gateway", `${gateway.url}, a process of its own, up in ${Math.round(gateway.startMs)} ms`);
  print.printFact("database", "embedded PostgreSQL, new, removed at the end");
  print.printFact("retries", `after ${retrySeconds.join(", ")} s (shortened; the default is 10, 60, 300 s)`);
  const webhookIds = await registerAll(gateway, stage.endpoints);

  print.printHeading("What comes in (▶) and what goes out (└▶); the time is since the body was posted");
  const scenes = makeScenes(Math.floor(Date.now() / 1000) - 60);
  const posts = await playPosts(gateway, stage, scenes, stopped.signal);
  const repeats = await publishAgain(gateway, scenes[0]!);
  const wrongRefusals = await playRefusals(gateway);

  print.printHeading("Until the last retry");
  const log = await waitUntilSettled(gateway, stage);
  const troubled = await readTroubled(gateway, stage);

  print.printHeading("An answer with three timed replies, with the other webhooks turned off");
  for (const id of webhookIds) await gateway.webhooks.updateWebhook({ id, status: false });
  const replies = await playReplies(gateway, stage.graph);

  const account: Account = {
    wrongAnswers: [...posts.wrongAnswers, ...wrongRefusals],
    expected: posts.expected,
    arrivals: stage.arrivals,
    repeats,
    log,
    troubled,
    retrySeconds,
    secrets: [...stage.endpoints.flatMap(({ secret }) => secret ?? []), ...replies.secrets],
    gatewayOutput: gateway.output(),
    version,
  };
  if (!report(account, replies, scenes.length, beganAtMs)) process.exitCode = 1;
}
