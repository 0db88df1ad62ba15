import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { type Config, ConfigError, checkConfig, loadConfig } from "../server/config.ts";
import { envExample, settingsText } from "../server/help.ts";
import { type Setting, settings } from "../server/settings.ts";

const machine = { coreCount: 4 };
const masterKey = Buffer.alloc(32, 7).toString("base64");
const operatorKey = "operator-key-of-24-chars";
const production = {
  NODE_ENV: "production",
  POSTHORN_MASTER_KEY: masterKey,
  POSTHORN_OPERATOR_KEY: operatorKey,
  POSTHORN_PUBLIC_URL: "https://gateway.example.com",
};

type Env = Record<string, string>;

function load(env: Env = {}): Config {
  return loadConfig(env, machine);
}

function faultsOf(env: Env): { name: string; message: string }[] {
  try {
    load(env);
  } catch (error) {
    if (error instanceof ConfigError) return [...error.faults];
    throw error;
  }
  return [];
}

describe("without any setting", () => {
  test("the documented defaults hold", () => {
    expect(load()).toMatchObject({
      mode: "development",
      database: { url: null },
      dataDir: ".posthorn",
      listener: { host: "127.0.0.1", port: 8080, tls: null },
      intake: { appSecrets: [], verifyToken: null, bodyBytesMax: 4_194_304 },
      publicUrl: null,
      keys: { masterKeys: [], operatorKeys: [] },
      delivery: { retryScheduleMs: [10_000, 60_000, 300_000], requestTimeoutMs: 10_000, leaseMs: 20_000 },
      workers: {
        threadCount: 3,
        allowedNetworks: [],
        caPath: null,
        egressProxy: null,
        transformTimeoutMs: 250,
      },
      retention: { logDays: 30, conversationDays: 0, auditDays: 400 },
      autoDisable: { afterMs: 432_000_000, failedCountMin: 20 },
      autoClients: true,
      log: { level: "info" },
      warnings: [],
    });
  });

  test("the threads leave one core free, but there is one, and at most 16", () => {
    const threadCounts = [1, 2, 8, 64].map((coreCount) => loadConfig({}, { coreCount }).workers.threadCount);
    expect(threadCounts).toEqual([1, 1, 7, 16]);
  });

  test("blank counts as unset", () => {
    const blank = Object.fromEntries(Object.keys(settings).map((name) => [name, "  "]));
    expect(load(blank)).toEqual(load());
  });
});

describe("what is read", () => {
  test.each<[string, Env, (config: Config) => unknown, unknown]>([
    ["port 0", { PORT: "0" }, (c) => c.listener.port, 0],
    [
      "days that are kept",
      {
        POSTHORN_RETENTION_DAYS: "90",
        POSTHORN_CONVERSATION_DAYS: "365",
        POSTHORN_AUTO_DISABLE_AFTER: "0.5",
      },
      (c) => [c.retention.logDays, c.retention.conversationDays, c.autoDisable.afterMs],
      [90, 365, 43_200_000],
    ],
    [
      "webhooks that are never turned off",
      { POSTHORN_AUTO_DISABLE_AFTER: "0" },
      (c) => c.autoDisable.afterMs,
      0,
    ],
    [
      "an audit that is kept as long as the log, if that is longer",
      { POSTHORN_RETENTION_DAYS: "1000" },
      (c) => c.retention.auditDays,
      1_000,
    ],
    ["several app secrets", { WHATSAPP_APP_SECRET: "a, b" }, (c) => c.intake.appSecrets, ["a", "b"]],
    [
      "Graph's usual place",
      {},
      (c) => `${c.graph.url}/${c.graph.version}`,
      "https://graph.facebook.com/v23.0",
    ],
    [
      "another place of Graph",
      { WHATSAPP_GRAPH_URL: "http://127.0.0.1:9/", WHATSAPP_GRAPH_VERSION: "v24.0" },
      (c) => `${c.graph.url}/${c.graph.version}`,
      "http://127.0.0.1:9/v24.0",
    ],
    ["a verify token", { WHATSAPP_VERIFY_TOKEN: "t" }, (c) => c.intake.verifyToken, "t"],
    [
      "decimals",
      { POSTHORN_RETRY_SECONDS: "0,0.5, 1.25" },
      (c) => c.delivery.retryScheduleMs,
      [0, 500, 1_250],
    ],
    ["no retries", { POSTHORN_RETRY_SECONDS: "none" }, (c) => c.delivery.retryScheduleMs, []],
    [
      "plugins by path and by name",
      { POSTHORN_PLUGINS: "./plugins, @acme/format" },
      (c) => c.plugins.named,
      ["./plugins", "@acme/format"],
    ],
    ["no watching of plugins in production", production, (c) => c.plugins.watchMs, null],
    [
      "networks of both versions",
      { POSTHORN_ALLOWED_NETWORKS: "10.1.0.0/16, fd00::/8" },
      (c) => c.workers.allowedNetworks,
      ["10.1.0.0/16", "fd00::/8"],
    ],
    [
      "several master keys, the first first",
      { POSTHORN_MASTER_KEY: `${masterKey},${Buffer.alloc(32, 9).toString("base64")}` },
      (c) => c.keys.masterKeys.map((key) => key[0]),
      [7, 9],
    ],
    [
      "two operator keys",
      { POSTHORN_OPERATOR_KEY: `${operatorKey},${operatorKey}2` },
      (c) => c.keys.operatorKeys,
      [operatorKey, `${operatorKey}2`],
    ],
    [
      "a public URL, without its last slash",
      { POSTHORN_PUBLIC_URL: "https://example.com/posthorn/" },
      (c) => c.publicUrl,
      "https://example.com/posthorn",
    ],
    [
      "certificate and key",
      { POSTHORN_TLS_CERT: "c.pem", POSTHORN_TLS_KEY: "k.pem" },
      (c) => c.listener.tls,
      { certPath: "c.pem", keyPath: "k.pem" },
    ],
    ["a database", { DATABASE_URL: "postgresql://u:p@db/x" }, (c) => c.database.url, "postgresql://u:p@db/x"],
    [
      "a database behind a socket",
      { DATABASE_URL: "postgres:///x?host=/run/postgresql" },
      (c) => c.database.url,
      "postgres:///x?host=/run/postgresql",
    ],
    [
      "a proxy",
      { POSTHORN_EGRESS_PROXY: "http://u:p@proxy:3128" },
      (c) => c.workers.egressProxy,
      "http://u:p@proxy:3128",
    ],
    ["no automatic clients in production", production, (c) => c.autoClients, false],
    [
      "automatic clients in production on demand",
      { ...production, POSTHORN_AUTO_CLIENTS: "true" },
      (c) => c.autoClients,
      true,
    ],
    [
      "an open address in production",
      { ...production, POSTHORN_HOST: "0.0.0.0" },
      (c) => c.listener.host,
      "0.0.0.0",
    ],
    [
      "an open address in development on demand",
      { POSTHORN_HOST: "::", POSTHORN_ALLOW_INSECURE: "true" },
      (c) => c.listener.host,
      "::",
    ],
    ["another loopback address", { POSTHORN_HOST: "::1" }, (c) => c.listener.host, "::1"],
    ["test mode as development", { NODE_ENV: "test" }, (c) => c.mode, "development"],
  ])("%s", (_what, env, read, expected) => {
    expect(read(load(env))).toEqual(expected);
  });
});

describe("what is refused", () => {
  test.each<[string, string, string]>([
    ["NODE_ENV", "prod", "write production"],
    ["NODE_ENV", "Production", "write production"],
    ["DATABASE_URL", "mysql://u:p@db/x", "write a URL such as postgres://"],
    ["DATABASE_URL", "db:5432", "write a URL such as postgres://"],
    ["PORT", "http", "from 0 to 65535"],
    ["PORT", "65536", "from 0 to 65535"],
    ["PORT", "-1", "from 0 to 65535"],
    ["PORT", "80.5", "from 0 to 65535"],
    ["POSTHORN_HOST", "http://x", "write an address"],
    ["POSTHORN_HOST", "0.0.0.0", "POSTHORN_ALLOW_INSECURE=true"],
    ["POSTHORN_HOST", "::", "POSTHORN_ALLOW_INSECURE=true"],
    ["POSTHORN_HOST", "192.168.1.5", "POSTHORN_ALLOW_INSECURE=true"],
    ["POSTHORN_HOST", "127.0.0.1.example.com", "POSTHORN_ALLOW_INSECURE=true"],
    ["POSTHORN_ALLOW_INSECURE", "yes", "write true or false"],
    ["WHATSAPP_GRAPH_URL", "graph.facebook.com", "write a URL"],
    ["WHATSAPP_GRAPH_URL", "https://u:p@graph.example/", "write a URL"],
    ["WHATSAPP_GRAPH_VERSION", "23", "write a version such as v23.0"],
    ["WHATSAPP_GRAPH_VERSION", "v23.0/me", "write a version such as v23.0"],
    ["POSTHORN_PUBLIC_URL", "gateway.example.com", "write a URL"],
    ["POSTHORN_PUBLIC_URL", "https://x.example/?a=b", "write a URL"],
    ["POSTHORN_PUBLIC_URL", "https://u:p@x.example/", "write a URL"],
    ["POSTHORN_MASTER_KEY", "short", "base64 of 32 random bytes"],
    ["POSTHORN_MASTER_KEY", Buffer.alloc(31).toString("base64"), "has 31 bytes"],
    ["POSTHORN_MASTER_KEY", `${masterKey},`, "number 2 of 2, is empty"],
    ["POSTHORN_OPERATOR_KEY", "x".repeat(23), "has 23 characters"],
    ["POSTHORN_OPERATOR_KEY", "with a space in the very middle", "no HTTP header can carry"],
    ["POSTHORN_OPERATOR_KEY", [1, 2, 3].map((n) => operatorKey + n).join(), "of which 2 are allowed"],
    ["WHATSAPP_APP_SECRET", "a,,b", "number 2 of 3, is empty"],
    ["POSTHORN_PLUGINS", "./plugins,,@acme/format", "number 2 of 3, is empty"],
    ["POSTHORN_PLUGINS", Array(33).fill("./plugin").join(), "has 33 values, of which 32 are allowed"],
    ["POSTHORN_WORKERS", "0", "from 1 to 16"],
    ["POSTHORN_WORKERS", "17", "from 1 to 16"],
    ["POSTHORN_RETRY_SECONDS", "10,x", "separated by commas"],
    ["POSTHORN_RETRY_SECONDS", "-1", "separated by commas"],
    ["POSTHORN_RETRY_SECONDS", "10,,60", "separated by commas"],
    ["POSTHORN_RETRY_SECONDS", "1,2,3,4,5,6,7,8,9,10,11", "more than 10 waits"],
    ["POSTHORN_RETRY_SECONDS", "604801", "more than a week"],
    ["POSTHORN_RETENTION_DAYS", "0", "from 1 to 3650"],
    ["POSTHORN_RETENTION_DAYS", "1.5", "from 1 to 3650"],
    ["POSTHORN_CONVERSATION_DAYS", "6", "less than the 7 days"],
    ["POSTHORN_CONVERSATION_DAYS", "29", "Write at least 30"],
    ["POSTHORN_AUTO_DISABLE_AFTER", "-1", "write a number of days"],
    ["POSTHORN_AUTO_DISABLE_AFTER", "366", "more than 365"],
    ["POSTHORN_ALLOWED_NETWORKS", "10.0.0.1", "is no CIDR"],
    ["POSTHORN_ALLOWED_NETWORKS", "10.0.0.0/33", "is no CIDR"],
    ["POSTHORN_ALLOWED_NETWORKS", "fd00::/129", "is no CIDR"],
    ["POSTHORN_ALLOWED_NETWORKS", "internal/8", "is no CIDR"],
    ["POSTHORN_EGRESS_PROXY", "proxy:3128", "write a URL"],
    ["POSTHORN_EGRESS_PROXY", "socks5://proxy:1080", "write a URL"],
    ["POSTHORN_AUTO_CLIENTS", "1", "write true or false"],
    ["POSTHORN_TRANSFORM_TIMEOUT_MS", "0", "from 1 to 2000"],
    ["LOG_LEVEL", "verbose", "write trace"],
  ])("%s=%s", (name, value, expected) => {
    const env = name === "NODE_ENV" ? { ...production, NODE_ENV: value } : { [name]: value };
    expect(faultsOf(env)).toEqual([{ name, message: expect.stringContaining(expected) }]);
  });

  test.each([
    ["POSTHORN_TLS_CERT", "POSTHORN_TLS_KEY"],
    ["POSTHORN_TLS_KEY", "POSTHORN_TLS_CERT"],
  ])("%s without %s", (given, missing) => {
    expect(faultsOf({ [given]: "x.pem" })).toEqual([
      { name: missing, message: expect.stringContaining(given) },
    ]);
  });

  test("production with a Graph API that is not encrypted", () => {
    const faults = faultsOf({ ...production, WHATSAPP_GRAPH_URL: "http://graph.example" });
    expect(faults).toEqual([{ name: "WHATSAPP_GRAPH_URL", message: expect.stringContaining("https") }]);
  });

  test("conversations that go before the events that need them", () => {
    const days = (log: string, conversations: string) =>
      faultsOf({ POSTHORN_RETENTION_DAYS: log, POSTHORN_CONVERSATION_DAYS: conversations });
    expect(days("90", "89")).toMatchObject([{ name: "POSTHORN_CONVERSATION_DAYS" }]);
    expect(days("90", "90")).toEqual([]);
    expect(days("90", "0")).toEqual([]);
    expect(days("x", "7").map(({ name }) => name)).toEqual(["POSTHORN_RETENTION_DAYS"]);
  });

  test("production without keys and public URL", () => {
    expect(faultsOf({ NODE_ENV: "production" }).map(({ name }) => name)).toEqual([
      "POSTHORN_MASTER_KEY",
      "POSTHORN_OPERATOR_KEY",
      "POSTHORN_PUBLIC_URL",
    ]);
  });

  test("everything wrong at once is told at once", () => {
    const faults = faultsOf({
      NODE_ENV: "live",
      PORT: "x",
      POSTHORN_MASTER_KEY: "x",
      POSTHORN_TLS_KEY: "k.pem",
      POSTHORN_WORKERS: "many",
      LOG_LEVEL: "loud",
    });
    expect(faults.map(({ name }) => name).sort()).toEqual([
      "LOG_LEVEL",
      "NODE_ENV",
      "PORT",
      "POSTHORN_MASTER_KEY",
      "POSTHORN_OPERATOR_KEY",
      "POSTHORN_PUBLIC_URL",
      "POSTHORN_TLS_CERT",
      "POSTHORN_WORKERS",
    ]);
  });

  test("the error's message names every variable on a line of its own", () => {
    expect(() => load({ PORT: "x", LOG_LEVEL: "loud" })).toThrow(/^PORT "x" .*\nLOG_LEVEL "loud" .*$/);
  });

  test("no secret is repeated", () => {
    const secrets = Object.entries<Setting>(settings).filter(([, setting]) => setting.isSecret);
    const env = Object.fromEntries(secrets.map(([name]) => [name, "hidden value,,"]));
    const faults = faultsOf(env);
    expect(faults.length).toBeGreaterThanOrEqual(4);
    expect(JSON.stringify(faults)).not.toContain("hidden");
  });
});

describe("what is read stays as it is", () => {
  test("all the way down", () => {
    const config = load();
    expect(() => {
      config.delivery.retryScheduleMs.push(1);
    }).toThrow(TypeError);
    expect(() => {
      config.listener.limits.socketsMax = 1;
    }).toThrow(TypeError);
  });

  test("and the environment is not touched", () => {
    const env = Object.freeze({ PORT: "1" });
    expect(loadConfig(env, machine).listener.port).toBe(1);
  });
});

describe("typing errors", () => {
  test("variables that look like ours and are not are warned of by name", () => {
    const { warnings } = load({ POSTHORN_WORKER: "2", WHATSAPP_SECRET: "x", OTHER: "y" });
    expect(warnings).toEqual([
      expect.stringMatching(/^POSTHORN_WORKER /),
      expect.stringMatching(/^WHATSAPP_SECRET /),
    ]);
  });

  test("what the commands read is known: one .env may serve both", () => {
    expect(load({ POSTHORN_URL: "http://127.0.0.1:8080", POSTHORN_KEY: "phk_of-somebody" }).warnings).toEqual(
      [],
    );
  });
});

describe("constants are checked against each other", () => {
  test.each<[string, (config: Config) => Config]>([
    ["delivery.leaseMs", (c) => ({ ...c, delivery: { ...c.delivery, leaseMs: 10_000 } })],
    ["delivery.leaseMs", (c) => ({ ...c, delivery: { ...c.delivery, leaseMs: 31_000 } })],
    ["intake.heldBytesMax", (c) => ({ ...c, intake: { ...c.intake, heldBytesMax: 5_000_000 } })],
    ["autoDisable.confirmMs", (c) => ({ ...c, autoDisable: { ...c.autoDisable, confirmMs: 9_999 } })],
    ["closeGraceMs", (c) => ({ ...c, listener: { ...c.listener, closeGraceMs: 15_000 } })],
    ["listener.limits.requestTimeoutMs", (c) => ({ ...c, intake: { ...c.intake, bodyDeadlineMs: 90_000 } })],
  ])("%s", (name, change) => {
    expect(() => checkConfig(change(load()))).toThrow(name);
    expect(() => checkConfig(load())).not.toThrow();
  });

  test("no setting in its range breaks them", () => {
    expect(() => load({ POSTHORN_TRANSFORM_TIMEOUT_MS: "2000" })).not.toThrow();
  });
});

describe("help", () => {
  test("shows every setting with unit, default and effect", () => {
    const words = (text: string) => text.replace(/\s+/g, " ");
    const text = words(settingsText());
    for (const [name, setting] of Object.entries(settings)) {
      expect(text).toContain(
        words(`${name} (${setting.unit}) ${setting.effect} Default: ${setting.default}.`),
      );
    }
  });

  test(".env.example is written from the same table", () => {
    expect(readFileSync(new URL("../.env.example", import.meta.url), "utf8")).toBe(envExample());
  });
});
