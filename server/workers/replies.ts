/** Reads the replies that an endpoint's answer schedules: `{"messages":[{"text":"…","delay":2000}]}`. */

import type { Replies, ScheduledText } from "../domain/attempt-report.ts";

const messageCountMax = 20;
const textLengthMax = 4_096;

/** The body of an answer, as far as it was read. */
export interface AnswerBody {
  bytes: Uint8Array;
  /** True if it was longer than is read, or did not end in time. */
  isCut: boolean;
  /** When its last byte came, in Unix milliseconds. */
  endedAtMs: number;
}

/**
 * An empty body and an object without `messages` schedule nothing and break no rule.
 *
 * @param delayMaxMs  the webhook's `waiting_duration`
 */
export function readReplies(body: AnswerBody, delayMaxMs: number): Replies | null {
  if (body.isCut) return broken("body", "is too long, or did not end in time");
  if (body.bytes.length === 0) return null;
  let answer: unknown;
  try {
    answer = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body.bytes));
  } catch {
    return broken("body", "is not JSON");
  }
  if (!isObject(answer)) return broken("body", "is not a JSON object");
  const { messages } = answer;
  if (messages === undefined || messages === null) return null;
  if (!Array.isArray(messages)) return broken("messages", "must be a list");
  if (messages.length > messageCountMax)
    return broken("messages", `must not hold more than ${messageCountMax}`);
  const texts: ScheduledText[] = [];
  for (const [index, message] of messages.entries()) {
    const read = readMessage(message, `messages[${index}]`, texts.at(-1)?.delayMs ?? 0, delayMaxMs);
    if ("fault" in read) return { kind: "broken", fault: read.fault };
    texts.push(read);
  }
  return texts.length === 0 ? null : { kind: "parsed", texts, answeredAtMs: body.endedAtMs };
}

function readMessage(
  message: unknown,
  path: string,
  delayBeforeMs: number,
  delayMaxMs: number,
): ScheduledText | { fault: string } {
  if (!isObject(message)) return { fault: `${path}: must be an object` };
  const { text, delay } = message;
  if (typeof text !== "string") return { fault: `${path}.text: must be a text` };
  const length = [...text].length;
  if (length < 1 || length > textLengthMax) {
    return { fault: `${path}.text: must have 1 to ${textLengthMax} characters` };
  }
  if (typeof delay !== "number" || !Number.isInteger(delay)) {
    return { fault: `${path}.delay: must be a whole number of milliseconds` };
  }
  if (delay < 0 || delay > delayMaxMs) {
    return { fault: `${path}.delay: must be 0 to ${delayMaxMs}, the webhook's waiting_duration` };
  }
  if (delay < delayBeforeMs) return { fault: `${path}.delay: must not be less than the one before` };
  // As PostgreSQL can keep it.
  return { text: text.toWellFormed().replaceAll("\0", "\uFFFD"), delayMs: delay };
}

function broken(path: string, rule: string): Replies {
  return { kind: "broken", fault: `${path}: ${rule}` };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
