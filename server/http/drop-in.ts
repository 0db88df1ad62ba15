/**
 * `POST /webhook/dev/create` and `POST /api:{group}/webhook/dev/create`: CreateWebhook as the documented REST call that
 * it takes the place of. The rules are those of the rpc; what is told here is the shape of the answers.
 */

import { GatewayError } from "../domain/errors.ts";
import { answerError, answerJson, refuseBody } from "./answers.ts";
import { announcesMoreThan, type BodyLimits, readBody } from "./body.ts";
import { createByteBudget } from "./byte-budget.ts";
import type { HttpRequest, HttpResponse } from "./message.ts";

export interface CallAnswer {
  status: number;
  headers: ReadonlyMap<string, string>;
  body: Readonly<Record<string, unknown>>;
}

export interface DropInParts {
  /** Makes the call CreateWebhook; reads the body only if the caller may make it. */
  createWebhook(
    request: HttpRequest,
    response: HttpResponse,
    readBody: () => Promise<Uint8Array>,
  ): Promise<CallAnswer>;
}

export interface DropInSettings {
  /** Longest body. */
  bodyBytesMax: number;
  /** How long a body may take to come in. */
  bodyDeadlineMs: number;
  /** Most that unanswered requests hold together. */
  heldBytesMax: number;
}

/** `{group}` is a part of the old address that means nothing here. */
const path = /^(\/api(:|%3[Aa])[A-Za-z0-9_-]{1,64})?\/webhook\/dev\/create$/;

/** The nine fields of the documented answer, in its order. */
const answerFields = [
  "id",
  "status",
  "incoming",
  "outgoing",
  "webhooks",
  "created_at",
  "signature_secret",
  "waiting_duration",
  "schedule_activity",
] as const;

export function isDropInPath(candidate: string): boolean {
  return path.test(candidate);
}

export function createDropIn(parts: DropInParts, settings: DropInSettings) {
  const budget = createByteBudget(settings.heldBytesMax);
  const limits: BodyLimits = { bytesMax: settings.bodyBytesMax, deadlineMs: settings.bodyDeadlineMs };

  return async (request: HttpRequest, response: HttpResponse): Promise<void> => {
    let takenBytes = 0;
    let isGone = false;
    const read = async () => {
      if (announcesMoreThan(request, limits.bytesMax)) throw refusal("too_large", limits);
      const body = await readBody(request, limits, budget);
      isGone = body === "gone";
      if (typeof body === "string") throw refusal(body, limits);
      takenBytes = body.length;
      return body;
    };
    try {
      const { status, headers, body } = await parts.createWebhook(request, response, read);
      if (isGone) return;
      for (const [name, value] of headers) response.setHeader(name, value);
      if (status === 200) return answerJson(response, 200, pickAnswer(body));
      const error = { status, code: String(body.code), message: tellPlainly(String(body.message)) };
      if (request.readableEnded) answerError(response, error);
      else refuseBody(request, response, error);
    } finally {
      budget.give(takenBytes);
    }
  };
}

function pickAnswer(body: CallAnswer["body"]): Record<string, unknown> {
  return Object.fromEntries(answerFields.map((name) => [name, body[name] ?? null]));
}

/** Names the field as the caller wrote it, not as the schema's path. */
function tellPlainly(message: string): string {
  return message
    .replace(/^cannot decode field posthorn\.v1\.CreateWebhookRequest\.(\w+) from JSON: /, "$1: ")
    .replace(
      /^cannot decode message google\.protobuf\.Struct from JSON .*/s,
      "transformer_options: expected object",
    )
    .replace(
      /^cannot decode message posthorn\.v1\.CreateWebhookRequest from JSON: /,
      "the body must be a JSON object with the fields of the webhook: ",
    );
}

function refusal(reason: string, limits: BodyLimits): GatewayError {
  switch (reason) {
    case "too_large":
      return new GatewayError("over_limit", `the body is longer than ${limits.bytesMax} bytes`);
    case "too_slow":
      return new GatewayError("unavailable", `the body did not arrive within ${limits.deadlineMs} ms`);
    case "overloaded":
      return new GatewayError("unavailable", "too many requests wait, try again");
    default:
      return new GatewayError("unavailable", "the sender went away");
  }
}
