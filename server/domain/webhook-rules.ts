/**
 * What a webhook must keep to (contract, section 3), as far as it can be told from the webhook and the transformers
 * that are loaded. That its URL is not taken and its client known is for `store/` to say.
 *
 * Faults are named by the field as callers spell it. A change is judged by what it touches: a webhook whose
 * transformer is gone can still be turned off.
 */

import { GatewayError } from "./errors.ts";
import { coversType } from "./event.ts";
import { isKnownPattern, messageTypes, shareTriggerlessType } from "./event-types.ts";
import { findHeaderFault } from "./request-headers.ts";
import { type Webhook, wantsType } from "./webhook.ts";

/** What the owner of a webhook decides, secrets and headers aside. */
export type WebhookSettings = Omit<
  Webhook,
  "id" | "tenantId" | "clientId" | "disabledReason" | "disabledAt" | "createdAt" | "updatedAt"
>;

/** What the rules need to know of a transformer. */
export interface TransformerFacts {
  readonly handles: readonly string[];
  readonly optionsSchema?: Readonly<Record<string, unknown>>;
  /** Why it makes nothing for now, as the rest of a sentence that starts with its name; left out or null if it does. */
  readonly hold?: string | null;
}

export interface RuleContext {
  mode: "production" | "development";
  /** Those that are loaded, by name. */
  transformers: ReadonlyMap<string, TransformerFacts>;
  /** Null if the options fit; `transformer-options.ts`. */
  findOptionsFault(schema: Readonly<Record<string, unknown>> | undefined, options: object): string | null;
}

/** @throws GatewayError `invalid_input` naming the first field that breaks a rule */
export function checkNewWebhook(settings: WebhookSettings, context: RuleContext): void {
  checkSettings(settings, new Set(Object.keys(settings)), context);
}

/**
 * The settings after a change.
 *
 * @throws GatewayError `invalid_input` naming the first field that breaks a rule
 * @throws GatewayError `wrong_state` if the change asks for signing and the webhook has no secret
 */
export function applyChange(
  before: Webhook,
  change: Partial<WebhookSettings>,
  context: RuleContext,
): WebhookSettings {
  const after = { ...before, ...change };
  const asksForSigning = change.isSigned ?? after.transformer === "intelli";
  if (asksForSigning && !before.isSigned) {
    throw new GatewayError(
      "wrong_state",
      `webhook ${before.id} has no secret, and ${change.isSigned ? "active_signature" : "transformer intelli"} ` +
        "needs one: RotateWebhookSecret makes one and turns signing on",
      { field: change.isSigned ? "active_signature" : "transformer" },
    );
  }
  checkSettings(after, new Set(Object.keys(change)), context);
  return after;
}

/** Why deliveries of an enabled webhook wait; null if nothing holds them. */
export function findHold(webhook: Webhook, context: RuleContext): string | null {
  const transformer = context.transformers.get(webhook.transformer);
  if (transformer === undefined) return `transformer ${webhook.transformer} is not loaded`;
  if (transformer.hold) return `transformer ${webhook.transformer} ${transformer.hold}`;
  const fault = context.findOptionsFault(transformer.optionsSchema, webhook.transformerOptions ?? {});
  return fault === null ? null : `transformer_options no longer fit ${webhook.transformer}: ${fault}`;
}

/** The trigger of a webhook that does not say: on for `intelli`, unless `event_types` names nothing of the kind. */
export function defaultOutgoing(transformer: string, eventTypes: readonly string[]): boolean {
  if (transformer !== "intelli") return false;
  const outgoingTypes = ["message.status", "message.sent"];
  return (
    eventTypes.length === 0 ||
    eventTypes.some((pattern) => outgoingTypes.some((type) => coversType(pattern, type)))
  );
}

/** @throws GatewayError `invalid_input`; the value of a header is never repeated */
export function checkHeaders(headers: Readonly<Record<string, string>>): void {
  const seen = new Set<string>();
  for (const [name, value] of Object.entries(headers)) {
    const field = `headers[${JSON.stringify(name)}]`;
    const fault = findHeaderFault(name, value) ?? findCharacterFault(value);
    if (fault !== null) throw invalid(field, fault, name);
    if (seen.has(name.toLowerCase())) throw invalid(field, "is given twice: case makes no difference", name);
    seen.add(name.toLowerCase());
  }
}

/** @throws GatewayError `invalid_input`; the secret is never repeated */
export function checkOwnSecret(secret: string): void {
  const length = [...secret].length;
  if (length < 24 || length > 200) throw invalid("signature_secret", "must have 24 to 200 characters");
  if (!secret.startsWith("whsec_")) return;
  const key = secret.slice("whsec_".length);
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(key) || Buffer.from(key, "base64").toString("base64") !== key) {
    throw invalid("signature_secret", "must be base64 after whsec_, since receivers decode it");
  }
}

function checkSettings(settings: WebhookSettings, touched: ReadonlySet<string>, context: RuleContext): void {
  const touches = (...names: (keyof WebhookSettings)[]) => names.some((name) => touched.has(name));
  if (touches("url")) checkUrl(settings.url, context.mode);
  checkWaitingDuration(settings);
  if (settings.transformer === "intelli" && !settings.isSigned) {
    throw invalid(
      "active_signature",
      "must be true with transformer intelli, whose webhooks are always signed",
    );
  }
  if (touches("eventTypes")) checkEventTypes(settings.eventTypes);
  const transformer = context.transformers.get(settings.transformer);
  if (transformer === undefined) {
    if (!touches("transformer", "transformerOptions")) return;
    const names = [...context.transformers.keys()].sort().join(", ");
    throw invalid("transformer", `${settings.transformer} is not loaded; there are ${names}`);
  }
  if (touches("transformer", "transformerOptions")) checkOptions(settings, transformer, context);
  if (touches("transformer", "eventTypes", "incoming", "outgoing")) {
    checkAdmitsSomething(settings, transformer.handles);
  }
}

function checkUrl(text: string, mode: RuleContext["mode"]): void {
  // `new URL` drops white space and control characters; what is shown should be what is called.
  if (/[\p{Cc}\s]/u.test(text)) throw invalid("webhooks", "must not hold white space or control characters");
  if (text.length > 2048) throw invalid("webhooks", "must have at most 2048 characters");
  const url = URL.parse(text);
  if (url === null) throw invalid("webhooks", "must be a full URL such as https://example.com/whatsapp");
  if (url.protocol !== "https:" && (url.protocol !== "http:" || mode === "production")) {
    throw invalid("webhooks", `must start with https://${mode === "production" ? "" : " or http://"}`);
  }
  if (url.username !== "" || url.password !== "") {
    throw invalid("webhooks", "must not hold a user name or password: send credentials in headers");
  }
  if (text.includes("#")) throw invalid("webhooks", "must not have a fragment (#…), which is never sent");
}

function checkWaitingDuration({ scheduleActivity, waitingDurationSeconds }: WebhookSettings): void {
  if (scheduleActivity && (waitingDurationSeconds < 1 || waitingDurationSeconds > 5_184_000)) {
    throw invalid("waiting_duration", "must be 1 to 5184000 seconds when schedule_activity is true");
  }
  if (!scheduleActivity && waitingDurationSeconds !== 0) {
    throw invalid("waiting_duration", "must be 0 when schedule_activity is false");
  }
}

function checkEventTypes(eventTypes: readonly string[]): void {
  for (const [index, pattern] of eventTypes.entries()) {
    if (isKnownPattern(pattern)) continue;
    throw invalid(
      `event_types[${index}]`,
      `is no event type: use ${messageTypes.join(", ")}, whatsapp.<field>, posthorn.webhook.disabled, ` +
        "posthorn.delivery.failed, or a start of one with * at its end",
    );
  }
}

/** @throws GatewayError `invalid_input` if the transformer does not take the options */
export function checkOptions(
  settings: Pick<WebhookSettings, "transformer" | "transformerOptions">,
  transformer: TransformerFacts,
  context: Pick<RuleContext, "findOptionsFault">,
): void {
  const options = settings.transformerOptions ?? {};
  const text = JSON.stringify(options);
  if (text.length > 16_384)
    throw invalid("transformer_options", "must have at most 16384 characters as JSON");
  if (unstorable.test(text)) {
    throw invalid("transformer_options", "must not hold U+0000 or half a surrogate pair");
  }
  const fault = context.findOptionsFault(transformer.optionsSchema, options);
  if (fault !== null) {
    throw invalid("transformer_options", `do not fit transformer ${settings.transformer}: ${fault}`);
  }
}

/** As JSON escapes what no JSON column takes: U+0000 and lone surrogates, behind an even number of backslashes. */
const unstorable = /(?<!\\)(?:\\\\)*\\u(?:0000|d[89a-f])/;

function checkAdmitsSomething(settings: WebhookSettings, handles: readonly string[]): void {
  if (messageTypes.some((type) => wantsType(settings, type, handles))) return;
  if (shareTriggerlessType(settings.eventTypes, handles)) return;
  const field = settings.eventTypes.length > 0 ? "event_types" : "incoming";
  throw invalid(
    field,
    `the webhook could admit nothing: transformer ${settings.transformer} handles ${handles.join(", ")}; ` +
      "incoming turns on message.received and message.reaction, outgoing turns on message.status and " +
      "message.sent, event_types must be empty or name what is wanted",
  );
}

/** HTTP carries one byte a character; anything beyond would fail every single attempt. */
function findCharacterFault(value: string): string | null {
  for (let index = 0; index < value.length; index++) {
    if (value.charCodeAt(index) > 0xff)
      return "has a value with a character beyond U+00FF, which HTTP cannot carry";
  }
  return null;
}

/** `field: fault`, the form that protovalidate's own messages have. */
function invalid(field: string, fault: string, subject = ""): GatewayError {
  return new GatewayError("invalid_input", `${field}: ${subject && `${subject} `}${fault}`, { field });
}
