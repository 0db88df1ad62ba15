import { randomFillSync } from "node:crypto";
import { describe, expect, test } from "vitest";
import { builtinTransformers } from "../../plugins/builtin.ts";
import { systemClock } from "../../server/clock.ts";
import { createProbe, type Probe } from "../../server/delivery/probe.ts";
import type { AttemptReport } from "../../server/domain/attempt-report.ts";
import { createIdSource } from "../../server/domain/ids.ts";
import type { WebhookTarget } from "../../server/domain/webhook.ts";
import { emptyDirectory } from "../../server/store/configuration.ts";
import { makeSampleEvent } from "../../server/whatsapp/sample.ts";
import { describeTransformer } from "../../server/workers/catalog.ts";
import type { DeliveryJob } from "../../server/workers/job.ts";
import { openTestPlugins } from "../helpers/plugins.ts";

const limits = { requestTimeoutMs: 1_000, responseBytesMax: 1_000, scheduleResponseBytesMax: 1_000 };
const webhookId = 7;
const plugins = await openTestPlugins();

/** A probe of one webhook, whose jobs the test answers. */
function openProbe(changes: Partial<WebhookTarget> = {}): { probe: Probe; jobs: DeliveryJob[] } {
  const current = emptyDirectory();
  current.webhooks.set(webhookId, { ...aTarget, ...changes });
  const jobs: DeliveryJob[] = [];
  const catalog = new Map(builtinTransformers.map((one) => [one.name, describeTransformer(one)]));
  const probe = createProbe(
    {
      directory: { current, refresh: async () => undefined },
      run: (added) => jobs.push(...added),
      factsOf: (name) => catalog.get(name),
      plugins,
      sampleEvent: makeSampleEvent,
      ids: createIdSource(Date.now, (bytes) => randomFillSync(bytes)),
      clock: systemClock,
    },
    limits,
  );
  return { probe, jobs };
}

const aTarget: WebhookTarget = {
  id: webhookId,
  tenantId: 1,
  clientId: null,
  clientRef: null,
  url: "https://example.com/hook",
  isEnabled: true,
  isPaused: false,
  incoming: true,
  outgoing: false,
  scheduleActivity: false,
  waitingDurationSeconds: 0,
  isSigned: false,
  transformer: "raw",
  transformerOptions: null,
  eventTypes: [],
  maxInFlight: 64,
  description: "",
  disabledReason: null,
  disabledAt: null,
  createdAt: new Date(0),
  updatedAt: new Date(0),
  secrets: [],
  headers: {},
  fault: null,
};

const reported = (job: DeliveryJob) => ({
  deliveryId: job.deliveryId,
  webhookId: job.webhookId,
  attemptNumber: job.attemptNumber,
  startedAtMs: 1_772_712_000_000,
  durationMs: 12,
});

describe("a probe", () => {
  test("keeps its own reports and leaves all others to the dispatcher", async () => {
    const { probe, jobs } = openProbe();
    const running = probe.run(webhookId, null);
    await Promise.resolve();
    const own: AttemptReport = { ...reported(jobs[0]!), kind: "skipped" };
    const other: AttemptReport = { ...own, deliveryId: "0199c0de-0000-7000-8000-000000000001" };
    expect(probe.takeReports([other, own])).toEqual([other]);
    expect(await running).toMatchObject({ reason: "skipped", attempt: null, payload: null });
    expect(probe.takeReports([own])).toEqual([own]);
  });

  test("whose thread went away is told as lost", async () => {
    const { probe, jobs } = openProbe();
    const running = probe.run(webhookId, "message.received");
    await Promise.resolve();
    const other = { deliveryId: "0199c0de-0000-7000-8000-000000000001", attemptNumber: 1 };
    expect(probe.takeLost([other, jobs[0]!])).toEqual([other]);
    expect(await running).toMatchObject({ attempt: { outcome: "lost", number: 1 }, payload: null });
  });

  test("tells what a transformer did wrong", async () => {
    const { probe, jobs } = openProbe();
    const running = probe.run(webhookId, "message.received");
    await Promise.resolve();
    probe.takeReports([{ ...reported(jobs[0]!), kind: "transformer_error", message: "Error: no" }]);
    expect(await running).toMatchObject({
      reason: "transformer_error",
      reasonDetail: "Error: no",
      attempt: null,
    });
  });

  test("signs with the secrets that are live now", async () => {
    const secrets = [
      { secret: "ended", expiresAt: new Date(Date.now() - 1) },
      { secret: "former", expiresAt: new Date(Date.now() + 60_000) },
      { secret: "current", expiresAt: null },
    ];
    const { probe, jobs } = openProbe({ secrets, isSigned: true });
    const running = probe.run(webhookId, null);
    await Promise.resolve();
    expect(jobs[0]?.secrets).toEqual(["former", "current"]);
    probe.takeLost([jobs[0]!]);
    await running;
  });

  test("needs a transformer that is loaded", async () => {
    const { probe } = openProbe({ transformer: "gone" });
    await expect(probe.run(webhookId, null)).rejects.toMatchObject({ kind: "wrong_state" });
  });

  test("starts no more once it is closed", async () => {
    const { probe, jobs } = openProbe();
    await probe.close();
    await expect(probe.run(webhookId, null)).rejects.toMatchObject({ kind: "unavailable" });
    expect(jobs).toEqual([]);
  });
});
