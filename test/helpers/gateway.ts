/** The whole gateway for tests: in this process (`startTestGateway`), or as the process that users run (`spawnGateway`). */

import { type ChildProcess, spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import pino from "pino";
import { startApp } from "../../server/app.ts";
import type { Clock } from "../../server/clock.ts";
import { type Config, checkConfig, loadConfig } from "../../server/config.ts";
import { openTestDatabase } from "./database.ts";
import { waitFor } from "./wait.ts";
import { toBytes } from "./whatsapp-bodies.ts";

export const appSecret = "app-secret-of-the-tests";
export const operatorKey = "phk_operator_key_of_the_tests";

export interface Answer {
  status: number;
  headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: tests look at whatever JSON came
  body: any;
}

/** A delivery as `ListDeliveries` gives it. */
export interface ListedDelivery {
  id: string;
  webhook_id: number;
  event_id: string;
  event_type: string;
  state: string;
  reason?: string;
  attempt_count: number;
  created_at: number;
  next_attempt_at?: string;
  finished_at?: string;
}

export interface ListedAttempt {
  number: number;
  started_at: string;
  duration_ms: number;
  outcome: "succeeded" | "failed" | "lost";
  error_kind?: string;
  response_status?: number;
}

/** What a user can do from outside. */
export interface GatewayClient {
  url(): string;
  /** POST of JSON over Connect as the operator; `method` such as `WebhookService/GetWebhook`. */
  call(method: string, body: unknown): Promise<Answer>;
  /** Makes an enabled, unsigned `raw` webhook for everything inbound, unless told otherwise; throws if refused. */
  createWebhook(fields: { webhooks: string } & Record<string, unknown>): Promise<CreatedWebhook>;
  /** Throws if the change is refused. */
  updateWebhook(id: number, fields: Record<string, unknown>): Promise<void>;
  /** POST to the intake, signed as Meta signs; bytes go as they are. Gives the status, 0 if no answer came. */
  postBody(body: unknown): Promise<number>;
  /** All deliveries that `ListDeliveries` finds, oldest first. */
  deliveries(filter?: Record<string, unknown>): Promise<ListedDelivery[]>;
  /** Settles once there are `count` deliveries of this filter, all of them in one of `states`. */
  waitForStates(
    count: number,
    states: string[],
    filter?: object,
    boundMs?: number,
  ): Promise<ListedDelivery[]>;
  attempts(deliveryId: string): Promise<ListedAttempt[]>;
}

export interface CreatedWebhook {
  id: number;
  signature_secret: string;
}

/** Parts of slices of the Config that a test replaces. */
export type ConfigOverrides = {
  [Slice in keyof Config]?: Config[Slice] extends object ? Partial<Config[Slice]> : Config[Slice];
};

export interface TestGatewayOptions {
  /** An existing database, which outlives the gateway; default: a fresh one that closes with it. */
  databaseUrl?: string;
  env?: Record<string, string>;
  overrides?: ConfigOverrides;
  clock?: Clock;
}

export interface TestGateway extends GatewayClient {
  databaseUrl: string;
  /** Log lines of level `info` and above. */
  logged: Record<string, unknown>[];
  close(): Promise<void>;
}

/** Starts every part in this process on a free port, as `main.ts` does. */
export async function startTestGateway(options: TestGatewayOptions = {}): Promise<TestGateway> {
  const ownDatabase = options.databaseUrl === undefined ? await openTestDatabase() : null;
  const databaseUrl = options.databaseUrl ?? ownDatabase!.url;
  const logged: Record<string, unknown>[] = [];
  const log = pino({ level: "info" }, { write: (line: string) => logged.push(JSON.parse(line)) });
  try {
    const config = withOverrides(
      loadConfig(testEnv(databaseUrl, options.env), { coreCount: 2 }),
      options.overrides ?? {},
    );
    const app = await startApp(config, { log, ...(options.clock && { clock: options.clock }) });
    return {
      ...createClient(() => app.url),
      databaseUrl,
      logged,
      async close() {
        await app.close();
        await ownDatabase?.close();
      },
    };
  } catch (error) {
    await ownDatabase?.close();
    throw error;
  }
}

export interface SpawnedGateway extends GatewayClient {
  /** Of the process as it runs now. */
  pid(): number;
  /** Lines of its output so far, over all its lives. */
  lines: string[];
  /** Sends a signal; settles when the process has ended, with its exit code (null if the signal ended it). */
  kill(signal: NodeJS.Signals): Promise<number | null>;
  /** Starts the process again after it has ended; settles when it listens. */
  restart(): Promise<void>;
  /** Ends the process if it still runs, and removes its directory. */
  close(): Promise<void>;
}

/** Runs `server/main.ts` as a process of its own; settles when it listens. Without `DATABASE_URL` it brings its own. */
export async function spawnGateway(env: Record<string, string>): Promise<SpawnedGateway> {
  const directory = await mkdtemp(join(tmpdir(), "posthorn-gateway-"));
  const lines: string[] = [];
  let child: ChildProcess;
  let ended: Promise<number | null>;
  let url = "";

  async function start(): Promise<void> {
    // Far from any `.env`; the data directory outlives the process, as in real life.
    child = spawn(process.execPath, [fileURLToPath(new URL("../../server/main.ts", import.meta.url))], {
      cwd: directory,
      env: {
        PATH: process.env.PATH,
        ...testEnv(undefined, { POSTHORN_DATA_DIR: join(directory, "data"), ...env }),
      },
      stdio: ["ignore", "pipe", "pipe"],
    });
    ended = new Promise((resolve) => child.once("close", (code) => resolve(code)));
    const listening = Promise.withResolvers<string>();
    for (const stream of [child.stdout!, child.stderr!]) {
      createInterface({ input: stream }).on("line", (line) => {
        lines.push(line);
        const found = /"listening on (http:[^"]+)"/.exec(line);
        if (found) listening.resolve(found[1]!);
      });
    }
    ended.then((code) =>
      listening.reject(new Error(`it ended with ${code}: ${lines.slice(-20).join("\n")}`)),
    );
    const timer = setTimeout(
      () => listening.reject(new Error(`it does not listen: ${lines.join("\n")}`)),
      30_000,
    );
    try {
      url = await listening.promise;
    } catch (error) {
      child.kill("SIGKILL");
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  await start();
  return {
    ...createClient(() => url),
    pid: () => child.pid!,
    lines,
    async kill(signal) {
      child.kill(signal);
      return await ended;
    },
    restart: start,
    async close() {
      if (child.exitCode === null && child.signalCode === null) child.kill("SIGTERM");
      const timer = setTimeout(() => child.kill("SIGKILL"), 20_000);
      await ended;
      clearTimeout(timer);
      await rm(directory, { recursive: true, force: true });
    },
  };
}

function testEnv(databaseUrl: string | undefined, env: Record<string, string> = {}): Record<string, string> {
  return {
    NODE_ENV: "development",
    PORT: "0",
    POSTHORN_WORKERS: "1",
    POSTHORN_MASTER_KEY: Buffer.alloc(32, 7).toString("base64"),
    POSTHORN_OPERATOR_KEY: operatorKey,
    WHATSAPP_APP_SECRET: appSecret,
    ...(databaseUrl !== undefined && { DATABASE_URL: databaseUrl }),
    ...env,
  };
}

/** What the overrides name is replaced; the result meets the same rules as any configuration. */
function withOverrides(config: Config, overrides: ConfigOverrides): Config {
  const changed: Record<string, unknown> = { ...config };
  for (const [name, part] of Object.entries(overrides)) {
    const slice = changed[name];
    const isSlice = typeof slice === "object" && slice !== null;
    changed[name] = isSlice ? { ...slice, ...(part as object) } : part;
  }
  checkConfig(changed as unknown as Config);
  return changed as unknown as Config;
}

function createClient(url: () => string): GatewayClient {
  async function call(method: string, body: unknown): Promise<Answer> {
    const response = await fetch(`${url()}/posthorn.v1.${method}`, {
      method: "POST",
      headers: { "Content-Type": "application/json", Authorization: `Bearer ${operatorKey}` },
      body: JSON.stringify(body),
    });
    return { status: response.status, headers: response.headers, body: await response.json() };
  }

  async function ask(method: string, body: unknown) {
    const answer = await call(method, body);
    if (answer.status !== 200) throw new Error(`${method}: ${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.body;
  }

  async function deliveries(filter: Record<string, unknown> = {}): Promise<ListedDelivery[]> {
    const found: ListedDelivery[] = [];
    let pageToken = "";
    do {
      const page = await ask("DeliveryService/ListDeliveries", {
        ...filter,
        page_size: 500,
        page_token: pageToken,
      });
      found.push(...page.deliveries);
      pageToken = page.next_page_token;
    } while (pageToken !== "");
    return found.reverse();
  }

  return {
    url,
    call,
    async createWebhook(fields) {
      return await ask("WebhookService/CreateWebhook", {
        status: true,
        incoming: true,
        schedule_activity: false,
        waiting_duration: 0,
        active_signature: false,
        transformer: "raw",
        ...fields,
      });
    },
    async updateWebhook(id, fields) {
      await ask("WebhookService/UpdateWebhook", { id, ...fields });
    },
    async postBody(body) {
      const bytes = body instanceof Uint8Array ? body : toBytes(body);
      const signature = createHmac("sha256", appSecret).update(bytes).digest("hex");
      try {
        const response = await fetch(`${url()}/whatsapp/webhook`, {
          method: "POST",
          headers: { "Content-Type": "application/json", "X-Hub-Signature-256": `sha256=${signature}` },
          body: bytes as Uint8Array<ArrayBuffer>,
        });
        await response.arrayBuffer();
        return response.status;
      } catch {
        return 0;
      }
    },
    deliveries,
    async waitForStates(count, states, filter = {}, boundMs = 10_000) {
      const all = (found: ListedDelivery[]) => found.every(({ state }) => states.includes(state));
      return await waitFor(
        `${count} deliveries that are ${states.join(" or ")}`,
        () => deliveries(filter as Record<string, unknown>),
        (found) => found.length === count && all(found),
        boundMs,
      );
    },
    async attempts(deliveryId) {
      return (await ask("DeliveryService/GetDelivery", { id: deliveryId })).attempts;
    },
  };
}
