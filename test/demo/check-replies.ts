/** What must hold of the timed replies, each promise with what speaks against it. */

import type { Check } from "./checks.ts";
import { question, type RepliesAccount, replies, statuses } from "./replies.ts";

const toleranceMs = 150;

export function checkReplies(account: RepliesAccount): Check[] {
  return [
    {
      promise: `${replies.length} replies went out in order, each once, at ${replies.map(({ delay }) => delay).join(", ")} ms`,
      faults: [...account.wrongAnswers, ...checkSends(account)],
    },
    {
      promise: "all scheduled messages are sent, and their statuses are applied",
      faults: checkScheduled(account),
    },
    { promise: "the conversation shows them, newest first", faults: checkConversation(account) },
    {
      promise: "answers to the replies' own message.sent and message.status scheduled nothing",
      faults: checkOwnEvents(account),
    },
  ];
}

function checkSends({ requests, sends }: RepliesAccount): string[] {
  const faults = compare(
    "sent",
    sends.map(({ body }) => body.text?.body),
    replies.map(({ text }) => text),
  );
  const answeredMs = requests[0]?.receivedAt.getTime() ?? Number.NaN;
  for (const [index, { receivedAt }] of sends.entries()) {
    const afterMs = receivedAt.getTime() - answeredMs;
    const wantedMs = replies[index]?.delay ?? Number.NaN;
    if (!(Math.abs(afterMs - wantedMs) <= toleranceMs))
      faults.push(`reply ${index + 1} went out after ${afterMs} ms, not ${wantedMs}`);
  }
  return faults;
}

function checkScheduled({ scheduled, sends }: RepliesAccount): string[] {
  const lastStatus = statuses.at(-1);
  return compare(
    "scheduled messages",
    scheduled.map(({ text, state, status, messageId }) => `${text} ${state} ${status} ${messageId}`),
    replies.map(({ text }, index) => `${text} sent ${lastStatus} ${sends[index]?.wamid}`),
  );
}

function checkConversation({ conversation, sends }: RepliesAccount): string[] {
  const lastStatus = statuses.at(-1);
  const wanted = replies.map(({ text }, index) => `bot ${text} ${lastStatus} ${sends[index]?.wamid}`);
  return compare(
    "conversation",
    conversation.map(
      ({ sender, content, status, messageId }) => `${sender} ${content} ${status} ${messageId}`,
    ),
    [...wanted.toReversed(), `user ${question} undefined wamid.demo-question`],
  );
}

/** The endpoint gives the same answer to these as to the question, so that they would schedule if they could. */
function checkOwnEvents({ requests, scheduled, sends }: RepliesAccount): string[] {
  const bodies = requests.map(({ body }) => JSON.parse(body.toString("utf8")));
  const faults: string[] = [];
  for (const { wamid } of sends) {
    const own = bodies.filter(({ id }) => id === wamid);
    const kinds = own.map(({ status }) => status ?? "message.sent").toSorted();
    faults.push(...compare(`events of ${wamid}`, kinds, ["message.sent", ...statuses].toSorted()));
  }
  const deliveryCount = new Set(scheduled.map(({ deliveryId }) => deliveryId)).size;
  if (deliveryCount !== 1) faults.push(`the answers to ${deliveryCount} deliveries scheduled messages`);
  if (scheduled.length !== replies.length) faults.push(`${scheduled.length} messages were scheduled`);
  return faults;
}

function compare(what: string, seen: string[], wanted: string[]): string[] {
  const isSame = JSON.stringify(seen) === JSON.stringify(wanted);
  return isSame ? [] : [`${what}: ${JSON.stringify(seen)}, not ${JSON.stringify(wanted)}`];
}
