/**
 * `GET` and `POST /whatsapp/webhook`: Meta's handshake and Meta's events (step 1 of the path of one event).
 *
 * A 200 promises that the body's events are stored, or, if it made no sense, the body itself: only then may Meta
 * forget it. What cannot be stored now is answered with 503, so that Meta sends it again. Nothing is stored of a body
 * whose signature is missing or wrong.
 */

import type { Logger } from "pino";
import type { Clock } from "../clock.ts";
import { GatewayError } from "../domain/errors.ts";
import type { IncomingEvent } from "../domain/event.ts";
import { type SplitResult, splitBody } from "../whatsapp/envelope.ts";
import { findNamedIds } from "../whatsapp/named-ids.ts";
import { answerHandshake, verifySignature } from "../whatsapp/signature.ts";
import { answerError, answerOk, answerText, type PlainError, refuseBody } from "./answers.ts";
import { announcesMoreThan, type BodyRefusal, readBody } from "./body.ts";
import { createByteBudget } from "./byte-budget.ts";
import { type HttpRequest, type HttpResponse, queryOf } from "./message.ts";

/** A body of WhatsApp may hold events of any tenant: the numbers in it say whose they are. */
export interface IntakeScope {
  tenantId: null;
  /**
   * The app secret that signed the body, and whether it is one of the operator's. In development, where the operator
   * needs none, null stands for theirs.
   */
  signer: { isOperator: boolean; secret: string | null };
}

export interface IntakeParts {
  /**
   * Settles when the events and their deliveries are committed. An event that alone cannot be stored is kept as
   * malformed by `publish` itself; one that its signer may not bring is dropped (`isRefused`).
   *
   * @throws GatewayError `unavailable` when nothing can be stored now
   */
  publish(events: IncomingEvent[], scope: IntakeScope): Promise<readonly { isRefused?: boolean }[]>;
  /** True if some client has an app secret of its own. */
  hasClientSecrets(): boolean;
  /** App secrets of clients that have one of these numbers or accounts; a few at most. */
  findClientSecrets(ids: ReadonlySet<string>): string[];
  /** Keeps a body, or a part of one, that makes no sense; settles when it is committed, throws as `publish` does. */
  keepMalformed(rawBody: Uint8Array, reason: string): Promise<unknown>;
  clock: Clock;
  log: Logger;
}

export interface IntakeSettings {
  mode: "production" | "development";
  /** App secrets of the operator, any of which may sign for clients without a secret of their own; empty = none. */
  appSecrets: readonly string[];
  verifyToken: string | null;
  /** Longest body. */
  bodyBytesMax: number;
  /** How long a body may take to come in. */
  bodyDeadlineMs: number;
  /** Most that unanswered requests hold together. */
  heldBytesMax: number;
}

export interface Intake {
  handshake(request: HttpRequest, response: HttpResponse): void;
  receive(request: HttpRequest, response: HttpResponse): Promise<void>;
}

/** What a waiting request costs beside its body: its objects, its promises, its part of the socket. */
const requestBytes = 8 * 1024;
const warnAgainMs = 60_000;
const reasonCharactersMax = 1_000;

export function createIntake(parts: IntakeParts, settings: IntakeSettings): Intake {
  const { appSecrets, mode } = settings;
  const budget = createByteBudget(settings.heldBytesMax);
  const bodyLimits = { bytesMax: settings.bodyBytesMax, deadlineMs: settings.bodyDeadlineMs };
  const refusals = describeRefusals(settings);
  const warnNoSecret = createNoSecretWarning(parts, mode);

  /** What the head alone is refused for; null = read on. */
  function judgeHead(request: HttpRequest): PlainError | null {
    if (appSecrets.length === 0 && (mode === "development" || !parts.hasClientSecrets())) {
      warnNoSecret();
      if (mode === "production") return noSecretError;
    } else if (request.headers["x-hub-signature-256"] === undefined) return missingSignatureError;
    if (request.headers["content-encoding"] !== undefined) return encodingError;
    if (announcesMoreThan(request, settings.bodyBytesMax)) return refusals.too_large;
    return null;
  }

  async function receive(request: HttpRequest, response: HttpResponse): Promise<void> {
    const headError = judgeHead(request);
    if (headError !== null) return refuseBody(request, response, headError);
    if (!budget.take(requestBytes)) return refuseBody(request, response, refusals.overloaded);
    const body = await readBody(request, bodyLimits, budget);
    if (typeof body === "string") {
      budget.give(requestBytes);
      if (body !== "gone") refuseBody(request, response, refusals[body]);
      return;
    }
    try {
      await accept(body, request, response);
    } finally {
      budget.give(requestBytes + body.length);
    }
  }

  async function accept(body: Buffer, request: HttpRequest, response: HttpResponse): Promise<void> {
    const signer = findSigner(body, request.headers["x-hub-signature-256"]);
    if (signer === null) return answerError(response, wrongSignatureError);
    try {
      const isTaken = await store(body, { tenantId: null, signer });
      if (!isTaken) return answerError(response, wrongSignatureError);
    } catch (error) {
      return answerError(response, judgeFailure(error, parts.log));
    }
    answerOk(response);
  }

  /** Null if no secret that is known signed the body, though one had to. */
  function findSigner(body: Buffer, header: string | string[] | undefined): IntakeScope["signer"] | null {
    const signature = typeof header === "string" ? header : undefined;
    const index = verifySignature(body, signature, appSecrets);
    if (index !== -1) return { isOperator: true, secret: appSecrets[index]! };
    // Only secrets of clients that the body seems to be about: each costs a hash over all of it.
    const others =
      signature !== undefined && parts.hasClientSecrets() ? parts.findClientSecrets(findNamedIds(body)) : [];
    const otherIndex = verifySignature(body, signature, others);
    if (otherIndex !== -1) return { isOperator: false, secret: others[otherIndex]! };
    return appSecrets.length === 0 && mode === "development" ? { isOperator: true, secret: null } : null;
  }

  /** False if the signer may bring nothing of what the body holds. */
  async function store(body: Buffer, scope: IntakeScope): Promise<boolean> {
    const { events, isSensible, faults } = split(body, parts.clock.now(), parts.log);
    if (isSensible) {
      const published = await parts.publish(events, scope);
      if (published.every(({ isRefused }) => isRefused)) return false;
    }
    if (!isSensible || faults.length > 0) {
      await parts.keepMalformed(body, faults.join("; ").slice(0, reasonCharactersMax) || "holds no event");
    }
    return true;
  }

  return {
    receive,
    handshake(request, response) {
      const challenge = answerHandshake(queryOf(request), settings.verifyToken ?? undefined);
      if (challenge === null) answerError(response, handshakeError);
      else answerText(response, 200, challenge);
    },
  };
}

/** A body on which the splitter fails is kept like any other that makes no sense: sent again it would fail again. */
function split(body: Buffer, receivedAt: Date, log: Logger): SplitResult {
  try {
    return splitBody(body, receivedAt);
  } catch (error) {
    log.error({ err: error, bodyBytes: body.length }, "a WhatsApp body could not be split");
    return { events: [], paths: [], isSensible: false, faults: ["body: could not be split"] };
  }
}

function judgeFailure(error: unknown, log: Logger): PlainError {
  if (error instanceof GatewayError && (error.kind === "unavailable" || error.kind === "over_limit")) {
    return { status: 503, code: "unavailable", message: error.message, retryAfterSeconds: 5 };
  }
  log.error({ err: error }, "a WhatsApp body could not be stored");
  return { status: 500, code: "internal", message: "The events could not be stored." };
}

const noSecretError: PlainError = {
  status: 403,
  code: "permission_denied",
  message: "This gateway takes no WhatsApp events: its operator has to set WHATSAPP_APP_SECRET.",
};
const missingSignatureError: PlainError = {
  status: 401,
  code: "unauthenticated",
  message: "The header X-Hub-Signature-256 is missing.",
};
const wrongSignatureError: PlainError = {
  status: 401,
  code: "unauthenticated",
  message: "X-Hub-Signature-256 was not made over this body with an app secret that may sign what it holds.",
};
const encodingError: PlainError = {
  status: 415,
  code: "invalid_argument",
  message: "Send the body without Content-Encoding: its signature is checked over the bytes as they come.",
};
const handshakeError: PlainError = {
  status: 403,
  code: "permission_denied",
  message:
    "Not a verification request for this gateway: hub.mode must be subscribe, hub.verify_token must equal WHATSAPP_VERIFY_TOKEN, and hub.challenge must be there.",
};

function describeRefusals(settings: IntakeSettings): Record<Exclude<BodyRefusal, "gone">, PlainError> {
  return {
    too_large: {
      status: 413,
      code: "resource_exhausted",
      message: `The body is longer than ${settings.bodyBytesMax} bytes.`,
    },
    too_slow: {
      status: 408,
      code: "deadline_exceeded",
      message: `The body did not arrive within ${settings.bodyDeadlineMs} ms.`,
    },
    overloaded: {
      status: 503,
      code: "unavailable",
      message: "Too many events wait to be stored. Send this one again.",
      retryAfterSeconds: 1,
    },
  };
}

/** In production refused bodies are worth a line a minute; in development one line says how it is. */
function createNoSecretWarning({ clock, log }: IntakeParts, mode: IntakeSettings["mode"]): () => void {
  let quietUntilMs = Number.NEGATIVE_INFINITY;
  return () => {
    const nowMs = clock.now().getTime();
    if (nowMs < quietUntilMs) return;
    quietUntilMs = mode === "production" ? nowMs + warnAgainMs : Number.POSITIVE_INFINITY;
    log.warn(
      mode === "production"
        ? "WHATSAPP_APP_SECRET is not set: WhatsApp events are refused"
        : "WHATSAPP_APP_SECRET is not set: WhatsApp events are taken from anybody (development only)",
    );
  };
}
