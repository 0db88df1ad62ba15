/** `GET /healthz`: the process answers. `GET /readyz`: it can do its work, so a balancer may send it some. */

import type { Clock } from "../clock.ts";
import { answerJson } from "./answers.ts";
import type { HttpRequest, HttpResponse } from "./message.ts";

export interface Readiness {
  ready: boolean;
  /** Why it is not ready, safe to show; empty when it is. */
  reasons: string[];
}

export interface HealthParts {
  /** Asks database and worker pools. */
  isReady(): Promise<Readiness>;
  clock: Clock;
}

export interface Health {
  answerAlive(request: HttpRequest, response: HttpResponse): void;
  answerReady(request: HttpRequest, response: HttpResponse): Promise<void>;
}

/** How long an answer is given again: the route is open to all, and each check costs the database a query. */
const freshMs = 500;
const checkTimeoutMs = 2_000;

export function createHealth({ isReady, clock }: HealthParts): Health {
  let checked: { atMs: number; readiness: Promise<Readiness> } | null = null;

  function readiness(): Promise<Readiness> {
    const nowMs = clock.now().getTime();
    if (checked === null || nowMs - checked.atMs >= freshMs) {
      checked = { atMs: nowMs, readiness: checkInTime(isReady, clock) };
    }
    return checked.readiness;
  }

  return {
    answerAlive(_request, response) {
      answerJson(response, 200, { alive: true });
    },
    async answerReady(_request, response) {
      const { ready, reasons } = await readiness();
      answerJson(response, ready ? 200 : 503, { ready, reasons });
    },
  };
}

/** Never rejects. */
async function checkInTime(isReady: () => Promise<Readiness>, clock: Clock): Promise<Readiness> {
  const done = new AbortController();
  const late = clock
    .sleep(checkTimeoutMs, done.signal)
    .then(() => ({ ready: false, reasons: [`the check took longer than ${checkTimeoutMs} ms`] }));
  try {
    return await Promise.race([isReady(), late]);
  } catch {
    return { ready: false, reasons: ["the check failed"] };
  } finally {
    done.abort();
  }
}
