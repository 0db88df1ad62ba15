/** Everything that must hold at the end of the demo, each promise with what speaks against it. */

import type { Attempt, Delivery } from "../../gen/posthorn/v1/delivery_service_pb.ts";
import type { ExpectedDelivery } from "./expected.ts";
import { describeExpected } from "./print.ts";
import type { Arrival } from "./receiver.ts";

export interface Check {
  promise: string;
  /** Empty = it holds. */
  faults: string[];
}

/** All that was seen. */
export interface Account {
  /** How posts were answered that should have been answered otherwise. */
  wrongAnswers: string[];
  expected: ExpectedDelivery[];
  arrivals: Arrival[];
  /** What PublishEvents said of a body that was known. */
  repeats: { isDuplicate: boolean; deliveryCount: number }[];
  /** The whole log of deliveries. */
  log: Delivery[];
  /** The delivery whose endpoint failed, as GetDelivery gives it. */
  troubled: { id: string; attempts: Attempt[]; body: Uint8Array | undefined };
  retrySeconds: readonly number[];
  /** Signing secrets. */
  secrets: string[];
  gatewayOutput: string;
  version: string;
}

export function checkAll(account: Account): Check[] {
  const { expected, arrivals } = account;
  const sent = expected.filter(({ body }) => body !== null);
  return [
    {
      promise: "every post was answered as it should be: 200, forged ones 401",
      faults: account.wrongAnswers,
    },
    {
      promise: `all ${sent.length} expected payloads arrived, equal to the byte`,
      faults: findMissing(account),
    },
    { promise: "nothing else arrived", faults: findStrangers(account) },
    {
      promise: "each delivery was taken exactly once, with one body on every attempt",
      faults: checkOnce(arrivals),
    },
    {
      promise: `all signatures fit, on ${arrivals.length} requests, and fit no changed body`,
      faults: checkSignatures(arrivals),
    },
    { promise: "every request carries the headers promised", faults: checkHeaders(account) },
    { promise: "a body posted again made no delivery", faults: checkRepeats(account) },
    { promise: "each contact has one UUID of its own", faults: checkContacts(account) },
    { promise: "the log tells the same: states, attempts, nothing left to do", faults: checkLog(account) },
    { promise: "the delivery in trouble was tried again on schedule", faults: checkTroubled(account) },
    { promise: "the gateway printed no secret and no fault", faults: checkOutput(account) },
  ];
}

function findMissing({ expected, arrivals }: Account): string[] {
  const arrived = new Set(arrivals.map(keyOf));
  return expected
    .filter((one) => one.body !== null && !arrived.has(keyOf(one)))
    .flatMap((one) => [`missing: ${describeExpected(one)}`, `  ${one.body}`]);
}

function findStrangers({ expected, arrivals }: Account): string[] {
  const wanted = new Set(expected.map(keyOf));
  return arrivals
    .filter((arrival) => !wanted.has(keyOf(arrival)))
    .map(({ endpoint, body }) => `not expected: ${endpoint} ${body}`);
}

function checkOnce(arrivals: Arrival[]): string[] {
  const faults: string[] = [];
  for (const [webhookId, requests] of Map.groupBy(arrivals, (arrival) => arrival.webhookId)) {
    const takenCount = requests.filter(({ answered }) => answered === 200).length;
    if (takenCount !== 1) faults.push(`${webhookId} was taken ${takenCount} times`);
    if (new Set(requests.map(({ rawBody }) => rawBody)).size > 1)
      faults.push(`${webhookId} came with several bodies`);
  }
  for (const [key, requests] of Map.groupBy(arrivals, keyOf)) {
    const idCount = new Set(requests.map(({ webhookId }) => webhookId)).size;
    if (idCount > 1) faults.push(`${idCount} deliveries of ${key}`);
  }
  return faults;
}

function checkSignatures(arrivals: Arrival[]): string[] {
  return arrivals.flatMap(({ endpoint, webhookId, signatureFaults }) =>
    signatureFaults.map((fault) => `${endpoint} ${webhookId}: ${fault}`),
  );
}

function checkHeaders({ arrivals, version }: Account): string[] {
  return arrivals.flatMap(({ endpoint, webhookId, headers }) => {
    const faults: string[] = [];
    if (headers["content-type"] !== "application/json")
      faults.push(`content-type ${headers["content-type"]}`);
    if (headers["user-agent"] !== `Posthorn/${version}`) faults.push(`user-agent ${headers["user-agent"]}`);
    const ageSeconds = Math.abs(Date.now() / 1000 - Number(headers["webhook-timestamp"]));
    if (!(ageSeconds < 60)) faults.push(`webhook-timestamp ${headers["webhook-timestamp"]}`);
    return faults.map((fault) => `${endpoint} ${webhookId}: ${fault}`);
  });
}

function checkRepeats({ repeats }: Account): string[] {
  if (repeats.length === 0) return ["PublishEvents did not say what became of the repeat"];
  return repeats
    .filter(({ isDuplicate, deliveryCount }) => !isDuplicate || deliveryCount > 0)
    .map(({ isDuplicate, deliveryCount }) => `is_duplicate ${isDuplicate}, ${deliveryCount} deliveries`);
}

function checkContacts({ expected, arrivals }: Account): string[] {
  const contacts = new Map(expected.map((one) => [keyOf(one), one.contact]));
  const faults: string[] = [];
  const uuids = new Map<string, string>();
  for (const arrival of arrivals) {
    const contact = contacts.get(keyOf(arrival)) ?? null;
    const uuid = arrival.userId;
    if (contact === null || uuid === null) continue;
    if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(uuid))
      faults.push(`${contact} has user_id ${uuid}`);
    const known = uuids.get(contact) ?? uuid;
    if (known !== uuid) faults.push(`${contact} has both ${known} and ${uuid}`);
    uuids.set(contact, uuid);
  }
  if (new Set(uuids.values()).size < uuids.size) faults.push("two contacts share a UUID");
  return faults;
}

function checkLog({ log, expected, arrivals }: Account): string[] {
  const faults: string[] = [];
  const requestCounts = new Map<string, number>();
  for (const { webhookId } of arrivals) requestCounts.set(webhookId, (requestCounts.get(webhookId) ?? 0) + 1);
  for (const { id, state, attemptCount } of log) {
    const requestCount = requestCounts.get(id) ?? 0;
    if (attemptCount !== requestCount)
      faults.push(`${id} has ${attemptCount} attempts, ${requestCount} requests came`);
    const wantedState = requestCount === 0 ? "skipped" : "delivered";
    if (state !== wantedState) faults.push(`${id} is ${state}, not ${wantedState}`);
  }
  if (log.length !== expected.length) faults.push(`${log.length} deliveries, ${expected.length} expected`);
  const skippedCount = expected.filter(({ body }) => body === null).length;
  const inLog = log.filter(({ state }) => state === "skipped").length;
  if (inLog !== skippedCount) faults.push(`${inLog} skipped, ${skippedCount} expected`);
  return faults;
}

function checkTroubled({ troubled, arrivals, retrySeconds }: Account): string[] {
  const faults: string[] = [];
  const outcomes = troubled.attempts
    .map(({ outcome, responseStatus }) => `${outcome} ${responseStatus}`)
    .join(", ");
  const wanted = "failed 503, failed 500, succeeded 200";
  if (outcomes !== wanted) faults.push(`attempts ended as ${outcomes}, not ${wanted}`);
  for (const [index, waitMs] of waitsBetween(troubled.attempts).entries()) {
    const leastMs = retrySeconds[index]! * 1000;
    // The log has whole milliseconds; a wait is late by a poll of the gateway at most, and by what a busy machine adds.
    if (waitMs < leastMs - 2 || waitMs > leastMs + 2_000)
      faults.push(`wait ${index + 1} was ${waitMs} ms, not ${leastMs}`);
  }
  const request = arrivals.find(({ webhookId }) => webhookId === troubled.id);
  if (request?.rawBody !== Buffer.from(troubled.body ?? []).toString("utf8"))
    faults.push("the log has another body");
  return faults;
}

/** From the end of each attempt to the start of the next, in milliseconds. */
export function waitsBetween(attempts: Attempt[]): number[] {
  return attempts.slice(1).map((attempt, index) => {
    const before = attempts[index]!;
    return startMsOf(attempt) - startMsOf(before) - before.durationMs;
  });
}

function startMsOf({ startedAt }: Attempt): number {
  return Number(startedAt!.seconds) * 1000 + startedAt!.nanos / 1e6;
}

function checkOutput({ gatewayOutput, secrets }: Account): string[] {
  const faults = secrets
    .filter((secret) => gatewayOutput.includes(secret))
    .map(() => "a secret is in the log");
  const lines = gatewayOutput.split("\n").filter((line) => /"level":"(error|fatal)"/.test(line));
  return [...faults, ...lines];
}

function keyOf({ endpoint, body }: { endpoint: string; body: string | null }): string {
  return `${endpoint} ${body}`;
}
