/**
 * Tries a webhook out: one attempt with a sample event, made by the same threads as every other, outside the dispatcher.
 * No row is read or written for it, so nothing is retried, logged or scheduled.
 */

import type { Clock } from "../clock.ts";
import type { Attempt } from "../domain/attempt.ts";
import type { AttemptReport } from "../domain/attempt-report.ts";
import { GatewayError } from "../domain/errors.ts";
import { coversType, type EventType, type IncomingEvent } from "../domain/event.ts";
import { gatewayTypes, messageTypes } from "../domain/event-types.ts";
import type { IdSource } from "../domain/ids.ts";
import { type WebhookTarget, wantsType } from "../domain/webhook.ts";
import type { DirectoryKeeper } from "../store/directory.ts";
import type { TransformerFacts } from "../workers/catalog.ts";
import type { DeliveryJob } from "../workers/job.ts";
import type { PluginPool } from "../workers/plugin-pool.ts";
import type { PluginResult } from "../workers/plugin-protocol.ts";
import type { JobKey } from "../workers/pool.ts";
import { buildJob, type JobLimits } from "./jobs.ts";
import { sampleHistory, sampleStoredEvent } from "./sample-input.ts";

export interface ProbeResult {
  eventType: EventType;
  /** The `webhook-id` of the request. */
  deliveryId: string;
  /** Null if no request was made. */
  attempt: Attempt | null;
  /** Why no request was made; null if one was. */
  reason: "skipped" | "transformer_error" | null;
  reasonDetail: string | null;
  /** Null if no request was made, or its thread went away. */
  payload: { contentType: string; body: Uint8Array } | null;
}

export interface Probe {
  /**
   * Sends a sample event to a webhook, which may be off or paused.
   *
   * @param eventType  null = one that the webhook wants, else one that its transformer handles
   * @throws GatewayError `not_found`, `invalid_input` if the transformer does not handle the type, `wrong_state` if it is
   *         not loaded, `over_limit` while too many probes run, `unavailable` while the gateway stops
   */
  run(webhookId: number, eventType: EventType | null): Promise<ProbeResult>;
  /** Keeps the reports of probes and gives back the others. */
  takeReports(reports: AttemptReport[]): AttemptReport[];
  /** Keeps the lost probes and gives back the others. */
  takeLost(keys: JobKey[]): JobKey[];
  /** Starts none any more; those under way end with their threads. */
  close(): Promise<void>;
}

export interface ProbeParts {
  directory: Pick<DirectoryKeeper, "current" | "refresh">;
  /** Hands jobs to the threads. */
  run(jobs: DeliveryJob[]): void;
  factsOf(transformer: string): TransformerFacts | undefined;
  plugins: Pick<PluginPool, "isPlugin" | "transform">;
  /** Null if there is no sample of this type. */
  sampleEvent(type: EventType, at: Date): IncomingEvent | null;
  ids: IdSource;
  clock: Clock;
}

/** They hold a request of the API open each. */
const inFlightMax = 32;

export function createProbe(parts: ProbeParts, limits: JobLimits): Probe {
  const { directory, clock, ids } = parts;
  /** By delivery id; null = lost. */
  const inFlight = new Map<string, (report: AttemptReport | null) => void>();
  let makingCount = 0;
  let isClosed = false;

  return {
    async run(webhookId, eventType) {
      // Secrets, headers and URL as they are now, whoever changed them.
      await directory.refresh();
      const target = directory.current.webhooks.get(webhookId);
      if (target === undefined) throw new GatewayError("not_found", `webhook ${webhookId} does not exist`);
      const facts = parts.factsOf(target.transformer);
      if (facts === undefined) {
        const message = `transformer ${target.transformer} is not loaded: install it, or choose another one`;
        throw new GatewayError("wrong_state", message);
      }
      const event = sampleOf(eventType ?? chooseType(target, facts), facts);
      if (isClosed) throw new GatewayError("unavailable", "the gateway is stopping, try again");
      if (inFlight.size + makingCount >= inFlightMax) {
        throw new GatewayError("over_limit", `${inFlightMax} tests run already, try again in a few seconds`);
      }
      const startedAt = clock.now();
      const job = jobOf(event, target, facts, startedAt);
      const made = isForPlugin(job) ? await makeByPlugin(job) : null;
      if (made !== null && made.kind !== "made") {
        return toResult(
          event.type,
          job.deliveryId,
          { ...emptyReport(job, startedAt), ...made },
          startedAt,
          startedAt,
        );
      }
      const report = await new Promise<AttemptReport | null>((resolve) => {
        inFlight.set(job.deliveryId, resolve);
        parts.run([job]);
      });
      const result = toResult(event.type, job.deliveryId, report, startedAt, clock.now());
      return made === null ? result : { ...result, payload: made.payload };
    },
    takeReports(reports) {
      if (inFlight.size === 0) return reports;
      return reports.filter((report) => !settle(report.deliveryId, report));
    },
    takeLost: (keys) => keys.filter(({ deliveryId }) => !settle(deliveryId, null)),
    async close() {
      isClosed = true;
    },
  };

  function isForPlugin(job: DeliveryJob): job is PluginJob {
    return job.payload.kind === "transform" && parts.plugins.isPlugin(job.payload.task.transformer);
  }

  /** Lets a plugin make the payload of the job, which then only has to be sent. */
  async function makeByPlugin(job: PluginJob): Promise<PluginResult> {
    const { task } = job.payload;
    makingCount += 1;
    const outcome = await parts.plugins.transform(task);
    makingCount -= 1;
    if (outcome.kind === "held") {
      throw new GatewayError(
        "wrong_state",
        `transformer ${task.transformer} cannot run now: ${outcome.reason}`,
      );
    }
    if (outcome.kind === "made") (job as DeliveryJob).payload = { kind: "made", ...outcome.payload };
    return outcome;
  }

  /** False if this is no probe. */
  function settle(deliveryId: string, report: AttemptReport | null): boolean {
    const resolve = inFlight.get(deliveryId);
    inFlight.delete(deliveryId);
    resolve?.(report);
    return resolve !== undefined;
  }

  function sampleOf(type: EventType, facts: TransformerFacts): IncomingEvent {
    const refuse = (message: string) =>
      new GatewayError("invalid_input", `event_type: ${message}`, { field: "event_type" });
    if (!handles(facts, type)) {
      throw refuse(`transformer ${facts.name} handles ${facts.handles.join(", ")}, not ${type}`);
    }
    const event = parts.sampleEvent(type, clock.now());
    if (event === null) throw refuse(`there is no sample of ${type}`);
    return event;
  }

  function jobOf(
    event: IncomingEvent,
    target: WebhookTarget,
    facts: TransformerFacts,
    now: Date,
  ): DeliveryJob {
    const stored = sampleStoredEvent(event, target, ids.next(), now);
    const claimed = {
      id: ids.next(),
      webhookId: target.id,
      tenantId: target.tenantId,
      eventId: stored.id,
      attemptNumber: 1,
      roundAttemptCount: 0,
      isResend: false,
      payload: null,
    };
    const historyCount = facts.historyCount(target.transformerOptions ?? {});
    return buildJob(claimed, stored, sampleHistory(event, historyCount, now), target, facts, limits, now);
  }
}

type PluginJob = DeliveryJob & { payload: Extract<DeliveryJob["payload"], { kind: "transform" }> };

/** A type that shows the webhook at work: one that it wants, else one that its transformer can make something of. */
function chooseType(target: WebhookTarget, facts: TransformerFacts): EventType {
  const named = [...target.eventTypes, ...facts.handles].filter((pattern) => !pattern.endsWith("*"));
  const candidates = [...messageTypes, ...named, "whatsapp.account_update", ...gatewayTypes];
  return (
    candidates.find((type) => wantsType(target, type, facts.handles)) ??
    candidates.find((type) => handles(facts, type)) ??
    messageTypes[0]!
  );
}

function handles(facts: TransformerFacts, type: EventType): boolean {
  return facts.handles.some((pattern) => coversType(pattern, type));
}

function emptyReport({ deliveryId, webhookId, attemptNumber }: DeliveryJob, startedAt: Date) {
  return { deliveryId, webhookId, attemptNumber, startedAtMs: startedAt.getTime(), durationMs: 0 };
}

function toResult(
  eventType: EventType,
  deliveryId: string,
  report: AttemptReport | null,
  startedAt: Date,
  endedAt: Date,
): ProbeResult {
  const result = { eventType, deliveryId, attempt: null, reason: null, reasonDetail: null, payload: null };
  const attempt = {
    deliveryId,
    number: 1,
    errorKind: null,
    errorMessage: null,
    response: null,
    replyFault: null,
  };
  if (report === null) {
    const durationMs = endedAt.getTime() - startedAt.getTime();
    return { ...result, attempt: { ...attempt, startedAt, durationMs, outcome: "lost" } };
  }
  if (report.kind === "skipped") return { ...result, reason: "skipped" };
  if (report.kind === "transformer_error") {
    return { ...result, reason: "transformer_error", reasonDetail: report.message };
  }
  const failure =
    report.kind === "failed" ? { errorKind: report.errorKind, errorMessage: report.errorMessage } : {};
  return {
    ...result,
    attempt: {
      ...attempt,
      ...failure,
      startedAt: new Date(report.startedAtMs),
      durationMs: report.durationMs,
      outcome: report.kind,
      response: report.response,
    },
    payload: report.payload,
  };
}
