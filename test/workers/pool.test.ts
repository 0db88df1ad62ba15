import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { AttemptReport } from "../../server/domain/attempt-report.ts";
import { createLogger } from "../../server/log.ts";
import {
  createWorkerPool,
  type JobKey,
  type WorkerPool,
  type WorkerPoolOptions,
} from "../../server/workers/pool.ts";
import { type Receiver, type ReceiverOptions, startReceiver } from "../helpers/receiver.ts";
import { aJob, aTask, someSettings } from "./builders.ts";

let reports: AttemptReport[];
let bundleSizes: number[];
let lost: JobKey[];
let pool: WorkerPool;
let receivers: Receiver[];
beforeEach(() => {
  reports = [];
  bundleSizes = [];
  lost = [];
  receivers = [];
});
afterEach(async () => {
  await pool.close();
  for (const receiver of receivers) await receiver.close();
});

function startPool(options: Partial<WorkerPoolOptions> = {}): WorkerPool {
  pool = createWorkerPool({
    threads: 1,
    settings: someSettings(),
    log: { warn: () => {}, error: () => {} },
    onReports: (bundle) => {
      reports.push(...bundle);
      bundleSizes.push(bundle.length);
    },
    onLost: (jobs) => lost.push(...jobs),
    threadFile: new URL("./fixtures/thread.ts", import.meta.url),
    ...options,
  });
  return pool;
}

async function receive(options: ReceiverOptions = {}): Promise<Receiver> {
  const receiver = await startReceiver(options);
  receivers.push(receiver);
  return receiver;
}

const misbehaving = (transformer: string) =>
  aJob({ payload: { kind: "transform", task: aTask({ transformer }) } });

const untilAnswered = (count: number) =>
  expect.poll(() => reports.length + lost.length, { timeout: 8_000 }).toBe(count);

describe("a job", () => {
  test("is transformed, signed and posted, and its report holds the payload it made", async () => {
    const receiver = await receive({ answer: { status: 202, body: "ok" } });
    startPool();
    const beforeMs = Date.now();
    const job = aJob({
      url: `${receiver.url}?q=1`,
      secrets: ["whsec_UG9zdGhvcm4tZXhhbXBsZS1zZWNyZXQtMzJieXRlcyE="],
      scheme: "intelli",
      headers: { "X-Api-Key": "k\r\n1", "User-Agent": "mine", "Content-Type": "text/evil", "X-Name": "Zoë" },
    });
    pool.run([job]);
    const [request] = await receiver.waitForRequests(1);
    await untilAnswered(1);
    const { itemJson } = aTask().event;
    expect(request!.body.toString()).toBe(itemJson);
    expect(request!.headers).toMatchObject({
      "content-type": "application/json",
      "user-agent": "Posthorn/1.2.3",
      "webhook-id": job.deliveryId,
      "webhook-timestamp": expect.stringMatching(/^\d{10}$/),
      "webhook-signature": expect.stringMatching(/^v1,/),
      "x-intelli-signature": expect.stringMatching(/^sha256=[0-9a-f]{64}$/),
      "x-api-key": "k1",
      "x-name": Buffer.from("Zoë").toString("latin1"),
    });
    const [report] = reports;
    expect(report).toMatchObject({
      kind: "succeeded",
      deliveryId: job.deliveryId,
      webhookId: 7,
      attemptNumber: 1,
      payload: { contentType: "application/json", headers: {}, transformerVersion: "1" },
      response: { status: 202 },
    });
    expect(report!.startedAtMs).toBeGreaterThanOrEqual(beforeMs);
    expect(report!.durationMs).toBeGreaterThanOrEqual(0);
    const payload = report!.kind === "succeeded" ? report!.payload : null;
    expect(Buffer.from(payload!.body).toString()).toBe(itemJson);
  });

  test("whose payload was made before is sent as it is, and the payload does not come back", async () => {
    const receiver = await receive();
    startPool();
    const body = Buffer.from("--made--").subarray(2, 6);
    pool.run([
      aJob({
        url: receiver.url,
        payload: { kind: "made", body, contentType: "text/plain", headers: { "x-t": "1" } },
      }),
    ]);
    const [request] = await receiver.waitForRequests(1);
    await untilAnswered(1);
    expect(request!.body.toString()).toBe("made");
    expect(request!.headers).toMatchObject({ "content-type": "text/plain", "x-t": "1" });
    expect(request!.headers["webhook-signature"]).toBeUndefined();
    expect(reports[0]).toMatchObject({ kind: "succeeded", payload: null });
  });

  test("that fails is a report, and so is one whose transformer is not loaded", async () => {
    const receiver = await receive({ answer: { status: 500 } });
    startPool();
    pool.run([aJob({ url: receiver.url }), misbehaving("gone")]);
    await untilAnswered(2);
    expect(reports.map(({ kind }) => kind).sort()).toEqual(["failed", "transformer_error"]);
    expect(lost).toEqual([]);
  });

  test("that is slow does not hold back its neighbours' reports", async () => {
    const receiver = await receive({ answer: ({ path }) => (path === "/hang" ? { kind: "hang" } : {}) });
    startPool();
    const slow = aJob({ url: `http://127.0.0.1:${receiver.port}/hang`, timeoutMs: 3_000 });
    pool.run([slow, ...Array.from({ length: 20 }, () => aJob({ url: receiver.url }))]);
    await untilAnswered(20);
    expect(pool.inFlightCount()).toBe(1);
    expect(reports.some(({ deliveryId }) => deliveryId === slow.deliveryId)).toBe(false);
  });

  test("reports of many jobs come in bundles of at most 64", async () => {
    const receiver = await receive();
    startPool();
    pool.run(Array.from({ length: 500 }, () => aJob({ url: receiver.url })));
    await untilAnswered(500);
    expect(Math.max(...bundleSizes)).toBeLessThanOrEqual(64);
    expect(bundleSizes.length).toBeLessThan(250);
    expect(new Set(reports.map(({ deliveryId }) => deliveryId)).size).toBe(500);
  });
});

describe("the threads", () => {
  test("share one run, so half of it goes on while a thread stands still", async () => {
    const receiver = await receive();
    startPool({ threads: 2, stillSecondsMax: 3 });
    await pool.ready();
    expect(pool.isHealthy()).toBe(true);
    const looping = Array.from({ length: 8 }, () => misbehaving("loop"));
    const sent = Array.from({ length: 8 }, () => aJob({ url: receiver.url }));
    pool.run([...looping, ...sent]);
    await untilAnswered(8);
    expect(reports.map(({ deliveryId }) => deliveryId).sort()).toEqual(
      sent.map(({ deliveryId }) => deliveryId).sort(),
    );
    await untilAnswered(16);
    expect(lost).toHaveLength(8);
  }, 15_000);

  test("one that loops is ended by the watchdog: its jobs are lost, and a new thread goes on", async () => {
    const receiver = await receive();
    startPool({ stillSecondsMax: 2 });
    await pool.ready();
    const looping = misbehaving("loop");
    pool.run([looping]);
    await untilAnswered(1);
    expect(lost).toEqual([{ deliveryId: looping.deliveryId, attemptNumber: 1 }]);
    pool.run([aJob({ url: receiver.url })]);
    await untilAnswered(2);
    expect(reports).toHaveLength(1);
    await expect.poll(() => pool.isHealthy(), { timeout: 5_000 }).toBe(true);
  }, 15_000);

  test.each(["crash", "exhaust"])(
    "one that dies (%s) loses what it had not reported, and no more",
    async (how) => {
      const receiver = await receive({ answer: ({ path }) => (path === "/hang" ? { kind: "hang" } : {}) });
      startPool({ heapMaxMib: 64 });
      const done = aJob({ url: receiver.url });
      pool.run([done]);
      await untilAnswered(1);
      const hanging = aJob({ url: `http://127.0.0.1:${receiver.port}/hang` });
      pool.run([hanging]);
      await receiver.waitForRequests(2);
      const deadly = misbehaving(how);
      pool.run([deadly]);
      await untilAnswered(3);
      expect(reports.map(({ deliveryId }) => deliveryId)).toEqual([done.deliveryId]);
      expect(lost.map(({ deliveryId }) => deliveryId).sort()).toEqual(
        [hanging.deliveryId, deadly.deliveryId].sort(),
      );
      pool.run([aJob({ url: receiver.url })]);
      await untilAnswered(4);
      expect(reports).toHaveLength(2);
    },
    15_000,
  );

  test("why threads cannot start is in the log", async () => {
    const lines: string[] = [];
    startPool({
      log: createLogger("error", { write: (line) => lines.push(line) }),
      threadFile: new URL("./fixtures/broken-thread.ts", import.meta.url),
    });
    await expect(pool.ready()).rejects.toThrow();
    expect(lines.join("")).toContain("this thread does not start");
  });

  test("threads that cannot start are noticed, and jobs handed to them are lost", async () => {
    const broken: Error[] = [];
    const waiting = aJob();
    let failureCount = 0;
    startPool({
      log: {
        warn: () => {},
        // Handed over while the thread that replaces the first one starts, which then fails too.
        error: () => {
          if (failureCount++ === 0) pool.run([waiting]);
        },
      },
      threadFile: new URL("./fixtures/broken-thread.ts", import.meta.url),
      onBroken: (error) => broken.push(error),
    });
    await expect(pool.ready()).rejects.toThrow("this thread does not start");
    expect(broken).toHaveLength(1);
    const late = aJob();
    pool.run([late]);
    await untilAnswered(2);
    expect(lost.map(({ deliveryId }) => deliveryId).sort()).toEqual(
      [waiting.deliveryId, late.deliveryId].sort(),
    );
    expect(pool.isHealthy()).toBe(false);
  });
});

describe("close", () => {
  test("settles when nothing is in flight any more, and may be called twice", async () => {
    const receiver = await receive({ answer: { delayMs: 200 } });
    startPool();
    pool.run([aJob({ url: receiver.url }), aJob({ url: receiver.url })]);
    const closing = pool.close();
    expect(pool.close()).toBe(closing);
    expect(reports).toHaveLength(0);
    await closing;
    expect(reports).toHaveLength(2);
    expect(() => pool.run([aJob()])).toThrow("closed");
  });
});

test("the threads of the gateway itself start, with the transformers that come with it", async () => {
  const receiver = await receive();
  startPool({ threadFile: undefined });
  await pool.ready();
  pool.run([
    aJob({ url: receiver.url, payload: { kind: "transform", task: aTask({ transformer: "intelli" }) } }),
  ]);
  await untilAnswered(1);
  expect(reports[0]).toMatchObject({ kind: "succeeded" });
  expect(JSON.parse(receiver.requests[0]!.body.toString())).toMatchObject({ event: "message.received" });
});
