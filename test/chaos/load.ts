/**
 * Posts WhatsApp bodies at a steady rate, as Meta does: what was not answered with 200 is posted again, after the time
 * that `Retry-After` names.
 */

import { createHmac } from "node:crypto";
import http from "node:http";
import { appSecret } from "../helpers/gateway.ts";
import { waitFor } from "../helpers/wait.ts";
import {
  aContact,
  anEnvelope,
  aTextMessage,
  business,
  customer,
  toBytes,
} from "../helpers/whatsapp-bodies.ts";
import type { Ledger } from "./ledger.ts";

export interface LoadOptions {
  /** Gateways as they are at the time of each post; bodies go to them in turn. */
  urls(): string[];
  ledger: Ledger;
  ratePerSecond: number;
  /** Begins the id of each message. */
  prefix: string;
  /** Messages in all; `finish` waits until they are made. Default: as many as there is time for. */
  countMax?: number;
  /** Posts without an answer at once; beyond it new ones wait. Default 256. */
  openMax?: number;
  /** A post that is not answered within this time is given up and made again. Default a minute. */
  answerTimeoutMs?: number;
  /** Makes each body so much longer, beside its message. Default 0. */
  paddingBytes?: number;
  /** Default: the business of all builders. */
  phoneNumberId?: string;
}

export interface Load {
  /** Messages made so far. */
  count(): number;
  /** Makes no more messages than planned; settles when each has been acknowledged. */
  finish(boundMs?: number): Promise<void>;
}

const tickMs = 5;
/** Nobody was there, or said when to come back. */
const postAgainAfterMs = 1_000;
/** Users who write to the business; more than a handful, so that their conversations are no bottleneck. */
const userCount = 50;

export function startLoad(options: LoadOptions): Load {
  const { ledger, ratePerSecond, prefix, countMax, openMax = 256, paddingBytes = 0 } = options;
  const { answerTimeoutMs = 60_000 } = options;
  const { phoneNumberId = business.phoneNumberId } = options;
  const agent = new http.Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY });
  const startMs = performance.now();
  const padding = ".".repeat(paddingBytes);
  const again: number[] = [];
  let madeCount = 0;
  let openCount = 0;
  let waitingCount = 0;
  let isEnding = false;

  const timer = setInterval(() => {
    while (again.length > 0 && openCount < openMax) void post(again.shift()!);
    if (isEnding) return;
    const sinceMs = performance.now() - startMs;
    const dueCount = Math.min(
      Math.floor((sinceMs / 1_000) * ratePerSecond),
      countMax ?? Number.POSITIVE_INFINITY,
    );
    while (madeCount < dueCount && openCount < openMax) void post(madeCount++);
  }, tickMs);

  async function post(index: number): Promise<void> {
    const wamid = `${prefix}-${index}`;
    const urls = options.urls();
    openCount += 1;
    ledger.notePost(wamid);
    const { status, retryAfter } = await postBytes(urls[index % urls.length]!, bytesOf(wamid, index), {
      agent,
      timeout: answerTimeoutMs,
    });
    openCount -= 1;
    ledger.noteAnswer(wamid, status, retryAfter);
    if (status === 200) return;
    waitingCount += 1;
    setTimeout(
      () => {
        waitingCount -= 1;
        again.push(index);
      },
      Number(retryAfter) * 1_000 || postAgainAfterMs,
    );
  }

  function bytesOf(wamid: string, index: number): Buffer {
    const phone = String(Number(customer.phone) + (index % userCount));
    const metadata = { display_phone_number: business.phone, phone_number_id: phoneNumberId };
    const messages = [aTextMessage({ id: wamid, from: phone, body: `Message ${index}` })];
    const contacts = [aContact({ wa_id: phone })];
    const envelope = anEnvelope([{ field: "messages", value: { metadata, contacts, messages } }]);
    return padding === "" ? toBytes(envelope) : Buffer.from(JSON.stringify({ ...envelope, padding }));
  }

  return {
    count: () => madeCount,
    async finish(boundMs = 60_000) {
      isEnding = countMax === undefined;
      await waitFor(
        "acknowledgement of every message",
        () => openCount + waitingCount + again.length + (isEnding ? 0 : countMax! - madeCount),
        (count) => count === 0,
        boundMs,
      ).finally(() => {
        clearInterval(timer);
        agent.destroy();
      });
    },
  };
}

/** Status 0 if no answer came. */
function postBytes(
  url: string,
  bytes: Buffer,
  options: { agent: http.Agent; timeout: number },
): Promise<{ status: number; retryAfter?: string | undefined }> {
  const signature = createHmac("sha256", appSecret).update(bytes).digest("hex");
  return new Promise((resolve) => {
    const request = http.request(`${url}/whatsapp/webhook`, {
      method: "POST",
      ...options,
      headers: {
        "Content-Type": "application/json",
        "Content-Length": bytes.length,
        "X-Hub-Signature-256": `sha256=${signature}`,
      },
    });
    request.on("timeout", () => request.destroy());
    request.on("error", () => resolve({ status: 0 }));
    request.on("response", (response) => {
      response.on("error", () => resolve({ status: 0 }));
      response.on("end", () =>
        resolve({ status: response.statusCode!, retryAfter: response.headers["retry-after"] }),
      );
      response.resume();
    });
    request.end(bytes);
  });
}
