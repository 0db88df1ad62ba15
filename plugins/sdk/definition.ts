/** What is wrong with a transformer, which a plugin in JavaScript may have got wrong in any way. */

/** One thing that is wrong with a transformer. */
export interface DefinitionFault {
  /** The field at fault; null when it is the whole. */
  readonly field: string | null;
  /** One sentence that names the field and says what it should be. */
  readonly message: string;
}

/** Thrown by `defineTransformer`: all faults at once. */
export class DefinitionError extends Error {
  readonly faults: readonly DefinitionFault[];

  constructor(name: unknown, faults: readonly DefinitionFault[]) {
    const whose =
      typeof name === "string" && name !== "" ? `transformer ${JSON.stringify(name)}` : "a transformer";
    super(`${whose}: ${faults.map(({ message }) => message).join("; ")}`);
    this.name = "DefinitionError";
    this.faults = faults;
  }
}

const fields = [
  "name",
  "version",
  "description",
  "handles",
  "signature",
  "optionsSchema",
  "history",
  "pure",
  "transform",
] as const;
type Field = (typeof fields)[number];

const messageTypes = ["message.received", "message.reaction", "message.status", "message.sent"];
const familyPrefixes = ["message.", "whatsapp.", "posthorn."];

/** `[]` if the transformer is as the contract wants it. */
export function findDefinitionFaults(transformer: unknown): DefinitionFault[] {
  if (typeof transformer !== "object" || transformer === null || Array.isArray(transformer)) {
    return [{ field: null, message: "it must be an object: defineTransformer({ name, version, … })" }];
  }
  const given = transformer as Record<string, unknown>;
  const faults: DefinitionFault[] = [];
  if (!Object.isExtensible(given)) faults.push({ field: null, message: "it must not be frozen" });
  for (const field of fields) {
    const message = checks[field](given[field], given);
    if (message !== null) faults.push({ field, message });
  }
  for (const key of Object.keys(given)) {
    if ((fields as readonly string[]).includes(key)) continue;
    faults.push({
      field: key,
      message: `${JSON.stringify(key)} is no field of a transformer${suggest(key, fields)}`,
    });
  }
  return faults;
}

const checks: Record<Field, (value: unknown, given: Record<string, unknown>) => string | null> = {
  name: (value) =>
    typeof value === "string" && /^[a-z][a-z0-9-]{0,63}$/.test(value)
      ? null
      : '"name" must be 1 to 64 lower-case letters, digits and hyphens, a letter first',
  version: (value) =>
    typeof value === "string" && /^[\x21-\x7e]{1,64}$/.test(value)
      ? null
      : '"version" must be a text such as "1.0.0": 1 to 64 characters without blanks',
  description: (value) =>
    typeof value === "string" && value.length <= 500
      ? null
      : '"description" must be a text of at most 500 characters',
  handles: findHandlesFault,
  signature: (value) =>
    value === undefined || value === "intelli" || value === "insights"
      ? null
      : '"signature" must be "intelli", "insights" or left out',
  optionsSchema: findSchemaFault,
  history: findHistoryFault,
  pure: (value) =>
    value === undefined || typeof value === "boolean" ? null : '"pure" must be true, false or left out',
  transform: (value) =>
    typeof value === "function"
      ? null
      : '"transform" must be a function of the input: transform({ event }) { … }',
};

function findHandlesFault(value: unknown): string | null {
  if (value !== undefined && !Array.isArray(value)) {
    return '"handles" must be a list, such as ["message.received"]';
  }
  if (value === undefined || value.length === 0) {
    return '"handles" must name at least one event type: ["message.received"]';
  }
  for (const pattern of value) {
    if (typeof pattern !== "string" || !/^(?=.)[a-z0-9_.]*\*?$/.test(pattern)) {
      return `"handles" holds ${show(pattern)}: name an event type, or a prefix with one "*" at its end`;
    }
    if (!coversSomething(pattern)) {
      return (
        `"handles" holds ${show(pattern)}, which no event has for a type${suggest(pattern, messageTypes)} ` +
        `(there are ${messageTypes.join(", ")} and whatsapp.<field>)`
      );
    }
  }
  const repeated = value.find((pattern, index) => value.indexOf(pattern) !== index);
  return repeated === undefined ? null : `"handles" holds ${show(repeated)} twice`;
}

function coversSomething(pattern: string): boolean {
  if (pattern.endsWith("*")) {
    const prefix = pattern.slice(0, -1);
    return (
      familyPrefixes.some((family) => family.startsWith(prefix)) ||
      messageTypes.some((type) => type.startsWith(prefix)) ||
      /^(whatsapp|posthorn)\./.test(prefix)
    );
  }
  return messageTypes.includes(pattern) || /^(whatsapp|posthorn)\.[a-z0-9_.]+$/.test(pattern);
}

function findSchemaFault(value: unknown): string | null {
  if (value === undefined) return null;
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    return '"optionsSchema" must be a JSON Schema: { type: "object", properties: { … } }';
  }
  const { type, properties } = value as Record<string, unknown>;
  if (type !== undefined && type !== "object") {
    return `"optionsSchema" is of type ${show(type)}: options are always an object, so it must be "object"`;
  }
  if (properties !== undefined && (typeof properties !== "object" || properties === null)) {
    return '"optionsSchema" must list the options in "properties": { greeting: { type: "string" } }';
  }
  try {
    JSON.stringify(value);
    return null;
  } catch {
    return '"optionsSchema" must be plain JSON, without references to itself';
  }
}

function findHistoryFault(value: unknown, { optionsSchema }: Record<string, unknown>): string | null {
  if (value === undefined) return null;
  const isByOption = typeof value === "object" && value !== null;
  const count = isByOption ? (value as Record<string, unknown>).default : value;
  if (!Number.isInteger(count) || Number(count) < 0 || Number(count) > 50) {
    return '"history" must be 0 to 50 messages, or { option, default } with such a default';
  }
  if (!isByOption) return null;
  const { option } = value as Record<string, unknown>;
  const properties = (optionsSchema as { properties?: unknown } | undefined)?.properties;
  const isKnown =
    typeof option === "string" &&
    typeof properties === "object" &&
    properties !== null &&
    Object.hasOwn(properties, option);
  return isKnown ? null : `"history" names the option ${show(option)}, which "optionsSchema" does not have`;
}

function show(value: unknown): string {
  return typeof value === "string" ? JSON.stringify(value.slice(0, 80)) : String(typeof value);
}

/** `: did you mean "handles"?` where one of the names is a slip of the pen away; else nothing. */
function suggest(given: string, names: readonly string[]): string {
  const close = names.find((name) => isSlip(given.toLowerCase(), name.toLowerCase()));
  return close === undefined ? "" : `: did you mean ${JSON.stringify(close)}?`;
}

/** True if at most two letters are missing, too many, wrong or in the wrong place. */
function isSlip(given: string, name: string): boolean {
  if (Math.abs(given.length - name.length) > 2) return false;
  let start = 0;
  while (start < given.length && given[start] === name[start]) start++;
  let end = 0;
  while (
    end < given.length - start &&
    end < name.length - start &&
    given[given.length - 1 - end] === name[name.length - 1 - end]
  ) {
    end++;
  }
  return given.length - start - end <= 2 && name.length - start - end <= 2;
}
