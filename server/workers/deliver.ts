/** Step 5 of the path of one event: transform, sign, send, report. Runs in a worker thread. */

import type { Transformer } from "../../plugins/transformer.ts";
import type { AttemptReport } from "../domain/attempt-report.ts";
import { makeSignatureHeaders } from "../domain/signer.ts";
import type { DeliveryJob } from "./job.ts";
import { readReplies } from "./replies.ts";
import { assembleHeaders } from "./request-headers.ts";
import type { PostResult, Sender } from "./send.ts";
import type { WorkerSettings } from "./settings.ts";
import { makePayload } from "./transform.ts";

/** Makes one attempt of a delivery. Failures are reports, not rejections. */
export type Deliver = (job: DeliveryJob) => Promise<AttemptReport>;

export function createDeliver(
  sender: Sender,
  transformers: readonly Transformer[],
  settings: WorkerSettings,
): Deliver {
  const transformerByName = new Map(transformers.map((transformer) => [transformer.name, transformer]));

  return async (job) => {
    const startedAtMs = Date.now();
    const startMs = performance.now();
    const report = <T extends object>(outcome: T) => ({
      deliveryId: job.deliveryId,
      webhookId: job.webhookId,
      attemptNumber: job.attemptNumber,
      startedAtMs,
      durationMs: Math.round(performance.now() - startMs),
      ...outcome,
    });

    if (job.payload.kind === "made") {
      const result = await sendPayload(job, job.payload, startedAtMs);
      return report({ payload: null, ...toOutcome(result, job) });
    }
    const made = await makePayload(job.payload.task, transformerByName, settings.transformTimeoutMs);
    if (made.kind !== "made") return report(made);
    const result = await sendPayload(job, made.payload, startedAtMs);
    return report({ payload: made.payload, ...toOutcome(result, job) });
  };

  /** Signs and sends bytes that were made, here or elsewhere. */
  function sendPayload(job: DeliveryJob, payload: SendablePayload, startedAtMs: number): Promise<PostResult> {
    const timestampSeconds = Math.floor(startedAtMs / 1000);
    const own = {
      "Content-Type": payload.contentType,
      "User-Agent": `Posthorn/${settings.version}`,
      "webhook-id": job.deliveryId,
      "webhook-timestamp": String(timestampSeconds),
      ...makeSignatureHeaders({
        secrets: job.secrets,
        scheme: job.scheme,
        deliveryId: job.deliveryId,
        timestampSeconds,
        body: payload.body,
      }),
    };
    return sender.post({
      url: job.url,
      headers: assembleHeaders({ own, webhook: job.headers, transformer: payload.headers }),
      body: payload.body,
      timeoutMs: job.timeoutMs,
      responseBytesMax: job.responseBytesMax,
      isBodyWanted: job.replyDelayMaxMs !== null,
    });
  }
}

/** The body stays in the thread: what it schedules is told instead. */
function toOutcome(result: PostResult, { replyDelayMaxMs }: DeliveryJob) {
  if (result.kind === "failed") return result;
  const { kind, response, body } = result;
  const replies = body === null || replyDelayMaxMs === null ? null : readReplies(body, replyDelayMaxMs);
  return { kind, response, ...(replies && { replies }) };
}

interface SendablePayload {
  body: Uint8Array;
  contentType: string;
  headers: Record<string, string>;
}
