/**
 * The table of settings: each environment variable with its rule, unit, default and effect. `config.ts` reads by it,
 * and `--help` and `.env.example` are written from it.
 */

import { isIP } from "node:net";
import { z } from "zod";

export interface Setting {
  /** Reads the text, which is neither blank nor unset; its issues say what is wrong. */
  schema: z.ZodType<unknown, string>;
  /** What to write, as it stands in an error: "a whole number from 0 to 65535". */
  write: string;
  /** Unit or form of the value. */
  unit: string;
  /** In words; what holds when the variable is unset or blank. */
  default: string;
  effect: string;
  /** Never repeated in an error or a log. */
  isSecret?: boolean;
}

export const settings = {
  NODE_ENV: {
    schema: z.enum(["production", "development", "test"], { error: "is none of the three modes" }),
    write: "production, development or test",
    unit: "mode",
    default: "development",
    effect:
      "production switches the strict rules on: keys and public URL are required, webhooks are https only.",
  },
  DATABASE_URL: {
    schema: urlOf(["postgres:", "postgresql:"], (url) => url.hostname !== "" || url.searchParams.has("host")),
    write: "a URL such as postgres://user:password@host:5432/database",
    unit: "URL",
    default: "unset: an embedded PostgreSQL in POSTHORN_DATA_DIR",
    effect: "PostgreSQL 15 or newer that holds everything.",
    isSecret: true,
  },
  POSTHORN_DATA_DIR: {
    schema: z.string(),
    write: "the path of a directory",
    unit: "path",
    default: ".posthorn",
    effect: "Directory of the embedded database and, in development, of generated keys.",
  },
  PORT: {
    schema: wholeNumber(0, 65_535),
    write: "a whole number from 0 to 65535",
    unit: "port number",
    default: "8080",
    effect: "The one port for gRPC, Connect, gRPC-Web and plain HTTP. 0 = any free port.",
  },
  POSTHORN_HOST: {
    schema: z
      .string()
      .refine((text) => isIP(text) !== 0 || /^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$/.test(text), {
        error: "is no address",
      }),
    write: "an address of this machine such as 127.0.0.1, 0.0.0.0 or ::",
    unit: "IP address or host name",
    default: "127.0.0.1",
    effect:
      "Address to listen on. Outside production, one that others can reach needs POSTHORN_ALLOW_INSECURE.",
  },
  POSTHORN_ALLOW_INSECURE: {
    schema: trueOrFalse(),
    write: "true or false",
    unit: "true or false",
    default: "false",
    effect: "Lets a gateway with development's loose rules listen where others can reach it.",
  },
  POSTHORN_TLS_CERT: {
    schema: z.string(),
    write: "the path of a PEM file",
    unit: "path",
    default: "unset: no TLS",
    effect: "Certificate chain (PEM). The port then takes TLS beside cleartext. Needs POSTHORN_TLS_KEY.",
  },
  POSTHORN_TLS_KEY: {
    schema: z.string(),
    write: "the path of a PEM file",
    unit: "path",
    default: "unset: no TLS",
    effect: "Private key (PEM) of POSTHORN_TLS_CERT.",
  },
  POSTHORN_PUBLIC_URL: {
    schema: urlOf(
      ["http:", "https:"],
      (url) => url.username === "" && url.password === "" && url.search === "" && url.hash === "",
    ).transform((text) => text.replace(/\/+$/, "")),
    write: "a URL without query such as https://gateway.example.com",
    unit: "URL",
    default: "unset: the address listened on; required in production",
    effect: "Where others reach this gateway; begins the links to media in payloads.",
  },
  POSTHORN_MASTER_KEY: {
    schema: listOf(
      z.base64().transform((text) => new Uint8Array(Buffer.from(text, "base64"))),
      (key) => (key.length === 32 ? null : `has ${key.length} bytes`),
      1,
      16,
    ),
    write: "base64 of 32 random bytes (openssl rand -base64 32), several separated by commas",
    unit: "base64 of 32 bytes, comma-separated",
    default: "made in POSTHORN_DATA_DIR; required in production",
    effect: "Encrypts secrets at rest: the first key encrypts, all decrypt.",
    isSecret: true,
  },
  POSTHORN_OPERATOR_KEY: {
    schema: listOf(
      z.string(),
      (key) => {
        if (key.length < 24) return `has ${key.length} characters`;
        return /^[\x21-\x7e]+$/.test(key) ? null : "holds characters that no HTTP header can carry";
      },
      1,
      2,
    ),
    write:
      "one key, or two separated by a comma, each of at least 24 letters, digits or signs without spaces",
    unit: "text, comma-separated",
    default: "made in POSTHORN_DATA_DIR and printed once; required in production",
    effect: "Key with every scope in every tenant. Two are allowed while one replaces the other.",
    isSecret: true,
  },
  WHATSAPP_APP_SECRET: {
    schema: listOf(z.string(), () => null, 1, 32),
    write: "the app secret from Meta's app dashboard, several separated by commas",
    unit: "text, comma-separated",
    default:
      "unset: in production only clients with an app secret of their own get WhatsApp events, in development they are taken from anybody",
    effect: "Checks that WhatsApp events come from Meta; any of the secrets may have signed.",
    isSecret: true,
  },
  WHATSAPP_VERIFY_TOKEN: {
    schema: z.string(),
    write: "the verify token that you give Meta with the callback URL",
    unit: "text",
    default: "unset: Meta's handshake is refused",
    effect: "Answers Meta's handshake on GET /whatsapp/webhook.",
    isSecret: true,
  },
  WHATSAPP_GRAPH_URL: {
    schema: urlOf(
      ["http:", "https:"],
      (url) => url.username === "" && url.password === "" && url.search === "" && url.hash === "",
    ).transform((text) => text.replace(/\/+$/, "")),
    write: "a URL without query such as https://graph.facebook.com, in production an https one",
    unit: "URL",
    default: "https://graph.facebook.com",
    effect: "WhatsApp's Graph API, which gets the access tokens of clients. https only in production.",
  },
  WHATSAPP_GRAPH_VERSION: {
    schema: z.string().regex(/^v\d{1,3}\.\d{1,3}$/, { error: "is no version" }),
    write: "a version such as v23.0",
    unit: "version",
    default: "v23.0",
    effect: "Version of the Graph API.",
  },
  POSTHORN_PLUGINS: {
    schema: listOf(z.string(), (text) => (/\p{Cc}/u.test(text) ? "holds a control character" : null), 1, 32),
    write:
      "paths of files and folders, or names of packages, separated by commas such as ./plugins,@acme/format",
    unit: "paths and package names, comma-separated",
    default: "unset: only what lies in the gateway's own plugins/",
    effect:
      "Transformer plugins to load: a file, a folder that is a plugin or holds plugins, or a package of the working directory. Read again on SIGHUP, in development whenever a file changes.",
  },
  POSTHORN_WORKERS: {
    schema: wholeNumber(1, 16),
    write: "a whole number from 1 to 16",
    unit: "threads",
    default: "one less than the machine has cores, at least 1, at most 16",
    effect: "Threads that transform, sign and send.",
  },
  POSTHORN_RETRY_SECONDS: {
    schema: z.preprocess((text) => (text === "none" ? [] : split(text)), retryWaits()) as z.ZodType<
      number[],
      string
    >,
    write: "up to 10 numbers from 0 to 604800 separated by commas such as 10,60,300, or none",
    unit: "seconds, comma-separated",
    default: "10,60,300",
    effect: "Waits before the second, third, … attempt of a delivery. none = one attempt only.",
  },
  POSTHORN_RETENTION_DAYS: {
    schema: wholeNumber(1, 3_650),
    write: "a whole number from 1 to 3650",
    unit: "days",
    default: "30",
    effect:
      "How long events, deliveries and attempts are kept, and so are events of numbers that nobody has and bodies that made no sense. What is not delivered by then fails as expired. The audit is kept for 400 days, or for as long if that is longer.",
  },
  POSTHORN_CONVERSATION_DAYS: {
    schema: wholeNumber(0, 36_500).refine((days) => days === 0 || days >= 7, {
      error: "is less than the 7 days for which links to media hold",
    }),
    write: "0, or a whole number from 7 to 36500 that is not less than POSTHORN_RETENTION_DAYS",
    unit: "days",
    default: "0: for ever",
    effect:
      "How long messages are kept, with their edits, links to media and, of those that were sent, their state. A contact goes with its last message.",
  },
  POSTHORN_AUTO_DISABLE_AFTER: {
    schema: z
      .string()
      .regex(/^\d{1,3}(\.\d{1,6})?$/, { error: "is no number of days" })
      .transform(Number)
      .refine((days) => days <= 365, { error: "is more than 365" }),
    write: "a number of days from 0 to 365 such as 5 or 0.5",
    unit: "days",
    default: "5",
    effect:
      "A webhook whose attempts, 20 at least, have done nothing but fail for so long is turned off. 0 = never.",
  },
  POSTHORN_ALLOWED_NETWORKS: {
    schema: listOf(z.string(), (text) => (isNetwork(text) ? null : "is no CIDR"), 1, 100),
    write: "CIDRs separated by commas such as 10.1.0.0/16,fd00::/8",
    unit: "CIDRs, comma-separated",
    default: "unset: public addresses only; in development loopback and private ones too",
    effect: "Networks that webhooks may lie in besides; https stays required in production.",
  },
  POSTHORN_CA_FILE: {
    schema: z.string(),
    write: "the path of a PEM file",
    unit: "path",
    default: "unset",
    effect:
      "Certificates (PEM) of authorities that endpoints' certificates may come from besides the usual ones.",
  },
  POSTHORN_EGRESS_PROXY: {
    schema: urlOf(["http:", "https:"], (url) => url.pathname === "/" && url.search === "" && url.hash === ""),
    write: "a URL such as http://user:password@proxy.example.com:3128",
    unit: "URL",
    default: "unset: endpoints are connected to directly",
    effect: "HTTP proxy that all requests to endpoints and to WhatsApp go through.",
    isSecret: true,
  },
  POSTHORN_AUTO_CLIENTS: {
    schema: trueOrFalse(),
    write: "true or false",
    unit: "true or false",
    default: "true in development, false in production",
    effect: "Makes a client in tenant default for a phone number id that no client has.",
  },
  POSTHORN_TRANSFORM_TIMEOUT_MS: {
    schema: wholeNumber(1, 2_000),
    write: "a whole number from 1 to 2000",
    unit: "milliseconds",
    default: "250",
    effect: "How long a transformer may take for one payload.",
  },
  LOG_LEVEL: {
    schema: z.enum(["trace", "debug", "info", "warn", "error", "fatal", "silent"], { error: "is no level" }),
    write: "trace, debug, info, warn, error, fatal or silent",
    unit: "level",
    default: "info",
    effect: "Least level of the log lines on standard output; debug has a line for every request.",
  },
} as const satisfies Record<string, Setting>;

export type SettingName = keyof typeof settings;
/** What a setting reads as; undefined when unset or blank. */
export type SettingValues = {
  [Name in SettingName]: z.output<(typeof settings)[Name]["schema"]> | undefined;
};

/** The pieces between commas, trimmed. */
function split(text: unknown): string[] {
  return String(text)
    .split(",")
    .map((piece) => piece.trim());
}

/**
 * A comma-separated list.
 *
 * @param fault  what is wrong with an element, without repeating it; null = nothing
 */
function listOf<T>(
  element: z.ZodType<T, string>,
  fault: (value: T) => string | null,
  countMin: number,
  countMax: number,
): z.ZodType<T[], string> {
  return z.string().transform((text, context) => {
    const pieces = split(text);
    const values: T[] = [];
    for (const [index, piece] of pieces.entries()) {
      const where = pieces.length === 1 ? "" : `, number ${index + 1} of ${pieces.length},`;
      const parsed = element.safeParse(piece);
      const problem = piece === "" ? "is empty" : parsed.success ? fault(parsed.data) : "has the wrong form";
      if (problem !== null) context.addIssue(`${where} ${problem}`.trimStart());
      else if (parsed.success) values.push(parsed.data);
    }
    if (pieces.length < countMin || pieces.length > countMax) {
      context.addIssue(`has ${pieces.length} values, of which ${countMax} are allowed`);
    }
    return values;
  });
}

function retryWaits(): z.ZodType<number[], string[]> {
  const wait = z
    .string()
    .regex(/^\d+(\.\d+)?$/, { error: "holds something that is no number" })
    .transform(Number)
    .refine((seconds) => seconds <= 604_800, { error: "holds a wait of more than a week" });
  return z.array(wait).max(10, { error: "holds more than 10 waits" });
}

function wholeNumber(min: number, max: number): z.ZodType<number, string> {
  return z
    .string()
    .regex(/^\d{1,15}$/, { error: "is no whole number" })
    .transform(Number)
    .refine((value) => value >= min && value <= max, { error: `is not from ${min} to ${max}` });
}

function trueOrFalse(): z.ZodType<boolean, string> {
  return z
    .enum(["true", "false"], { error: "is neither true nor false" })
    .transform((text) => text === "true");
}

function urlOf(protocols: string[], isFit: (url: URL) => boolean): z.ZodType<string, string> {
  return z.string().refine(
    (text) => {
      const url = URL.parse(text);
      return url !== null && protocols.includes(url.protocol) && isFit(url);
    },
    { error: "is no such URL" },
  );
}

function isNetwork(text: string): boolean {
  const [, address = "", bits = ""] = /^(.+)\/(\d{1,3})$/.exec(text) ?? [];
  const version = isIP(address);
  return version !== 0 && !address.includes("%") && Number(bits) <= (version === 4 ? 32 : 128);
}
