/**
 * Endpoints that break HTTP in every way, each with the same events, and a healthy one beside them: every attempt ends
 * within its bounds with the right error kind, and what is healthy does not notice.
 */

import { once } from "node:events";
import net, { type AddressInfo } from "node:net";
import { queryRows } from "../../helpers/query-rows.ts";
import { type Answer, type Receiver, startReceiver } from "../../helpers/receiver.ts";
import { measureDelays } from "../delays.ts";
import { type JudgedWebhook, judge, waitForEnds } from "../judge.ts";
import { createLedger, type Ledger } from "../ledger.ts";
import { startLoad } from "../load.ts";
import { callAs, type Outcome, openScene, watchMemory } from "../scene.ts";

export interface BadEndpointOptions {
  databaseUrl: string;
  /** Events that the bad endpoints get. */
  eventCount: number;
  /** Events a second for the healthy one, until the others have ended. */
  ratePerSecond: number;
}

/** `expected` is what the log must say of each attempt: an error kind, or `succeeded`. */
interface BadEndpoint {
  name: string;
  answer: Answer;
  expected: string;
}

const head = "HTTP/1.1 200 OK\r\n";
const badEndpoints: BadEndpoint[] = [
  { name: "resets", answer: { kind: "reset" }, expected: "broken_response" },
  { name: "closes", answer: { kind: "close" }, expected: "broken_response" },
  { name: "speaks-ssh", answer: raw("SSH-2.0-OpenSSH_9.7\r\n"), expected: "broken_response" },
  { name: "breaks-off-head", answer: raw(`${head}Content-Le`), expected: "broken_response" },
  {
    name: "endless-head",
    answer: raw(`${head}${`X-More: ${"x".repeat(1_000)}\r\n`.repeat(100)}`),
    expected: "broken_response",
  },
  // The status has come, and with it the success; a cut body is no failure.
  { name: "breaks-off-body", answer: raw(`${head}Content-Length: 100\r\n\r\nabc`), expected: "succeeded" },
  {
    name: "bad-chunk",
    answer: raw(`${head}Transfer-Encoding: chunked\r\n\r\nzz\r\n`),
    expected: "succeeded",
  },
  { name: "gigabytes", answer: { kind: "endless" }, expected: "succeeded" },
  { name: "gigabytes-of-error", answer: { kind: "endless", status: 500 }, expected: "http_status" },
  { name: "redirects", answer: { status: 307, headers: { Location: "/again" } }, expected: "http_status" },
  { name: "drips-body", answer: { kind: "drip", everyMs: 1_000 }, expected: "succeeded" },
  { name: "hangs", answer: { kind: "hang" }, expected: "timeout" },
];

const attemptsPerRound = 4;
const attemptMsMax = 10_000;
/** A machine under load sees a timer late. */
const lateMs = 3_000;
/** Five attempts with endless answers an event; each takes the sockets' buffers and 64 KiB. */
const writtenMibMax = 5 * 16;
const badNumberId = "620000000000666";
const healthyNumberId = "620000000000777";

export async function meetBadEndpoints(options: BadEndpointOptions): Promise<Outcome> {
  const { databaseUrl, ratePerSecond, eventCount } = options;
  const scene = await openScene({ databaseUrl, env: { POSTHORN_RETRY_SECONDS: "0.1,0.1,0.1" } });
  const badLedger = createLedger();
  const closers: (() => Promise<void>)[] = [];
  try {
    const { gateway, ledger } = scene;
    for (const [client_ref, phone_number_id] of Object.entries({
      bad: badNumberId,
      healthy: healthyNumberId,
    })) {
      const client = { client_ref, phone_numbers: [{ phone_number_id }] };
      await callAs(gateway, "default", "ClientService/CreateClient", client);
    }
    const healthy = await scene.addWebhook("healthy", { client_ref: "healthy" });
    const bad: ExpectedWebhook[] = [];
    const add = async (name: string, expected: string, { url, close }: OpenEndpoint) => {
      closers.push(close);
      bad.push({ ...(await scene.addWebhook(name, { webhooks: url, client_ref: "bad" })), expected });
    };
    const receivers: Receiver[] = [];
    for (const one of badEndpoints) {
      receivers.push(await openReceiver(badLedger, one));
      await add(one.name, one.expected, receivers.at(-1)!);
    }
    await add("drips-head", "timeout", await startHeadDripper());
    await add("refuses", "connect", await findClosedPort());
    await add("closes-under-request", "succeeded", await startCloser(badLedger));

    const peakMib = watchMemory(gateway.pid());
    const startedAtMs = performance.now();
    const load = { urls: () => [gateway.url()], ratePerSecond };
    const beside = startLoad({ ...load, ledger, prefix: "wamid.healthy", phoneNumberId: healthyNumberId });
    const toBad = startLoad({
      ...load,
      ledger: badLedger,
      prefix: "wamid.bad",
      phoneNumberId: badNumberId,
      countMax: eventCount,
    });
    await toBad.finish();
    await waitForEnds(databaseUrl, bad, attemptsPerRound * (attemptMsMax + lateMs) + 20_000);
    const tookMs = Math.round(performance.now() - startedAtMs);
    await beside.finish();
    await waitForEnds(databaseUrl, [healthy], 60_000);

    const outcome = await scene.judge("endpoints that break HTTP", [healthy]);
    const ofBad = await judge(databaseUrl, badLedger, bad);
    outcome.faults.push(...ofBad.faults, ...(await faultsOfAttempts(databaseUrl, bad)));
    for (const figure of ["acknowledged", "delivered", "failed", "duplicates", "lost"] as const) {
      outcome[figure] += ofBad[figure];
    }
    const writtenMib = Math.round(receivers.reduce((sum, one) => sum + one.bytesWritten(), 0) / 1_048_576);
    if (writtenMib > writtenMibMax * eventCount) {
      outcome.faults.push(`${writtenMib} MiB of answers were taken in`);
    }
    // Healthy traffic is held up by a busy machine at most, never by a time-out of the others.
    const delays = measureDelays(ledger, ["healthy"]);
    if (delays.p50Ms > attemptMsMax / 2) outcome.faults.push(`healthy deliveries took ${delays.p50Ms} ms`);
    outcome.notes.push(
      `${bad.length} bad endpoints, ${ofBad.failed} deliveries failed, the last after ${tookMs} ms`,
      `healthy traffic beside them: p50 ${delays.p50Ms} ms, p99 ${delays.p99Ms} ms`,
      `${writtenMib} MiB of endless answers were written before they were cut`,
      `gateway at most ${peakMib()} MiB`,
    );
    return outcome;
  } finally {
    await scene.close();
    for (const close of closers) await close();
  }
}

interface ExpectedWebhook extends JudgedWebhook {
  expected: string;
}

interface OpenEndpoint {
  url: string;
  close(): Promise<void>;
}

function raw(bytes: string): Answer {
  return { kind: "raw", bytes, thenClose: true };
}

async function openReceiver(ledger: Ledger, { name, answer, expected }: BadEndpoint): Promise<Receiver> {
  return await startReceiver({
    answer: ({ headers, body }) => {
      ledger.noteArrival(name, String(headers["webhook-id"]), body, expected === "succeeded");
      return answer;
    },
  });
}

/** The attempts of each webhook must all have ended as expected, within their bound. */
async function faultsOfAttempts(databaseUrl: string, bad: readonly ExpectedWebhook[]): Promise<string[]> {
  const rows = await queryRows(databaseUrl)(
    `SELECT d.webhook_id, coalesce(a.error_kind, a.outcome) AS ending, count(*)::int AS count,
       max(a.duration_ms) AS longest_ms
     FROM attempt a JOIN delivery d ON d.id = a.delivery_id GROUP BY 1, 2`,
  );
  const faults: string[] = [];
  for (const { id, endpoint, expected } of bad) {
    const own = rows.filter((row) => row.webhook_id === id);
    if (own.length === 0) faults.push(`${endpoint}: no attempt was made`);
    for (const { ending, count, longest_ms } of own) {
      if (ending !== expected) faults.push(`${endpoint}: ${count} attempts ended as ${ending}`);
      if (longest_ms > attemptMsMax + lateMs) faults.push(`${endpoint}: an attempt took ${longest_ms} ms`);
    }
  }
  return faults;
}

/** A byte of the answer's head a second. */
async function startHeadDripper(): Promise<OpenEndpoint> {
  const sockets = new Set<net.Socket>();
  const server = net.createServer((socket) => {
    sockets.add(socket);
    const bytes = `${head}X-Long: ${"x".repeat(1_000)}`;
    let index = 0;
    const timer = setInterval(() => socket.write(bytes[index++ % bytes.length]!), 1_000);
    socket.on("error", () => undefined);
    socket.on("close", () => {
      clearInterval(timer);
      sockets.delete(socket);
    });
    socket.resume();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`,
    async close() {
      const closed = once(server, "close");
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

async function findClosedPort(): Promise<OpenEndpoint> {
  const server = net.createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return { url: `http://127.0.0.1:${port}/hook`, close: async () => undefined };
}

/** Answers the first request of each connection, keeps it open, and closes it when another one comes on it. */
async function startCloser(ledger: Ledger): Promise<OpenEndpoint> {
  const used = new Set<number>();
  return await startReceiver({
    answer: ({ headers, body, connectionNumber }) => {
      if (used.has(connectionNumber)) return { kind: "close" };
      used.add(connectionNumber);
      ledger.noteArrival("closes-under-request", String(headers["webhook-id"]), body, true);
      return {};
    },
  });
}
