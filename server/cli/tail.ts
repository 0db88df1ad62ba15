/** Follows attempts on the live stream, going on where it broke off. */

import { setTimeout as sleep } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  type WatchDeliveriesResponse,
  WatchDeliveriesResponseSchema,
} from "../../gen/posthorn/v1/delivery_service_pb.ts";
import { type Fields, printNote, showText, showTime, toFields } from "./output.ts";

const tryAgainMs = 2_000;
/** The gateway shows a sign of life every 15 seconds. */
const silenceMaxDefaultMs = 45_000;

/**
 * Runs until the process is stopped. A gateway that is away, stops, breaks off or is busy is waited for, and nothing is
 * left out.
 *
 * @param watch         opens the stream, from where the token says (empty = from now on), until the signal ends it
 * @param silenceMaxMs  a stream that says nothing for so long is opened anew: what is at its other end may be gone
 * @throws ConnectError for what waiting does not mend
 */
export async function followAttempts(
  watch: (resumeToken: string, signal: AbortSignal) => AsyncIterable<WatchDeliveriesResponse>,
  asJson: boolean,
  silenceMaxMs = silenceMaxDefaultMs,
): Promise<never> {
  let resumeToken = "";
  let isAway = false;
  for (;;) {
    let hasBegun = false;
    const silent = new AbortController();
    const timer = setTimeout(() => silent.abort(), silenceMaxMs);
    try {
      for await (const message of watch(resumeToken, silent.signal)) {
        timer.refresh();
        if (resumeToken === "") printNote("Following attempts; Ctrl+C ends it.");
        resumeToken = message.resumeToken;
        isAway = false;
        hasBegun = true;
        if (message.attempt) process.stdout.write(lineOf(message, asJson));
      }
    } catch (error) {
      if (!silent.signal.aborted && !isPassing(error, hasBegun)) throw error;
      const reason = silent.signal.aborted ? "the gateway is silent" : (error as ConnectError).rawMessage;
      if (!isAway) printNote(`posthorn: ${reason}; trying again`);
      isAway = true;
    } finally {
      clearTimeout(timer);
    }
    await sleep(tryAgainMs);
  }
}

function lineOf(message: WatchDeliveriesResponse, asJson: boolean): string {
  const fields = toFields(WatchDeliveriesResponseSchema, message);
  if (asJson) return `${JSON.stringify(fields)}\n`;
  const { delivery, attempt } = fields as unknown as { delivery: Fields; attempt: Fields };
  const parts = [
    showTime(attempt.started_at),
    `attempt ${attempt.number}`,
    String(attempt.outcome).padEnd(9),
    String(attempt.response_status ?? attempt.error_kind ?? "-"),
    `${attempt.duration_ms} ms`.padStart(8),
    String(delivery.state).padEnd(9),
    `webhook ${delivery.webhook_id}`,
    delivery.event_type,
    delivery.id,
  ];
  return `${showText(parts.join("  ").trimEnd())}\n`;
}

/** A stream that had begun can be cut off in any way (by a gateway that was killed, a proxy): only a refusal ends it. */
function isPassing(error: unknown, hasBegun: boolean): boolean {
  if (!(error instanceof ConnectError)) return false;
  const refusals = [Code.Unauthenticated, Code.PermissionDenied, Code.NotFound];
  if (hasBegun) return !refusals.includes(error.code);
  return [Code.Unavailable, Code.DeadlineExceeded, Code.ResourceExhausted, Code.Aborted].includes(error.code);
}
