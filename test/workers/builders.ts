import type { DeliveryJob, JobEvent, TransformTask } from "../../server/workers/job.ts";
import type { WorkerSettings } from "../../server/workers/settings.ts";

export function someSettings(changes: Partial<WorkerSettings> = {}): WorkerSettings {
  return {
    mode: "development",
    allowedNetworks: [],
    caPem: null,
    egressProxy: null,
    version: "1.2.3",
    transformTimeoutMs: 250,
    ...changes,
  };
}

export function aJobEvent(changes: Partial<JobEvent> = {}): JobEvent {
  return {
    id: "0199c0de-0000-7000-8000-00000000e001",
    type: "message.received",
    itemJson:
      '{"from":"15550001111","id":"wamid.A","timestamp":"1772712000","type":"text","text":{"body":"Hi"}}',
    occurredAtMs: 1_772_712_000_000,
    receivedAtMs: 1_772_712_001_000,
    phoneNumberId: "100200300",
    businessPhone: "15550009999",
    wabaId: "900800700",
    clientRef: "partner-123",
    user: { phone: "15550001111", bsuid: null, waId: "15550001111", profileName: "Ada" },
    ...changes,
  };
}

export function aTask(changes: Partial<TransformTask> = {}): TransformTask {
  return {
    transformer: "echo",
    options: {},
    event: aJobEvent(),
    conversation: null,
    mediaUrl: null,
    ...changes,
  };
}

let jobCount = 0;

/** Each job is a delivery of its own. */
export function aJob(changes: Partial<DeliveryJob> = {}): DeliveryJob {
  jobCount++;
  return {
    deliveryId: `0199c0de-0000-7000-8000-${jobCount.toString(16).padStart(12, "0")}`,
    webhookId: 7,
    attemptNumber: 1,
    url: "http://127.0.0.1:9/unset",
    headers: {},
    secrets: [],
    scheme: null,
    payload: { kind: "transform", task: aTask() },
    timeoutMs: 2_000,
    responseBytesMax: 65_536,
    replyDelayMaxMs: null,
    ...changes,
  };
}
