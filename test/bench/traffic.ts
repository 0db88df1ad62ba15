/** Rounds of traffic: bodies in at one side, deliveries counted or timed at the other. */

import { setTimeout as sleep } from "node:timers/promises";
import { nowMs } from "./bodies.ts";
import { nextReply } from "./children.ts";
import type { Lab, RouteName, Sender } from "./lab.ts";
import type { LoadOrder, LoadReply } from "./load.ts";
import type { ReceiverOrder, ReceiverReply } from "./receiver.ts";
import { countUsage, type Usage } from "./usage.ts";

export const loadConnections = 384;
/** How far the time of the last arrival may be off. */
const lookEveryMs = 10;
const roundBoundMs = 120_000;

export interface Burst {
  /** From the first byte posted to the last delivery's arrival. */
  deliveriesPerSecond: number;
  usage: Usage;
}

/** Posts so many events as fast as they are answered, and waits until each has arrived at each of its webhooks. */
export async function runBurst(
  lab: Lab,
  sender: Sender,
  route: RouteName,
  eventCount: number,
): Promise<Burst> {
  const deliveryCount = eventCount * lab.routes[route].endpoints.length;
  await prepare(lab, sender, route, eventCount);
  const deliveredBefore = await deliveredCount(lab, route);
  const endUsage = await countUsage(lab, sender);
  const arrivedBefore = await lab.endpoint.arrivedCount();
  const posting = post(lab, null);
  const [{ sentAtMs }, arrivedAtMs] = await Promise.all([
    posting,
    waitForArrivals(lab, arrivedBefore + deliveryCount),
  ]);
  if (sender === "gateway") await settle(lab, route, deliveredBefore + deliveryCount);
  const seconds = (arrivedAtMs - sentAtMs[0]!) / 1_000;
  return { deliveriesPerSecond: deliveryCount / seconds, usage: await endUsage(deliveryCount) };
}

export interface TimedEvents {
  /** When the timetable wanted each event sent, when it was sent, when its 200 was read, when it arrived (`nowMs`). */
  scheduledAtMs: Float64Array;
  sentAtMs: Float64Array;
  acceptedAtMs: Float64Array;
  receivedAtMs: Float64Array;
}

/** Posts events by a timetable to the route whose endpoint notes when each arrives. */
export async function runTimetable(
  lab: Lab,
  sender: Sender,
  eventCount: number,
  ratePerSecond: number,
): Promise<TimedEvents> {
  const first = await prepare(lab, sender, "latency", eventCount);
  const ready = nextReply<ReceiverReply, "ready">(lab.receiver, "ready");
  lab.receiver.send({ kind: "expect", first, count: eventCount } satisfies ReceiverOrder);
  await ready;
  const complete = nextReply<ReceiverReply, "complete">(lab.receiver, "complete", roundBoundMs);
  const [posted, { receivedAtMs }] = await Promise.all([post(lab, ratePerSecond), complete]);
  if (sender === "gateway") await settle(lab, "latency", null);
  return { ...posted, receivedAtMs };
}

/** Posts events whose deliveries go nowhere yet: their webhooks are paused. */
export async function fill(lab: Lab, route: RouteName, eventCount: number): Promise<void> {
  await prepare(lab, "gateway", route, eventCount);
  await post(lab, null);
}

/** Makes the requests, so that this takes no time later; returns the number of the first message. */
async function prepare(lab: Lab, sender: Sender, route: RouteName, count: number): Promise<number> {
  const first = lab.takeNumbers(count);
  const prepared = nextReply<LoadReply, "prepared">(lab.load, "prepared");
  const { phoneNumberId } = lab.routes[route];
  const port = lab.portOf(sender);
  lab.load.send({ kind: "prepare", port, phoneNumberId, first, count } satisfies LoadOrder);
  await prepared;
  return first;
}

async function post(lab: Lab, ratePerSecond: number | null) {
  const done = nextReply<LoadReply, "done">(lab.load, "done", roundBoundMs);
  lab.load.send({ kind: "run", connections: loadConnections, ratePerSecond } satisfies LoadOrder);
  const posted = await done;
  if (posted.refusedCount > 0) throw new Error(`${posted.refusedCount} requests were refused`);
  return posted;
}

/** Waits until the endpoint has counted so many requests; returns when it was seen (`nowMs`). */
export async function waitForArrivals(
  lab: Lab,
  count: number,
  onLook: (arrivedCount: number) => void = () => undefined,
): Promise<number> {
  const endMs = nowMs() + roundBoundMs;
  for (;;) {
    const arrivedCount = await lab.endpoint.arrivedCount();
    const seenAtMs = nowMs();
    onLook(arrivedCount);
    if (arrivedCount >= count) return seenAtMs;
    if (seenAtMs > endMs) throw new Error(`${count - arrivedCount} deliveries did not arrive in time`);
    await sleep(lookEveryMs);
  }
}

export async function deliveredCount(lab: Lab, route: RouteName): Promise<number> {
  return (await lab.database.countByState(lab.webhookIds[route])).delivered ?? 0;
}

/**
 * Waits until no attempt is open, so that one round's work is never counted in the next; then the log must show every
 * delivery as delivered: a count of requests alone could be made up by repeats.
 *
 * @param delivered  how many the route must have in all; null = not checked
 */
export async function settle(lab: Lab, route: RouteName, delivered: number | null): Promise<void> {
  const endMs = nowMs() + roundBoundMs;
  while ((await lab.database.unfinishedCount()) > 0) {
    if (nowMs() > endMs) throw new Error("deliveries are unfinished though all have arrived");
    await sleep(lookEveryMs);
  }
  const retriedCount = await lab.database.retriedCount(lab.webhookIds[route]);
  if (retriedCount > 0) {
    throw new Error(
      `${retriedCount} deliveries needed more than one attempt: the endpoint failed, or the machine`,
    );
  }
  if (delivered === null) return;
  const found = await deliveredCount(lab, route);
  if (found !== delivered) throw new Error(`${found} deliveries are delivered, not ${delivered}`);
}
