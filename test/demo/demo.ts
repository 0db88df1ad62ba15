/**
 * `npm run demo`: the real gateway beside four endpoints and a stand-in for WhatsApp, a day's worth of WhatsApp bodies, and an account of all that
 * came in and went out. It ends with 0 only if every delivery arrived as promised.
 */

import { setTimeout as sleep } from "node:timers/promises";
import { styleText } from "node:util";
import type { Delivery } from "../../gen/posthorn/v1/delivery_service_pb.ts";
import { version } from "../../server/version.ts";
import { openTestGraph } from "../helpers/graph.ts";
import { toBytes } from "../helpers/whatsapp-bodies.ts";
import { checkReplies } from "./check-replies.ts";
import { type Account, checkAll, waitsBetween } from "./checks.ts";
import { createExpectations, type EndpointName, type ExpectedDelivery } from "./expected.ts";
import { type Gateway, retrySeconds, withGateway } from "./gateway.ts";
import * as print from "./print.ts";
import { type Arrival, type Endpoint, type EndpointAnswer, openEndpoint } from "./receiver.ts";
import { playReplies, type RepliesAccount } from "./replies.ts";
import { makeScenes, type Scene } from "./scenes.ts";

const arriveBoundMs = 5_000;
const settleBoundMs = 15_000;
const stopped = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const)
  process.once(signal, () => stopped.abort(new Error(signal)));

const arrivals: Arrival[] = [];
let arrived = Promise.withResolvers<void>();
let postedAtMs = 0;
const endpoints: Endpoint[] = [];
const graph = await openTestGraph();

const beganAtMs = performance.now();
try {
  for (const name of ["intelli", "insights", "raw"] as const) {
    endpoints.push(await openEndpoint(name, name === "intelli" ? failTwiceAtFirst : () => ({}), noteArrival));
  }
  print.printHeading("Posthorn, from a WhatsApp body to a signed delivery");
  await withGateway(graph.url, (gateway) => {
    const interrupted = new Promise<never>((_, reject) => {
      stopped.signal.addEventListener("abort", () => reject(stopped.signal.reason));
    });
    return Promise.race([play(gateway), interrupted]);
  });
} catch (error) {
  print.printLine(
    styleText("red", `\nThe demo broke off: ${error instanceof Error ? error.message : error}`),
  );
  process.exitCode = 1;
} finally {
  for (const endpoint of endpoints) await endpoint.close();
  await graph.close();
}

async function play(gateway: Gateway): Promise<void> {
  print.printFact("gateway", `${gateway.url}, a process of its own, up in ${Math.round(gateway.startMs)} ms`);
  print.printFact("database", "embedded PostgreSQL, new, removed at the end");
  print.printFact("retries", `after ${retrySeconds.join(", ")} s (shortened; the default is 10, 60, 300 s)`);
  const webhookIds: number[] = [];
  for (const endpoint of endpoints) webhookIds.push(await register(gateway, endpoint));

  print.printHeading("What comes in (▶) and what goes out (└▶); the time is since the body was posted");
  const expected: ExpectedDelivery[] = [];
  const wrongAnswers: string[] = [];
  const expectationsOf = createExpectations();
  const scenes = makeScenes(Math.floor(Date.now() / 1000) - 60);
  for (const scene of scenes) {
    const added = scene.items.flatMap(expectationsOf);
    expected.push(...added);
    await playScene(gateway, scene, added, wrongAnswers);
  }
  const repeats = await publishAgain(gateway, scenes[0]!);
  await playRefusals(gateway, wrongAnswers);

  print.printHeading("Until the last retry");
  const log = await waitUntilSettled(gateway);
  const troubled = await readTroubled(gateway);

  print.printHeading("An answer with three timed replies, with the other webhooks turned off");
  for (const id of webhookIds) await gateway.webhooks.updateWebhook({ id, status: false });
  const replies = await playReplies(gateway, graph);
  const account: Account = {
    wrongAnswers,
    expected,
    arrivals,
    repeats,
    log,
    troubled,
    retrySeconds,
    secrets: [...endpoints.flatMap(({ secret }) => secret ?? []), ...replies.secrets],
    gatewayOutput: gateway.output(),
    version,
  };
  report(account, replies, scenes.length);
}

/** The first delivery meets an endpoint in trouble: away, then starting, then well. */
function failTwiceAtFirst(number: number, deliveryNumber: number): EndpointAnswer {
  if (deliveryNumber > 1 || number > 2) return {};
  return number === 1 ? { status: 503, body: "back in a second" } : { status: 500, body: "almost there" };
}

function noteArrival(arrival: Arrival): void {
  arrivals.push(arrival);
  print.printArrival(arrival, arrival.number === 1 ? arrival.atMs - postedAtMs : null);
  arrived.resolve();
  arrived = Promise.withResolvers();
}

async function register(gateway: Gateway, endpoint: Endpoint): Promise<number> {
  const wishes: Record<EndpointName, { outgoing: boolean; eventTypes: string[] }> = {
    intelli: { outgoing: true, eventTypes: [] },
    insights: { outgoing: true, eventTypes: [] },
    raw: { outgoing: false, eventTypes: ["whatsapp.*"] },
  };
  const created = await gateway.webhooks.createWebhook({
    webhooks: endpoint.url,
    status: true,
    incoming: true,
    scheduleActivity: false,
    waitingDuration: 0,
    activeSignature: endpoint.name !== "raw",
    transformer: endpoint.name,
    ...wishes[endpoint.name],
  });
  endpoint.secret = created.signatureSecret ?? null;
  const signing = created.activeSignature ? "signed" : `unsigned, only ${created.eventTypes}`;
  print.printFact(`webhook ${created.id}`, `${endpoint.name.padEnd(9)} ${endpoint.url}  ${signing}`);
  return created.id;
}

/** Posts a body and waits until each of its deliveries was tried once. */
async function playScene(
  gateway: Gateway,
  scene: Scene,
  expected: ExpectedDelivery[],
  wrongAnswers: string[],
): Promise<void> {
  stopped.signal.throwIfAborted();
  // Printed in front of what arrives, some of which comes before the answer to the post.
  postedAtMs = performance.now();
  const before = arrivals.length;
  print.printPosted(scene.title);
  const { status, tookMs } = await gateway.post(toBytes(scene.body));
  if (status !== 200) wrongAnswers.push(`${scene.title}: ${status}`);
  await waitForArrivals(expected.filter(({ body }) => body !== null));
  const notes = [`answered ${status} after ${tookMs.toFixed(1)} ms`];
  if (expected.some(({ body }) => body === null)) notes.push("insights skips it: no part of a conversation");
  if (arrivals.length === before) notes.push("nothing goes out");
  print.printNote(notes.join("; "));
}

async function waitForArrivals(expected: ExpectedDelivery[]): Promise<void> {
  const deadlineMs = performance.now() + arriveBoundMs;
  const isThere = (one: ExpectedDelivery) => {
    return arrivals.some(({ endpoint, body }) => endpoint === one.endpoint && body === one.body);
  };
  while (!expected.every(isThere)) {
    const leftMs = deadlineMs - performance.now();
    // What is missing is told by the checks at the end.
    if (leftMs <= 0) return;
    await within(arrived.promise, leftMs);
  }
}

/** The same body by PublishEvents, whose answer says what the plain route keeps to itself. */
async function publishAgain(gateway: Gateway, scene: Scene): Promise<Account["repeats"]> {
  print.printPosted(`${scene.title}, by PublishEvents`);
  const { events } = await gateway.events.publishEvents({ bodies: [toBytes(scene.body).toString("utf8")] });
  for (const { type, isDuplicate, deliveryCount } of events) {
    print.printNote(`${type}: is_duplicate ${isDuplicate}, ${deliveryCount} deliveries`);
  }
  return events;
}

async function playRefusals(gateway: Gateway, wrongAnswers: string[]): Promise<void> {
  const refusals = [
    {
      title: "a body that somebody else signed",
      body: '{"entry":[]}',
      secret: "not-the-app-secret",
      wanted: 401,
    },
    { title: "a signed body that makes no sense", body: '{"entry":"?"}', secret: undefined, wanted: 200 },
  ];
  for (const { title, body, secret, wanted } of refusals) {
    print.printPosted(title);
    const { status, tookMs } = await gateway.post(Buffer.from(body), secret);
    const meaning = wanted === 200 ? "kept as it came, nothing goes out" : "nothing is stored";
    print.printNote(`answered ${status} after ${tookMs.toFixed(1)} ms; ${meaning}`);
    if (status !== wanted) wrongAnswers.push(`${title}: ${status}, not ${wanted}`);
  }
}

/** The whole log once no delivery waits any more; after `settleBoundMs` as it is then. */
async function waitUntilSettled(gateway: Gateway): Promise<Delivery[]> {
  const deadlineMs = performance.now() + settleBoundMs;
  for (;;) {
    const { deliveries } = await gateway.deliveries.listDeliveries({ pageSize: 500 });
    const isSettled = deliveries.every(({ state }) => state !== "pending" && state !== "delivering");
    if (isSettled || performance.now() > deadlineMs) return deliveries;
    await within(arrived.promise, 100);
  }
}

async function readTroubled(gateway: Gateway): Promise<Account["troubled"]> {
  const id = arrivals.find(({ answered }) => answered !== 200)?.webhookId;
  if (id === undefined) throw new Error("no delivery met the endpoint in trouble");
  const { attempts, body } = await gateway.deliveries.getDelivery({ id });
  return { id, attempts, body };
}

function report(account: Account, replies: RepliesAccount, sceneCount: number): void {
  const { troubled, log } = account;
  print.printHeading(`The log of delivery ${troubled.id}`);
  const waits = waitsBetween(troubled.attempts);
  print.printTable([
    ["attempt", "waited", "took", "outcome", "answer"],
    ...troubled.attempts.map(
      ({ number, durationMs, outcome, errorKind, responseStatus, responseBody }, index) => [
        String(number),
        index === 0 ? "" : `${Math.round(waits[index - 1]!)} ms`,
        `${durationMs} ms`,
        [outcome, errorKind].filter(Boolean).join(", "),
        [responseStatus, responseBody && JSON.stringify(responseBody)].filter(Boolean).join(" ") || "none",
      ],
    ),
  ]);

  print.printHeading("In numbers");
  const tally = [...Map.groupBy(log, ({ state }) => state)].map(([state, all]) => `${all.length} ${state}`);
  print.printFact("bodies", `${sceneCount} and a repeat, a forged one and one that makes no sense`);
  print.printFact("deliveries", tally.join(", "));
  print.printFact(
    "requests",
    `${arrivals.length}, of which ${arrivals.filter(({ number }) => number > 1).length} retries`,
  );

  print.printHeading("Checks");
  const checks = [...checkAll(account), ...checkReplies(replies)];
  print.printChecks(checks);
  const wrongCount = checks.filter(({ faults }) => faults.length > 0).length;
  const tookSeconds = ((performance.now() - beganAtMs) / 1000).toFixed(1);
  if (wrongCount === 0) {
    print.printLine(styleText(["bold", "green"], `\nAll is right, after ${tookSeconds} s.`));
  } else {
    print.printLine(styleText(["bold", "red"], `\n${wrongCount} of ${checks.length} checks failed.`));
    print.printHeading("What the gateway printed");
    print.printLine(account.gatewayOutput);
    process.exitCode = 1;
  }
}

/** Settles with the promise or after the time, whichever is first; leaves no timer behind. */
async function within(promise: Promise<void>, boundMs: number): Promise<void> {
  const done = new AbortController();
  await Promise.race([promise, sleep(boundMs, undefined, { signal: done.signal }).catch(() => undefined)]);
  done.abort();
}
