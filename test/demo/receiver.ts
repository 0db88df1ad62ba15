/** An endpoint as a partner would build one: a real HTTP server that checks every signature before it believes a body. */

import { createHmac } from "node:crypto";
import { Webhook } from "standardwebhooks";
import { type ReceivedRequest, startReceiver } from "../helpers/receiver.ts";
import { type EndpointName, maskedMediaUrl, maskedUserId } from "./expected.ts";

/** One request that came in. */
export interface Arrival {
  endpoint: EndpointName;
  webhookId: string;
  /** Counts the requests of this `webhook-id`, from 1. */
  number: number;
  /** As it came. */
  rawBody: string;
  /** As `ExpectedDelivery.body` has it. */
  body: string;
  /** The contact's UUID; null in a body that has none. */
  userId: string | null;
  headers: Record<string, unknown>;
  /** The HTTP status it was answered with. */
  answered: number;
  /** What is wrong with the signatures; empty = nothing. */
  signatureFaults: string[];
  /** On the clock of `performance.now()`. */
  atMs: number;
}

/** Default: 200 without a body. */
export interface EndpointAnswer {
  status?: number;
  body?: string;
}

export interface Endpoint {
  name: EndpointName;
  url: string;
  /** Signing secret, once the webhook is registered; null = unsigned. */
  secret: string | null;
  close(): Promise<void>;
}

/**
 * @param answerTo   what to answer to the how manieth request of the how manieth delivery, both counted from 1
 * @param onArrival  called for each request, before it is answered
 */
export async function openEndpoint(
  name: EndpointName,
  answerTo: (number: number, deliveryNumber: number) => EndpointAnswer,
  onArrival: (arrival: Arrival) => void,
): Promise<Endpoint> {
  const counts = new Map<string, number>();
  const receiver = await startReceiver({
    answer(request) {
      const webhookId = String(request.headers["webhook-id"]);
      const number = (counts.get(webhookId) ?? 0) + 1;
      counts.set(webhookId, number);
      const answer = answerTo(number, [...counts.keys()].indexOf(webhookId) + 1);
      onArrival(describe(endpoint, request, webhookId, number, answer));
      return answer;
    },
  });
  const endpoint: Endpoint = { name, url: receiver.url, secret: null, close: receiver.close };
  return endpoint;
}

function describe(
  { name, secret }: Endpoint,
  request: ReceivedRequest,
  webhookId: string,
  number: number,
  answer: EndpointAnswer,
): Arrival {
  const rawBody = request.body.toString("utf8");
  const userId = /"user_id":"([^"]*)"/.exec(name === "insights" ? rawBody : "")?.[1] ?? null;
  return {
    endpoint: name,
    webhookId,
    number,
    rawBody,
    body:
      userId === null
        ? rawBody
        : rawBody
            .replace(`"user_id":"${userId}"`, `"user_id":"${maskedUserId}"`)
            .replace(mediaUrlPattern, `"attachment_url":"${maskedMediaUrl}"`),
    userId,
    headers: request.headers,
    answered: answer.status ?? 200,
    signatureFaults: findSignatureFaults(name, secret, request),
    atMs: performance.now(),
  };
}

const schemeHeaders = ["x-intelli-signature", "x-webhook-signature", "webhook-signature"];
const headersByEndpoint: Record<EndpointName, string[]> = {
  intelli: ["x-intelli-signature", "webhook-signature"],
  insights: ["x-webhook-signature", "webhook-signature"],
  raw: [],
};

function findSignatureFaults(
  name: EndpointName,
  secret: string | null,
  { headers, body }: ReceivedRequest,
): string[] {
  const faults: string[] = [];
  const wanted = headersByEndpoint[name];
  for (const header of schemeHeaders) {
    if (wanted.includes(header) !== (headers[header] !== undefined)) {
      faults.push(`${header} is ${headers[header] === undefined ? "missing" : "there, and should not be"}`);
    }
  }
  if (wanted.length === 0) return faults;
  if (secret === null) return [...faults, "no secret was given for this webhook"];
  const forged = Buffer.concat([body, Buffer.from(" ")]);
  for (const header of wanted) {
    if (!isGenuine(header, secret, headers, body)) faults.push(`${header} does not fit the body`);
    if (isGenuine(header, secret, headers, forged)) faults.push(`${header} fits a changed body too`);
  }
  return faults;
}

function isGenuine(
  header: string,
  secret: string,
  headers: ReceivedRequest["headers"],
  body: Buffer,
): boolean {
  const given = headers[header];
  switch (header) {
    case "x-intelli-signature":
      return given === `sha256=${createHmac("sha256", secret).update(body).digest("hex")}`;
    case "x-webhook-signature": {
      const first = createHmac("sha512", secret).update(body).digest();
      const second = createHmac("sha512", secret).update(first).digest();
      return given === Buffer.concat([first, second]).toString("base64url");
    }
    default:
      return isStandardWebhook(secret, headers, body);
  }
}

/** By the library that many receivers use, which checks `webhook-timestamp` against the clock too. */
function isStandardWebhook(secret: string, headers: ReceivedRequest["headers"], body: Buffer): boolean {
  try {
    new Webhook(secret).verify(body, headers as Record<string, string>);
    return true;
  } catch {
    return false;
  }
}

const mediaUrlPattern = /"attachment_url":"http:\/\/127\.0\.0\.1:\d+\/media\/[A-Za-z0-9_-]{32}"/;
