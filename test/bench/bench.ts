/**
 * `npm run bench`: how many deliveries a second the gateway makes, end to end and durably, beside a bare relay that
 * stores nothing; and how long an event takes at a fixed rate. Gateway, relay, database, load and endpoint share this
 * machine, each in a process of its own. Relay and gateway take turns, since machines are noisy; medians count.
 */

import { type ChildProcess, fork } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { appSecret } from "./bodies.ts";
import type { LoadOrder, LoadReply } from "./load.ts";
import type { ReceiverOrder, ReceiverReply } from "./receiver.ts";
import type { RelayOrder, RelayReply } from "./relay.ts";

const rounds = 3;
const peakCount = Number(process.env.BENCH_COUNT ?? 30_000);
const peakConnections = 128;
const latencyRate = 1_000;
const latencyCount = 10_000;
const operatorKey = "phk_bench_operator_key_of_some_length";

const children: ChildProcess[] = [];
let messageCount = 0;

const dataDir = await mkdtemp(join(tmpdir(), "posthorn-bench-"));
try {
  await main();
} finally {
  for (const child of children) child.kill("SIGTERM");
  await Promise.all(children.map(ended));
  await rm(dataDir, { recursive: true, force: true });
}

async function main(): Promise<void> {
  const load = start("load.ts");
  const receiver = start("receiver.ts");
  const endpoint = `http://127.0.0.1:${(await reply<ReceiverReply, "listening">(receiver, "listening")).port}/hook`;
  const relay = start("relay.ts");
  const relayListening = reply<RelayReply, "listening">(relay, "listening");
  relay.send({ kind: "start", target: endpoint } satisfies RelayOrder);
  const relayPort = (await relayListening).port;
  const gateway = await startGateway(endpoint);

  await measurePeak(load, receiver, relayPort, 5_000);
  await measurePeak(load, receiver, gateway.port, 5_000);
  const relayRates: number[] = [];
  const gatewayRates: number[] = [];
  for (let round = 1; round <= rounds; round++) {
    relayRates.push(await measurePeak(load, receiver, relayPort, peakCount));
    gatewayRates.push(await measurePeak(load, receiver, gateway.port, peakCount));
    print(
      `round ${round}: relay ${rate(relayRates.at(-1)!)}, gateway ${rate(gatewayRates.at(-1)!)}, ` +
        `ratio ${(gatewayRates.at(-1)! / relayRates.at(-1)!).toFixed(2)}`,
    );
  }
  const latency = await measureLatency(load, receiver, gateway.port);
  const memoryMib = await residentMib(gateway.process.pid!);

  const report = {
    machine: { cpu: cpus()[0]?.model ?? "unknown", cores: cpus().length },
    node: process.version,
    postgres: gateway.postgresVersion,
    settings: { peakCount, peakConnections, rounds, latencyRate, workers: "default" },
    relayPerSecond: median(relayRates),
    gatewayPerSecond: median(gatewayRates),
    ratio: median(gatewayRates.map((value, index) => value / relayRates[index]!)),
    latencyMs: latency,
    gatewayResidentMib: memoryMib,
  };
  print("");
  print(`machine            ${report.machine.cores} cores, ${report.machine.cpu}`);
  print(`versions           Node ${process.version}, ${gateway.postgresVersion}`);
  print(`bare relay         ${rate(report.relayPerSecond)}   (median of ${rounds} rounds)`);
  print(
    `gateway            ${rate(report.gatewayPerSecond)}   durable, 1 webhook, ${peakCount} events a round`,
  );
  print(`ratio              ${report.ratio.toFixed(2)}   (median of the rounds' ratios)`);
  print(
    `at ${latencyRate} events/s   accepted to received: p50 ${ms(latency.accepted.p50)}, p99 ${ms(latency.accepted.p99)}`,
  );
  print(
    `                   posted to received:   p50 ${ms(latency.posted.p50)}, p99 ${ms(latency.posted.p99)}`,
  );
  print(`gateway memory     ${memoryMib} MiB resident after the run`);
  const path = process.env.BENCH_REPORT;
  if (path) await writeFile(path, `${JSON.stringify(report, null, 2)}\n`);
}

/** Deliveries a second from the first post to the last arrival. */
async function measurePeak(
  load: ChildProcess,
  receiver: ChildProcess,
  port: number,
  count: number,
): Promise<number> {
  const { sentAtMs, receivedAtMs } = await runLoad(load, receiver, port, count, null);
  return (count / (max(receivedAtMs) - sentAtMs[0]!)) * 1_000;
}

async function measureLatency(load: ChildProcess, receiver: ChildProcess, port: number) {
  const { sentAtMs, acceptedAtMs, receivedAtMs } = await runLoad(
    load,
    receiver,
    port,
    latencyCount,
    latencyRate,
  );
  // A delivery may arrive before the sender has read its 200: such an event took no time at all after it.
  const accepted = receivedAtMs.map((at, index) => Math.max(0, at - acceptedAtMs[index]!));
  const posted = receivedAtMs.map((at, index) => at - sentAtMs[index]!);
  return { accepted: percentiles(accepted), posted: percentiles(posted) };
}

async function runLoad(
  load: ChildProcess,
  receiver: ChildProcess,
  port: number,
  count: number,
  ratePerSecond: number | null,
) {
  const first = messageCount;
  messageCount += count;
  const prepared = reply<LoadReply, "prepared">(load, "prepared");
  load.send({ kind: "prepare", port, first, count } satisfies LoadOrder);
  await prepared;
  const ready = reply<ReceiverReply, "ready">(receiver, "ready");
  receiver.send({ kind: "expect", first, count } satisfies ReceiverOrder);
  await ready;
  const complete = reply<ReceiverReply, "complete">(receiver, "complete", 120_000);
  const done = reply<LoadReply, "done">(load, "done", 120_000);
  load.send({ kind: "run", connections: peakConnections, ratePerSecond } satisfies LoadOrder);
  const [{ sentAtMs, acceptedAtMs, refusedCount }, { receivedAtMs }] = await Promise.all([done, complete]);
  if (refusedCount > 0) throw new Error(`${refusedCount} of ${count} requests were refused`);
  return { sentAtMs, acceptedAtMs, receivedAtMs };
}

async function startGateway(endpoint: string) {
  const child = fork(new URL("../../server/main.ts", import.meta.url), {
    env: {
      PATH: process.env.PATH,
      PORT: "0",
      POSTHORN_DATA_DIR: dataDir,
      POSTHORN_OPERATOR_KEY: operatorKey,
      WHATSAPP_APP_SECRET: appSecret,
      LOG_LEVEL: "info",
    },
    stdio: ["ignore", "pipe", "inherit", "ipc"],
  });
  children.push(child);
  const url = await listeningUrl(child);
  const response = await fetch(`${url}/posthorn.v1.WebhookService/CreateWebhook`, {
    method: "POST",
    headers: { authorization: `Bearer ${operatorKey}`, "content-type": "application/json" },
    body: JSON.stringify({
      webhooks: endpoint,
      status: true,
      incoming: true,
      schedule_activity: false,
      waiting_duration: 0,
      active_signature: true,
      transformer: "intelli",
      max_in_flight: 256,
    }),
  });
  if (!response.ok) throw new Error(`the webhook could not be made: ${await response.text()}`);
  return { process: child, port: Number(new URL(url).port), postgresVersion: await embeddedVersion() };
}

async function listeningUrl(child: ChildProcess): Promise<string> {
  let output = "";
  for await (const chunk of child.stdout!) {
    output += chunk;
    const found = /"url":"(http[^"]+)"/.exec(output);
    if (found) {
      child.stdout!.resume();
      return found[1]!;
    }
  }
  throw new Error(`the gateway did not start:\n${output}`);
}

async function embeddedVersion(): Promise<string> {
  const home = join(dataDir, "postgres");
  const [port, password] = await Promise.all(
    ["port", "password"].map(async (name) => (await readFile(join(home, name), "utf8")).trim()),
  );
  const client = new pg.Client({
    host: "127.0.0.1",
    port: Number(port),
    user: "posthorn",
    password,
    database: "posthorn",
  });
  await client.connect();
  const { rows } = await client.query("SELECT current_setting('server_version') AS version");
  await client.end();
  return `PostgreSQL ${rows[0].version}`;
}

function start(file: string): ChildProcess {
  const child = fork(new URL(file, import.meta.url), { serialization: "advanced" });
  children.push(child);
  return child;
}

/** The next message of this kind from a child; rejects if it ends or nothing comes. */
function reply<T extends { kind: string }, K extends T["kind"]>(
  child: ChildProcess,
  kind: K,
  boundMs = 60_000,
): Promise<Extract<T, { kind: K }>> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => finish(new Error(`no "${kind}" within ${boundMs} ms`)), boundMs);
    const finish = (error: Error | null, message?: Extract<T, { kind: K }>) => {
      clearTimeout(timer);
      child.off("message", onMessage);
      child.off("exit", onExit);
      if (error) reject(error);
      else resolve(message!);
    };
    const onMessage = (message: unknown) => {
      if ((message as T).kind === kind) finish(null, message as Extract<T, { kind: K }>);
    };
    const onExit = () => finish(new Error(`a process ended before it said "${kind}"`));
    child.on("message", onMessage);
    child.on("exit", onExit);
  });
}

function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => child.once("exit", () => resolve()));
}

async function residentMib(pid: number): Promise<number | null> {
  const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
  const found = /VmRSS:\s+(\d+) kB/.exec(status);
  return found ? Math.round(Number(found[1]) / 1024) : null;
}

function max(values: Float64Array): number {
  return values.reduce((most, value) => Math.max(most, value), Number.NEGATIVE_INFINITY);
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
}

function percentiles(values: Float64Array) {
  const sorted = values.toSorted();
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!;
  return { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999) };
}

function rate(perSecond: number): string {
  return `${Math.round(perSecond).toLocaleString("en")}/s`;
}

function ms(value: number): string {
  return `${value.toFixed(1)} ms`;
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
