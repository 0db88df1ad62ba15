/** The scenes in which WhatsApp bodies come in: good ones, one known already, and two that nothing comes of. */

import { toBytes } from "../helpers/whatsapp-bodies.ts";
import type { Account } from "./checks.ts";
import { createExpectations, type ExpectedDelivery } from "./expected.ts";
import type { Gateway } from "./gateway.ts";
import * as print from "./print.ts";
import type { Scene } from "./scenes.ts";
import type { Stage } from "./stage.ts";

/** What the posts should lead to, and which of them were answered otherwise than they should be. */
export interface PostsAccount {
  expected: ExpectedDelivery[];
  wrongAnswers: string[];
}

/**
 * Posts each body and waits until each of its deliveries was tried once.
 *
 * @param stopped  ends the scenes before the next one
 */
export async function playPosts(
  gateway: Gateway,
  stage: Stage,
  scenes: Scene[],
  stopped: AbortSignal,
): Promise<PostsAccount> {
  const account: PostsAccount = { expected: [], wrongAnswers: [] };
  const expectationsOf = createExpectations();
  for (const scene of scenes) {
    stopped.throwIfAborted();
    const expected = scene.items.flatMap(expectationsOf);
    account.expected.push(...expected);
    const status = await playPost(gateway, stage, scene, expected);
    if (status !== 200) account.wrongAnswers.push(`${scene.title}: ${status}`);
  }
  return account;
}

async function playPost(
  gateway: Gateway,
  stage: Stage,
  { title, body }: Scene,
  expected: ExpectedDelivery[],
): Promise<number> {
  const before = stage.arrivals.length;
  // Printed in front of what arrives, some of which comes before the answer to the post.
  stage.announcePost(title);
  const { status, tookMs } = await gateway.post(toBytes(body));
  await stage.waitForArrivals(expected.filter(({ body }) => body !== null));
  const notes = [`answered ${status} after ${tookMs.toFixed(1)} ms`];
  if (expected.some(({ body }) => body === null)) notes.push("insights skips it: no part of a conversation");
  if (stage.arrivals.length === before) notes.push("nothing goes out");
  print.printNote(notes.join("; "));
  return status;
}

/** The same body by PublishEvents, whose answer says what the plain route keeps to itself. */
export async function publishAgain(gateway: Gateway, { title, body }: Scene): Promise<Account["repeats"]> {
  print.printPosted(`${title}, by PublishEvents`);
  const { events } = await gateway.events.publishEvents({ bodies: [toBytes(body).toString("utf8")] });
  for (const { type, isDuplicate, deliveryCount } of events) {
    print.printNote(`${type}: is_duplicate ${isDuplicate}, ${deliveryCount} deliveries`);
  }
  return events;
}

const refusals = [
  {
    title: "a body that somebody else signed",
    body: '{"entry":[]}',
    secret: "not-the-app-secret",
    wanted: 401,
  },
  { title: "a signed body that makes no sense", body: '{"entry":"?"}', secret: undefined, wanted: 200 },
];

/** Gives those that were answered otherwise than they should be. */
export async function playRefusals(gateway: Gateway): Promise<string[]> {
  const wrongAnswers: string[] = [];
  for (const { title, body, secret, wanted } of refusals) {
    print.printPosted(title);
    const { status, tookMs } = await gateway.post(Buffer.from(body), secret);
    const meaning = wanted === 200 ? "kept as it came, nothing goes out" : "nothing is stored";
    print.printNote(`answered ${status} after ${tookMs.toFixed(1)} ms; ${meaning}`);
    if (status !== wanted) wrongAnswers.push(`${title}: ${status}, not ${wanted}`);
  }
  return wrongAnswers;
}
