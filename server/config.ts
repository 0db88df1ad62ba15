/**
 * Environment -> Config: read once, checked once, every fault told at once. Pure: no file is opened here.
 * Each part of the gateway gets its own slice (`config-slices.ts`).
 */

import { buildConfig, retentionDaysDefault } from "./build-config.ts";
import type { Config } from "./config-slices.ts";
import { type Setting, type SettingName, type SettingValues, settings } from "./settings.ts";

export type { Config } from "./config-slices.ts";

export interface ConfigFault {
  /** Name of the environment variable, or of the constants that do not fit. */
  name: string;
  /** What is wrong and what to write; holds no secret. */
  message: string;
}

/** Its message lists every fault, one a line. */
export class ConfigError extends Error {
  readonly faults: readonly ConfigFault[];

  constructor(faults: readonly ConfigFault[]) {
    super(faults.map(({ name, message }) => `${name} ${message}`).join("\n"));
    this.name = "ConfigError";
    this.faults = faults;
  }
}

/**
 * @param env      the process's environment; blank counts as unset
 * @param machine  how many cores there are, which decides the default of POSTHORN_WORKERS
 * @returns the settings, frozen all the way down
 * @throws ConfigError with every fault
 */
export function loadConfig(
  env: Readonly<Record<string, string | undefined>>,
  machine: { coreCount: number },
): Config {
  const faults: ConfigFault[] = [];
  const values = readSettings(env, faults);
  // An unreadable mode is judged by the strict rules, so that the first list of faults is the whole one.
  const mode =
    values.NODE_ENV === "production" || faults.some(({ name }) => name === "NODE_ENV")
      ? "production"
      : "development";
  faults.push(...checkTogether(values, mode, new Set(faults.map(({ name }) => name))));
  if (faults.length > 0) throw new ConfigError(faults);
  const config = buildConfig(values, mode, machine.coreCount, findUnknown(env));
  checkConfig(config);
  return freeze(config);
}

/**
 * Checks the constants of the slices against each other; for configurations that a test changed, too.
 *
 * @throws ConfigError
 */
export function checkConfig(config: Config): void {
  const { intake, listener, graph, delivery, replies, workers, autoDisable } = config;
  const faults: ConfigFault[] = [];
  const expect = (isTrue: boolean, name: string, message: string) => {
    if (!isTrue) faults.push({ name, message });
  };
  expect(
    delivery.leaseMs >= delivery.holdMs + delivery.requestTimeoutMs + workers.transformTimeoutMs + 1_000,
    "delivery.leaseMs",
    "must outlast the wait in hand, a transform and a request by a second, or deliveries are claimed while they are sent",
  );
  expect(
    delivery.leaseMs + 2 * delivery.rescueIntervalMs <= 30_000,
    "delivery.leaseMs",
    "and two rescueIntervalMs must be at most 30000: a dead process's claims are free by then",
  );
  expect(
    intake.heldBytesMax >= 2 * intake.bodyBytesMax,
    "intake.heldBytesMax",
    "must hold two of the longest bodies",
  );
  expect(
    listener.limits.requestTimeoutMs >= listener.limits.headersTimeoutMs &&
      listener.limits.requestTimeoutMs >= intake.bodyDeadlineMs,
    "listener.limits.requestTimeoutMs",
    "must cover the head and the body of a request",
  );
  expect(
    replies.leaseMs >= graph.timeoutMs + 2_000,
    "replies.leaseMs",
    "must outlast a request and the wait for its place by a second, or what is under way is taken for lost",
  );
  expect(
    autoDisable.confirmMs >= 2 * autoDisable.flushMs,
    "autoDisable.confirmMs",
    "must be two flushMs at least: a success that another process has not told of yet would not count",
  );
  expect(
    listener.closeGraceMs + replies.closeGraceMs + delivery.closeGraceMs + delivery.recordGraceMs < 15_000,
    "closeGraceMs",
    "of listener, replies and delivery and recordGraceMs must leave the other parts time to close within 15 s",
  );
  if (faults.length > 0) throw new ConfigError(faults);
}

function readSettings(
  env: Readonly<Record<string, string | undefined>>,
  faults: ConfigFault[],
): SettingValues {
  const values: Partial<Record<SettingName, unknown>> = {};
  for (const [name, setting] of Object.entries<Setting>(settings)) {
    const text = env[name]?.trim() ?? "";
    if (text === "") continue;
    const result = setting.schema.safeParse(text);
    if (result.success) values[name as SettingName] = result.data;
    else {
      const problems = [...new Set(result.error.issues.map((issue) => issue.message))].join(" and ");
      const shown = setting.isSecret ? "" : `${JSON.stringify(text.slice(0, 100))} `;
      faults.push({ name, message: `${shown}${problems}: write ${setting.write}.` });
    }
  }
  return values as SettingValues;
}

/** Rules that concern several settings. `faulty` names those whose own fault is told already. */
function checkTogether(
  values: SettingValues,
  mode: Config["mode"],
  faulty: ReadonlySet<string>,
): ConfigFault[] {
  const faults: ConfigFault[] = [];
  const isMissing = (name: SettingName) => values[name] === undefined && !faulty.has(name);
  if (mode === "production") {
    for (const name of ["POSTHORN_MASTER_KEY", "POSTHORN_OPERATOR_KEY", "POSTHORN_PUBLIC_URL"] as const) {
      if (!isMissing(name)) continue;
      faults.push({ name, message: `is required in production: write ${settings[name].write}.` });
    }
    if (values.WHATSAPP_GRAPH_URL?.startsWith("http:")) {
      faults.push({
        name: "WHATSAPP_GRAPH_URL",
        message: `is not encrypted: write ${settings.WHATSAPP_GRAPH_URL.write}.`,
      });
    }
  } else {
    const host = values.POSTHORN_HOST ?? "127.0.0.1";
    if (!isLoopback(host) && values.POSTHORN_ALLOW_INSECURE !== true) {
      faults.push({
        name: "POSTHORN_HOST",
        message:
          `${JSON.stringify(host)} lets others reach a gateway with development's loose rules: set ` +
          "NODE_ENV=production, or write 127.0.0.1, or set POSTHORN_ALLOW_INSECURE=true if the network is yours alone.",
      });
    }
  }
  const { POSTHORN_CONVERSATION_DAYS: conversationDays = 0 } = values;
  const logDays = values.POSTHORN_RETENTION_DAYS ?? retentionDaysDefault;
  const isJudged = !faulty.has("POSTHORN_RETENTION_DAYS");
  if (conversationDays > 0 && conversationDays < logDays && isJudged) {
    faults.push({
      name: "POSTHORN_CONVERSATION_DAYS",
      message:
        `${conversationDays} is less than POSTHORN_RETENTION_DAYS (${logDays}): events that are still in the log need ` +
        `the messages before them. Write at least ${logDays}, or 0 for ever, or keep the log shorter.`,
    });
  }
  for (const [name, other] of [
    ["POSTHORN_TLS_CERT", "POSTHORN_TLS_KEY"],
    ["POSTHORN_TLS_KEY", "POSTHORN_TLS_CERT"],
  ] as const) {
    if (isMissing(name) && !isMissing(other)) {
      faults.push({
        name,
        message: `is missing beside ${other}: write ${settings[name].write}, or set neither.`,
      });
    }
  }
  return faults;
}

/** Read by the commands that speak to a gateway; one `.env` may serve both. */
const commandVariables = new Set(["POSTHORN_URL", "POSTHORN_KEY"]);

/** Variables that look like ours and are not: most are typing errors, which would otherwise have no effect unseen. */
function findUnknown(env: Readonly<Record<string, string | undefined>>): string[] {
  return Object.keys(env)
    .filter((name) => /^(POSTHORN|WHATSAPP)_/.test(name) && !Object.hasOwn(settings, name))
    .filter((name) => !commandVariables.has(name))
    .sort()
    .map((name) => `${name} is no setting and has no effect; --help lists them all`);
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127\.\d+\.\d+\.\d+$/.test(host);
}

function freeze<T extends object>(value: T): T {
  for (const part of Object.values(value)) {
    // Bytes cannot be frozen.
    if (typeof part === "object" && part !== null && !ArrayBuffer.isView(part)) freeze(part);
  }
  return Object.freeze(value);
}
