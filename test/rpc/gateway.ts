/** The services on real ports, over a real database, with the real publisher; only the sending of deliveries is left out. */

import { hash, randomBytes, randomFillSync } from "node:crypto";
import { createServer as createHttpServer } from "node:http";
import { createServer as createHttp2Server } from "node:http2";
import type { AddressInfo } from "node:net";
import { fromBinary } from "@bufbuild/protobuf";
import { ViolationsSchema } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import pino from "pino";
import { builtinTransformers } from "../../plugins/builtin.ts";
import type { Transformer } from "../../plugins/transformer.ts";
import { systemClock as realClock } from "../../server/clock.ts";
import { loadConfig } from "../../server/config.ts";
import { createPreview } from "../../server/delivery/preview.ts";
import { createPublisher } from "../../server/delivery/publish.ts";
import { createRecoveries } from "../../server/delivery/recovery.ts";
import { createWatches } from "../../server/delivery/watches.ts";
import { createIdSource } from "../../server/domain/ids.ts";
import { createMediaLinks } from "../../server/domain/media-link.ts";
import { createMessages } from "../../server/replies/messages.ts";
import { scopes } from "../../server/rpc/auth.ts";
import { createKeyUsage } from "../../server/rpc/key-usage.ts";
import { createRpcHandler } from "../../server/rpc/router.ts";
import { changeConfiguration, sealedFor } from "../../server/store/configuration.ts";
import { retryDelivery } from "../../server/store/delivery-changes.ts";
import { openDirectory } from "../../server/store/directory.ts";
import { openDatabase } from "../../server/store/orm.ts";
import { createPartitions } from "../../server/store/partitions.ts";
import { createPostgresQueue } from "../../server/store/postgres-queue.ts";
import { createRateLimiter } from "../../server/store/rate-limiter.ts";
import { createSealer } from "../../server/store/sealer.ts";
import { splitBody } from "../../server/whatsapp/envelope.ts";
import { createGraph } from "../../server/whatsapp/graph.ts";
import { createGraphMessages } from "../../server/whatsapp/graph-messages.ts";
import { makeOutgoingEvent, readStatus, restoreCallback } from "../../server/whatsapp/outgoing-event.ts";
import { judgeSendError } from "../../server/whatsapp/send-errors.ts";
import { openTestDatabase } from "../helpers/database.ts";
import { openTestPlugins } from "../helpers/plugins.ts";

export const operatorKey = "phk_operator";
export const nextOperatorKey = "phk_operator_next";

export interface Answer {
  status: number;
  headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: tests look at whatever JSON came
  body: any;
  text: string;
}

export interface CreatedKey {
  id: number;
  key: string;
  /** Authorization of a request with it. */
  headers: Record<string, string>;
}

export type RpcGateway = Awaited<ReturnType<typeof openRpcGateway>>;

export interface RpcGatewayOptions {
  mode?: "production" | "development";
  /** Beside `default`. */
  tenants?: string[];
  /** Beside those that come with the gateway. */
  transformers?: Transformer[];
  /** Default: a port where nothing listens. */
  graphUrl?: string;
  graphTimeoutMs?: number;
  /** Default: true. */
  autoClients?: boolean;
}

export async function openRpcGateway(options: RpcGatewayOptions = {}) {
  const testDatabase = await openTestDatabase();
  const database = await openDatabase(testDatabase.url, { onConnectionError: () => undefined });
  const sealer = createSealer([new Uint8Array(32).fill(7)]);
  const clock = { at: new Date("2026-03-05T12:00:00.123Z") };
  const systemClock = {
    now: () => new Date(clock.at),
    sleep: () => new Promise<void>((resolve) => setTimeout(resolve, 1)),
  };
  const logged: Record<string, unknown>[] = [];
  const log = pino({ level: "info" }, { write: (line: string) => logged.push(JSON.parse(line)) });
  const directory = await openDirectory(database, testDatabase.url, sealer, log);
  const tenantIds: Record<string, number> = { default: 1 };
  for (const name of options.tenants ?? []) {
    await changeConfiguration(database, async (em, version) => {
      const rows = await em.execute<{ id: number }[]>(
        "INSERT INTO tenant (name, version, created_at) VALUES (?, ?, now()) RETURNING id",
        [name, version],
      );
      tenantIds[name] = rows[0]!.id;
    });
  }
  await directory.announce();
  const transformers = new Map<string, Transformer>(
    [...builtinTransformers, ...(options.transformers ?? [])].map((one) => [one.name, one]),
  );
  const partitions = createPartitions(database.pool);
  const ids = createIdSource(
    () => clock.at.getTime(),
    (bytes) => randomFillSync(bytes),
  );
  const publisher = createPublisher(
    {
      queue: createPostgresQueue(database.pool),
      database,
      directory,
      partitions,
      handover: {
        reserve: () => false,
        release: () => undefined,
        start: () => undefined,
        waitForRoom: async () => undefined,
      },
      handlesOf: (name) => transformers.get(name)?.handles,
      ids,
      makeMediaLink: createMediaLinks(() => "https://gateway.example", randomBytes),
      clock: systemClock,
      log,
    },
    {
      autoClients: options.autoClients ?? true,
      leaseMs: 30_000,
      batchEventsMax: 500,
      batchBytesMax: 4 * 1024 * 1024,
      queueEventsMax: 10_000,
    },
  );
  const keyUsage = createKeyUsage({ database, clock: systemClock, log });
  const graphSettings = {
    url: options.graphUrl ?? "http://127.0.0.1:9",
    version: "v23.0",
    timeoutMs: options.graphTimeoutMs ?? 5_000,
    responseBytesMax: 64 * 1024,
    caPem: null,
    egressProxy: null,
  };
  const graph = createGraph(graphSettings);
  const graphMessages = createGraphMessages(graphSettings);
  const messages = createMessages(
    {
      database,
      publish: publisher.publish,
      graph: graphMessages,
      judgeError: judgeSendError,
      makeEvent: makeOutgoingEvent,
      readStatus,
      restoreCallback,
      openToken: (sealed) => sealer.open(Buffer.from(sealed), sealedFor.accessToken),
      ids,
      random: () => 0.5,
      clock: systemClock,
      log,
    },
    {
      perNumberSecond: 80,
      pairIntervalMs: 6_000,
      pairBurst: 45,
      pollMs: 500,
      leaseMs: 20_000,
      inFlightMax: 10,
      callTimeoutMs: 10_000,
      requestTimeoutMs: graphSettings.timeoutMs,
      closeGraceMs: 1_000,
    },
  );
  const wakeUps = { count: 0 };
  const constants = loadConfig({}, { coreCount: 2 });
  // The time stands still, and whoever waits for it waits all the same.
  const waitingClock = { now: systemClock.now, sleep: realClock.sleep };
  const recoveries = createRecoveries(
    {
      queue: createPostgresQueue(database.pool),
      database,
      directory,
      partitions,
      handlesOf: (name) => transformers.get(name)?.handles,
      wakeDispatcher: () => undefined,
      ids,
      clock: waitingClock,
      log,
    },
    // Never taken up: what is started stays as it is.
    { ...constants.recovery, heldMax: 0 },
  );
  const watches = createWatches({ database, clock: waitingClock }, constants.watches);
  const announce = { run: () => directory.announce() };
  const shutdown = new AbortController();
  const plugins = await openTestPlugins({ builtin: [...transformers.values()] });
  const handler = createRpcHandler({
    database,
    sealer,
    clock: systemClock,
    log,
    mode: options.mode ?? "development",
    operatorKeyDigests: [operatorKey, nextOperatorKey].map((key) => hash("sha256", key, "buffer")),
    directory: directory.current,
    rateLimiter: createRateLimiter(database.pool),
    noteKeyUsed: keyUsage.note,
    transformers,
    plugins,
    preview: createPreview({ database, plugins, ids, clock: systemClock }),
    graph,
    probe: { run: () => Promise.reject(new Error("there are no threads here")) },
    publisher,
    messages,
    splitBody,
    configurationChanged: () => announce.run(),
    wakeDispatcher: () => {
      wakeUps.count++;
    },
    retryDelivery: (owner, deliveryId, now) => retryDelivery(database, owner, deliveryId, now),
    startRecovery: recoveries.start,
    watchAttempts: watches.watch,
    shutdownSignal: shutdown.signal,
  });
  const http = createHttpServer(handler);
  const http2 = createHttp2Server(handler);
  const [url, http2Url] = await Promise.all(
    [http, http2].map(async (server) => {
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    }),
  );

  async function read(response: Response): Promise<Answer> {
    const text = await response.text();
    const isJson = response.headers.get("Content-Type")?.includes("json");
    return {
      status: response.status,
      headers: response.headers,
      body: isJson ? JSON.parse(text) : undefined,
      text,
    };
  }

  const call = async (method: string, body: unknown, headers?: Record<string, string>): Promise<Answer> => {
    const response = await fetch(`${url}/posthorn.v1.${method}`, {
      method: "POST",
      headers: {
        "Content-Type": "application/json",
        ...(headers ?? { Authorization: `Bearer ${operatorKey}` }),
      },
      body: typeof body === "string" ? body : JSON.stringify(body),
    });
    return await read(response);
  };

  return {
    url: url!,
    http2Url: http2Url!,
    database,
    databaseUrl: testDatabase.url,
    sealer,
    directory,
    partitions,
    ids,
    clock,
    logged,
    wakeUps,
    /** Tells the configuration's changes; a test may replace `run`. */
    announce,
    transformers,
    tenantIds,
    /** POST of JSON, as curl would; headers given replace those of the operator. */
    call,
    /** Makes a key of a tenant with every scope and no rate limit, unless told otherwise. */
    async createKey(fields: Record<string, unknown> = {}, tenant = "default"): Promise<CreatedKey> {
      const asked = { name: "test", scopes, rate_limit_per_minute: 0, ...fields };
      const { body } = await call("ApiKeyService/CreateApiKey", asked, asTenant(tenant));
      if (body.key === undefined) throw new Error(JSON.stringify(body));
      return { id: body.api_key.id, key: body.key, headers: { Authorization: `Bearer ${body.key}` } };
    },
    /** Makes a client with numbers, as if it had been added. */
    async addClient(clientRef: string, numbers: string[] = [], tenant = "default"): Promise<void> {
      const tenantId = directory.current.tenantIds.get(tenant)!;
      await changeConfiguration(database, async (em, version) => {
        const [row] = await em.execute<{ id: number }[]>(
          "INSERT INTO client (tenant_id, client_ref, version, created_at) VALUES (?, ?, ?, now()) RETURNING id",
          [tenantId, clientRef, version],
        );
        for (const number of numbers) {
          await em.execute(
            `INSERT INTO phone_number (phone_number_id, client_id, version, created_at) VALUES (?, ?, ?, now())`,
            [number, row!.id, version],
          );
        }
      });
      await directory.announce();
    },
    /** GET with the message in the query. */
    async get(method: string, message: unknown, headers?: Record<string, string>): Promise<Answer> {
      const query = new URLSearchParams({
        connect: "v1",
        encoding: "json",
        message: JSON.stringify(message),
      });
      const response = await fetch(`${url}/posthorn.v1.${method}?${query}`, {
        headers: headers ?? { Authorization: `Bearer ${operatorKey}` },
      });
      return await read(response);
    },
    async close() {
      await watches.close();
      await recoveries.close();
      http2.close();
      http.closeAllConnections();
      await new Promise((resolve) => http.close(resolve));
      await plugins.close();
      await messages.close();
      await graphMessages.close();
      await publisher.close();
      await graph.close();
      await keyUsage.close();
      await directory.close();
      await database.close();
      await testDatabase.close();
    },
  };
}

export function asTenant(name: string): Record<string, string> {
  return { Authorization: `Bearer ${operatorKey}`, "Posthorn-Tenant": name };
}

/** A request that CreateWebhook takes; `undefined` takes a field out. */
export function aWebhook(changes: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    webhooks: "https://example.com/whatsapp",
    status: true,
    incoming: true,
    schedule_activity: false,
    waiting_duration: 0,
    active_signature: false,
    ...changes,
  };
}

/** Paths of the fields that a `buf.validate.Violations` detail names, such as `event_types[0]`. */
export function fieldsAtFault(answer: Answer): string[] {
  const details: { type: string; value: string }[] = answer.body.details ?? [];
  return details
    .filter((detail) => detail.type === "buf.validate.Violations")
    .flatMap((detail) => fromBinary(ViolationsSchema, Buffer.from(detail.value, "base64")).violations)
    .map((violation) =>
      (violation.field?.elements ?? [])
        .map((element) => {
          const { subscript } = element;
          if (subscript.case === undefined) return element.fieldName;
          const key = subscript.case === "stringKey" ? JSON.stringify(subscript.value) : subscript.value;
          return `${element.fieldName}[${key}]`;
        })
        .join("."),
    );
}
