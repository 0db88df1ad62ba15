/**
 * `POST /v1/messages/send` and `POST /v1/messages/send-template`: SendMessage as the send API that it takes the place of.
 * What is sent, and every rule, is the rpc's; what is told here is the shape of requests and answers.
 */

import { GatewayError } from "../domain/errors.ts";
import { answerJson } from "./answers.ts";
import { announcesMoreThan, readBody } from "./body.ts";
import { createByteBudget } from "./byte-budget.ts";
import type { CallAnswer, DropInSettings } from "./drop-in.ts";
import type { HttpRequest, HttpResponse } from "./message.ts";

export interface SendRouteParts {
  /** Makes the call SendMessage; reads the body only if the caller may make it. */
  sendMessage(
    request: HttpRequest,
    response: HttpResponse,
    readBody: () => Promise<Uint8Array>,
  ): Promise<CallAnswer>;
}

/** Words of the documented errors. */
type ErrorCode =
  | "INVALID_API_KEY"
  | "INSUFFICIENT_SCOPE"
  | "RATE_LIMITED"
  | "CLIENT_NOT_FOUND"
  | "INVALID_PHONE"
  | "TEMPLATE_NOT_FOUND"
  | "MESSAGE_FAILED"
  | "VALIDATION_ERROR"
  | "INTERNAL_ERROR";

const contentTypes = ["text", "image", "audio", "video", "document", "location", "template", "reaction"];
const sharedFields = [
  "client_ref",
  "phone_number_id",
  "to",
  "reply_to",
  "callback_data",
  "idempotency_key",
] as const;

export const sendPaths = { send: "/v1/messages/send", sendTemplate: "/v1/messages/send-template" } as const;

/** @param defaultType  what is sent if the request does not say so */
export function createSendRoute(
  parts: SendRouteParts,
  settings: DropInSettings,
  defaultType: "text" | "template",
) {
  const budget = createByteBudget(settings.heldBytesMax);
  const limits = { bytesMax: settings.bodyBytesMax, deadlineMs: settings.bodyDeadlineMs };

  return async (request: HttpRequest, response: HttpResponse): Promise<void> => {
    let takenBytes = 0;
    let isGone = false;
    const read = async () => {
      const body = announcesMoreThan(request, limits.bytesMax)
        ? "too_large"
        : await readBody(request, limits, budget);
      isGone = body === "gone";
      if (body === "too_large") {
        throw new GatewayError("invalid_input", `the body is longer than ${limits.bytesMax} bytes`);
      }
      if (typeof body === "string")
        throw new GatewayError("unavailable", "the body did not arrive, try again");
      takenBytes = body.length;
      return toCall(body, defaultType);
    };
    try {
      const { status, headers, body } = await parts.sendMessage(request, response, read);
      if (isGone) return;
      for (const [name, value] of headers) response.setHeader(name, value);
      // What was not read of a refused body must not be taken for the next request.
      if (!request.readableEnded && request.httpVersionMajor < 2) response.setHeader("Connection", "close");
      if (status === 200) answerJson(response, 200, { success: true, message_id: body.message_id });
      else
        answerJson(response, status, { error: { code: codeOf(body), message: tellPlainly(body), status } });
      if (!request.readableEnded) request.resume();
    } finally {
      budget.give(takenBytes);
    }
  };
}

/**
 * The request as SendMessage takes it: `type` says which member is sent, and what nobody knows is ignored.
 *
 * @throws GatewayError `invalid_input`
 */
function toCall(body: Uint8Array, defaultType: string): Uint8Array {
  const request = parseObject(body);
  const type = request.type ?? defaultType;
  if (typeof type !== "string" || !contentTypes.includes(type)) {
    throw new GatewayError("invalid_input", `type: must be one of ${contentTypes.join(", ")}`);
  }
  if (!isObject(request[type])) {
    throw new GatewayError("invalid_input", `${type}: must be an object that says what is sent`);
  }
  const call: Record<string, unknown> = {
    [type]: type === "template" ? toTemplate(request[type]) : request[type],
  };
  for (const field of sharedFields) if (request[field] !== undefined) call[field] = request[field];
  return Buffer.from(JSON.stringify(call));
}

/** A language may stand there as its code alone. */
function toTemplate(template: Record<string, unknown>): Record<string, unknown> {
  const { language } = template;
  return typeof language === "string" ? { ...template, language: { code: language } } : template;
}

function parseObject(body: Uint8Array): Record<string, unknown> {
  let request: unknown;
  try {
    request = JSON.parse(Buffer.from(body).toString("utf8"));
  } catch {
    request = undefined;
  }
  if (!isObject(request)) throw new GatewayError("invalid_input", "the body must be a JSON object");
  return request;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function codeOf(body: CallAnswer["body"]): ErrorCode {
  const reason = reasonOf(body);
  if (reason === "template_not_found") return "TEMPLATE_NOT_FOUND";
  if (reason === "recipient_invalid") return "INVALID_PHONE";
  switch (body.code) {
    case "unauthenticated":
      return "INVALID_API_KEY";
    case "permission_denied":
      return "INSUFFICIENT_SCOPE";
    case "resource_exhausted":
      return "RATE_LIMITED";
    case "not_found":
      return "CLIENT_NOT_FOUND";
    case "invalid_argument":
      if (reason !== null) return "MESSAGE_FAILED";
      return /^to: /.test(tellPlainly(body)) ? "INVALID_PHONE" : "VALIDATION_ERROR";
    case "failed_precondition":
    case "unknown":
      return "MESSAGE_FAILED";
    default:
      return reason === null ? "INTERNAL_ERROR" : "MESSAGE_FAILED";
  }
}

/** Why the message was not sent, as the call's SendFailure says; null if it came to no sending. */
function reasonOf({ details }: CallAnswer["body"]): string | null {
  if (!Array.isArray(details)) return null;
  for (const detail of details as { type?: unknown; debug?: { reason?: unknown } }[]) {
    if (detail.type === "posthorn.v1.SendFailure") return String(detail.debug?.reason);
  }
  return null;
}

/** Names the field as the caller wrote it, not as the schema's path. */
function tellPlainly(body: CallAnswer["body"]): string {
  return String(body.message).replace(/^cannot decode field posthorn\.v1\.\w+\.(\w+) from JSON: /, "$1: ");
}
