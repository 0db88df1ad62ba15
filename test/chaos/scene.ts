/** What every scenario works with: a gateway as a process of its own, endpoints, and the ledger of both. */

import { spawnSync } from "node:child_process";
import { operatorKey, type SpawnedGateway, spawnGateway } from "../helpers/gateway.ts";
import { type AnswerOf, type Endpoint, startEndpoint } from "./endpoint.ts";
import { type JudgedWebhook, type JudgeOptions, judge, type Verdict } from "./judge.ts";
import { createLedger, type Ledger } from "./ledger.ts";

/** What a scenario found, as the table shows it. */
export interface Outcome extends Verdict {
  name: string;
  /** Figures of this scenario alone. */
  notes: string[];
}

export interface Scene {
  databaseUrl: string;
  gateway: SpawnedGateway;
  ledger: Ledger;
  endpoint: Endpoint;
  /** Makes a webhook to the endpoint of this name. */
  addWebhook(endpoint: string, fields?: Record<string, unknown>): Promise<JudgedWebhook>;
  judge(name: string, webhooks: readonly JudgedWebhook[], options?: JudgeOptions): Promise<Outcome>;
  close(): Promise<void>;
}

export interface SceneOptions {
  databaseUrl: string;
  env?: Record<string, string>;
  answerOf?: AnswerOf;
}

export async function openScene({ databaseUrl, env = {}, answerOf }: SceneOptions): Promise<Scene> {
  const gateway = await spawnGateway({ DATABASE_URL: databaseUrl, ...env });
  const ledger = createLedger();
  const endpoint = await startEndpoint(ledger, answerOf);
  return {
    databaseUrl,
    gateway,
    ledger,
    endpoint,
    async addWebhook(name, fields = {}) {
      const { id } = await gateway.createWebhook({ webhooks: endpoint.urlOf(name), ...fields });
      return { id, endpoint: name };
    },
    async judge(name, webhooks, options) {
      const verdict = await judge(databaseUrl, ledger, webhooks, options);
      return { name, notes: [], ...verdict };
    },
    async close() {
      await gateway.close();
      await endpoint.close();
    },
  };
}

/** Asks as the operator, in the name of a tenant. */
export async function callAs(
  gateway: SpawnedGateway,
  tenant: string,
  method: string,
  body: unknown,
  // biome-ignore lint/suspicious/noExplicitAny: whatever JSON came
): Promise<any> {
  const response = await fetch(`${gateway.url()}/posthorn.v1.${method}`, {
    method: "POST",
    headers: {
      "Content-Type": "application/json",
      Authorization: `Bearer ${operatorKey}`,
      "Posthorn-Tenant": tenant,
    },
    body: JSON.stringify(body),
  });
  const answer = await response.json();
  if (response.status !== 200) throw new Error(`${method}: ${response.status} ${JSON.stringify(answer)}`);
  return answer;
}

/** Resident memory of a process in MiB. */
export function residentMib(pid: number): number {
  const { stdout } = spawnSync("ps", ["-o", "rss=", "-p", String(pid)], { encoding: "utf8" });
  return Math.round(Number(stdout.trim()) / 1_024);
}

/** Watches the resident memory of a process; gives the highest that was seen, in MiB. */
export function watchMemory(pid: number): () => number {
  let peakMib = residentMib(pid);
  const timer = setInterval(() => {
    peakMib = Math.max(peakMib, residentMib(pid));
  }, 500);
  return () => {
    clearInterval(timer);
    return peakMib;
  };
}
