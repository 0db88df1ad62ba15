/** The gateway under test: a process of its own with the settings that it has by default, and calls of its API. */

import { type ChildProcess, fork } from "node:child_process";
import { appSecret } from "./bodies.ts";
import { stopChild } from "./children.ts";
import type { RelayRoute } from "./relay.ts";

const operatorKey = "phk_bench_operator_key_of_some_length";
const startBoundMs = 60_000;
const callBoundMs = 30_000;
/** Of a webhook that is alone; several have the default. */
export const maxInFlight = 256;

export interface Gateway {
  pid: number;
  port: number;
  /** Makes a call of the API, such as `WebhookService/CreateWebhook`. */
  call(method: string, request: object): Promise<Record<string, unknown>>;
  close(): Promise<void>;
}

export async function startGateway(dataDir: string): Promise<Gateway> {
  const child = fork(new URL("../../server/entry.js", import.meta.url), {
    // Where no .env of the caller's has a say.
    cwd: dataDir,
    env: {
      PATH: process.env.PATH,
      PORT: "0",
      POSTHORN_DATA_DIR: dataDir,
      POSTHORN_OPERATOR_KEY: operatorKey,
      WHATSAPP_APP_SECRET: appSecret,
      // As under npm, it stops when its parent is gone.
      npm_lifecycle_event: "bench",
    },
    stdio: ["ignore", "pipe", "inherit", "ipc"],
  });
  try {
    const url = await listeningUrl(child);
    return {
      pid: child.pid!,
      port: Number(new URL(url).port),
      call: (method, request) => call(`${url}/posthorn.v1.${method}`, request),
      close: () => stopChild(child),
    };
  } catch (error) {
    await stopChild(child);
    throw error;
  }
}

/** Registers the client that owns the number, and a signed webhook for each endpoint; returns the webhooks' ids. */
export async function addRoute(
  gateway: Gateway,
  { phoneNumberId, clientRef, endpoints }: RelayRoute,
): Promise<number[]> {
  await gateway.call("ClientService/CreateClient", {
    client_ref: clientRef,
    phone_numbers: [{ phone_number_id: phoneNumberId }],
  });
  const ids: number[] = [];
  for (const { url, secret } of endpoints) {
    const webhook = await gateway.call("WebhookService/CreateWebhook", {
      webhooks: url,
      client_ref: clientRef,
      status: true,
      incoming: true,
      schedule_activity: false,
      waiting_duration: 0,
      active_signature: true,
      signature_secret: secret,
      transformer: "intelli",
      ...(endpoints.length === 1 && { max_in_flight: maxInFlight }),
    });
    ids.push(Number(webhook.id));
  }
  return ids;
}

async function call(url: string, request: object): Promise<Record<string, unknown>> {
  const response = await fetch(url, {
    method: "POST",
    headers: { authorization: `Bearer ${operatorKey}`, "content-type": "application/json" },
    body: JSON.stringify(request),
    signal: AbortSignal.timeout(callBoundMs),
  });
  if (!response.ok) throw new Error(`${url} answered ${response.status}: ${await response.text()}`);
  return (await response.json()) as Record<string, unknown>;
}

/** The address that its log tells; from then on the log is read and dropped. */
function listeningUrl(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let output = "";
    const fail = (why: string) => reject(new Error(`the gateway ${why}:\n${output}`));
    const timer = setTimeout(() => fail(`did not start within ${startBoundMs} ms`), startBoundMs);
    child.once("exit", () => fail("ended"));
    child.stdout!.setEncoding("utf8").on("data", (text: string) => {
      if (output.length < 100_000) output += text;
      const found = /"url":"(http[^"]+)"/.exec(output);
      if (!found) return;
      clearTimeout(timer);
      resolve(found[1]!);
    });
  });
}
