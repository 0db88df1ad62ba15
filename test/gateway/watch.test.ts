import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { afterEach, describe, expect, test } from "vitest";
import {
  DeliveryService,
  WatchDeliveriesEndSchema,
  type WatchDeliveriesResponse,
} from "../../gen/posthorn/v1/delivery_service_pb.ts";
import { systemClock } from "../../server/clock.ts";
import { loadConfig } from "../../server/config.ts";
import { openTestDatabase } from "../helpers/database.ts";
import {
  operatorKey,
  startTestGateway,
  type TestGateway,
  type TestGatewayOptions,
} from "../helpers/gateway.ts";
import { queryRows } from "../helpers/query-rows.ts";
import { startReceiver } from "../helpers/receiver.ts";
import { waitFor } from "../helpers/wait.ts";
import { aChange, anEnvelope, aReaction, aTextMessage } from "../helpers/whatsapp-bodies.ts";

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

function closing<T extends { close(): Promise<unknown> }>(part: T): T {
  closers.push(() => part.close());
  return part;
}

const startGateway = async (options: TestGatewayOptions = {}) =>
  closing(
    await startTestGateway({
      ...options,
      overrides: { delivery: { retryScheduleMs: [50, 100, 150] }, ...options.overrides },
    }),
  );

type Transport = "connect" | "connect over HTTP/2" | "gRPC";

function clientOf(gateway: TestGateway, transport: Transport = "connect", key = operatorKey) {
  const withKey: Interceptor = (next) => (request) => {
    request.header.set("Authorization", `Bearer ${key}`);
    return next(request);
  };
  const options = { baseUrl: gateway.url(), interceptors: [withKey], acceptCompression: [] };
  if (transport === "gRPC") return createClient(DeliveryService, createGrpcTransport(options));
  const httpVersion = transport === "connect" ? "1.1" : "2";
  return createClient(DeliveryService, createConnectTransport({ ...options, httpVersion }));
}

interface Watch {
  /** Attempts so far. */
  attempts: WatchDeliveriesResponse[];
  /** All messages so far. */
  messages: WatchDeliveriesResponse[];
  /** Settles once there are so many attempts. */
  waitFor(count: number): Promise<WatchDeliveriesResponse[]>;
  /** What ended it; undefined for an end that this side asked for. */
  ended: Promise<ConnectError | undefined>;
  close(): Promise<void>;
}

/** Settles when the stream has begun. */
async function watch(
  gateway: TestGateway,
  request: Parameters<ReturnType<typeof clientOf>["watchDeliveries"]>[0] = {},
  { transport, key }: { transport?: Transport; key?: string } = {},
): Promise<Watch> {
  const stop = new AbortController();
  const messages: WatchDeliveriesResponse[] = [];
  const attempts: WatchDeliveriesResponse[] = [];
  const stream = clientOf(gateway, transport, key).watchDeliveries(request, { signal: stop.signal });
  const ended = (async () => {
    try {
      for await (const message of stream) {
        messages.push(message);
        if (message.attempt) attempts.push(message);
      }
    } catch (error) {
      if (!stop.signal.aborted) return ConnectError.from(error);
    }
    return undefined;
  })();
  const begun = await Promise.race([
    waitFor(
      "first message",
      () => messages.length,
      (count) => count > 0,
    ),
    ended,
  ]);
  if (begun instanceof ConnectError) throw begun;
  const close = async () => {
    stop.abort();
    await ended;
  };
  closers.push(close);
  return {
    attempts,
    messages,
    async waitFor(count) {
      await waitFor(
        `${count} attempts on the stream`,
        () => attempts.map(({ delivery, attempt }) => `${delivery?.id}/${attempt?.number}`),
        (seen) => seen.length >= count,
      );
      return attempts;
    },
    ended,
    close,
  };
}

async function post(gateway: TestGateway, from: number, to: number): Promise<void> {
  const messages = Array.from({ length: to - from }, (_, index) =>
    aTextMessage({ id: `wamid.${from + index}` }),
  );
  expect(await gateway.postBody(anEnvelope([aChange({ messages })]))).toBe(200);
}

const nameOf = ({ delivery, attempt }: WatchDeliveriesResponse) => `${delivery!.id}/${attempt!.number}`;

/** Every attempt that the log has, by the same names. */
async function loggedNames(gateway: TestGateway): Promise<string[]> {
  const rows = await queryRows(gateway.databaseUrl)("SELECT delivery_id, number FROM attempt");
  return rows.map((row) => `${row.delivery_id}/${row.number}`).sort();
}

describe("WatchDeliveries", () => {
  test.each<Transport>(["connect", "connect over HTTP/2", "gRPC"])(
    "streams each attempt once, as it ends, with its delivery, over %s",
    async (transport) => {
      const gateway = await startGateway();
      // Every third delivery is refused once.
      const known = new Set<unknown>();
      const receiver = closing(
        await startReceiver({
          answer({ headers }) {
            const isNew = !known.has(headers["webhook-id"]);
            known.add(headers["webhook-id"]);
            return { status: isNew && known.size % 3 === 0 ? 500 : 200, body: "taken" };
          },
        }),
      );
      const { id } = await gateway.createWebhook({ webhooks: receiver.url });
      await post(gateway, 0, 3);
      await gateway.waitForStates(3, ["delivered"]);
      const stream = await watch(gateway, {}, { transport });
      const before = (await loggedNames(gateway)).length;
      expect(stream.attempts).toEqual([]);
      for (let round = 0; round < 5; round++) await post(gateway, 3 + round * 4, 7 + round * 4);
      await gateway.waitForStates(23, ["delivered"]);
      const logged = await loggedNames(gateway);
      await stream.waitFor(logged.length - before);
      const seen = stream.attempts.map(nameOf);
      expect(new Set(seen).size).toBe(seen.length);
      expect(logged.filter((name) => seen.includes(name))).toHaveLength(logged.length - before);
      const failed = stream.attempts.find(({ attempt }) => attempt?.outcome === "failed");
      expect(failed?.attempt).toMatchObject({
        errorKind: "http_status",
        responseStatus: 500,
        responseBody: "taken",
      });
      expect(failed?.delivery).toMatchObject({ webhookId: id, eventType: "message.received" });
      const succeeded = stream.attempts.find(({ attempt }) => attempt?.outcome === "succeeded");
      expect(succeeded?.delivery?.state).toBe("delivered");
    },
  );

  test("tells of attempts that any gateway on the database made", async () => {
    const database = closing(await openTestDatabase());
    const gateways = [
      await startGateway({ databaseUrl: database.url }),
      await startGateway({ databaseUrl: database.url }),
    ] as const;
    const receiver = closing(await startReceiver());
    await gateways[0].createWebhook({ webhooks: receiver.url });
    const streams = await Promise.all(gateways.map((gateway) => watch(gateway)));
    for (let round = 0; round < 10; round++) await post(gateways[round % 2]!, round * 5, round * 5 + 5);
    const seen = await Promise.all(streams.map((stream) => stream.waitFor(50)));
    const logged = await loggedNames(gateways[0]);
    for (const attempts of seen) expect(attempts.map(nameOf).sort()).toEqual(logged);
  });

  test("goes on from a resume token with all that came after it, and nothing twice", async () => {
    const gateway = await startGateway();
    const receiver = closing(await startReceiver());
    await gateway.createWebhook({ webhooks: receiver.url });
    const first = await watch(gateway);
    await post(gateway, 0, 40);
    await first.waitFor(40);
    await first.close();
    // Nobody watches.
    await post(gateway, 40, 90);
    await gateway.waitForStates(90, ["delivered"]);
    const names = first.attempts.map(nameOf);
    for (const index of [0, 17, 39]) {
      const next = await watch(gateway, { resumeToken: first.attempts[index]!.resumeToken });
      await next.waitFor(89 - index);
      const seen = next.attempts.map(nameOf);
      expect(seen.slice(0, 39 - index)).toEqual(names.slice(index + 1));
      expect([...names.slice(0, index + 1), ...seen].sort()).toEqual(await loggedNames(gateway));
      await next.close();
    }
    const start = await watch(gateway, { resumeToken: first.messages[0]!.resumeToken });
    await start.waitFor(90);
    await post(gateway, 90, 95);
    await start.waitFor(95);
    expect(start.attempts.map(nameOf).sort()).toEqual(await loggedNames(gateway));
  });

  test("keeps to its filters", async () => {
    const gateway = await startGateway();
    const [good, bad] = [
      closing(await startReceiver()),
      closing(await startReceiver({ answer: { status: 500 } })),
    ];
    const { id: goodId } = await gateway.createWebhook({ webhooks: good.url });
    const { id: badId } = await gateway.createWebhook({ webhooks: bad.url });
    const ofGood = await watch(gateway, { webhookId: goodId });
    const failed = await watch(gateway, { states: ["failed"] });
    const reactions = await watch(gateway, { eventType: "message.reaction", webhookId: goodId });
    const past = await watch(gateway, { until: { seconds: 1_700_000_000n } });
    const all = await watch(gateway);
    await post(gateway, 0, 2);
    expect(await gateway.postBody(anEnvelope([aChange({ messages: [aReaction()] })]))).toBe(200);
    await gateway.waitForStates(6, ["delivered", "failed"]);
    await all.waitFor(3 + 3 * 4);
    await failed.waitFor(3);
    // Each has had its turn since: its position is behind what the one without filters has seen.
    await Promise.all([ofGood.waitFor(3), reactions.waitFor(1)]);
    expect(ofGood.attempts.map(({ delivery }) => delivery?.webhookId)).toEqual([goodId, goodId, goodId]);
    expect(reactions.attempts.map(({ delivery }) => delivery?.eventType)).toEqual(["message.reaction"]);
    expect(failed.attempts.every(({ delivery }) => delivery?.webhookId === badId)).toBe(true);
    expect(failed.attempts.some(({ attempt }) => attempt?.number === 4)).toBe(true);
    expect(past.attempts).toEqual([]);
  });

  test("ends with the place to go on from when the gateway stops, and there goes on", async () => {
    const database = closing(await openTestDatabase());
    const first = await startTestGateway({ databaseUrl: database.url });
    const receiver = closing(await startReceiver());
    await first.createWebhook({ webhooks: receiver.url });
    const streams = await Promise.all(
      (["connect", "gRPC"] as const).map((transport) => watch(first, {}, { transport })),
    );
    await post(first, 0, 3);
    for (const stream of streams) await stream.waitFor(3);
    const stoppedAt = Date.now();
    await first.close();
    expect(Date.now() - stoppedAt).toBeLessThan(5_000);
    const second = await startGateway({ databaseUrl: database.url });
    await post(second, 3, 5);
    for (const stream of streams) {
      const error = await stream.ended;
      expect(error?.code).toBe(Code.Unavailable);
      const [end] = error!.findDetails(WatchDeliveriesEndSchema);
      const next = await watch(second, { resumeToken: end!.resumeToken });
      const seen = await next.waitFor(2);
      expect(seen.map(nameOf)).toEqual(
        (await loggedNames(second)).filter((name) => seen.map(nameOf).includes(name)),
      );
      expect([...stream.attempts, ...seen].map(nameOf).sort()).toEqual(await loggedNames(second));
    }
  });

  test("ends when its key does", async () => {
    const gateway = await startGateway();
    const asked = { name: "watcher", scopes: ["deliveries:read"] };
    const { key, api_key } = (await gateway.call("ApiKeyService/CreateApiKey", asked)).body;
    const stream = await watch(gateway, {}, { key });
    await gateway.call("ApiKeyService/RevokeApiKey", { id: api_key.id });
    expect((await stream.ended)?.code).toBe(Code.Unauthenticated);
  });

  test("shows signs of life, with a token each, while there is nothing to tell", async () => {
    const watches = { signOfLifeMs: 50, pollMs: 20 };
    const gateway = await startGateway({ overrides: { watches } });
    const stream = await watch(gateway);
    await waitFor(
      "three signs of life",
      () => stream.messages.length,
      (count) => count >= 3,
    );
    for (const { delivery, attempt, resumeToken } of stream.messages) {
      expect([delivery, attempt]).toEqual([undefined, undefined]);
      expect(resumeToken).not.toBe("");
    }
  });

  test("lets a key have so many streams and no more, and another one when one has ended", async () => {
    const gateway = await startGateway({ overrides: { watches: { streamsPerCallerMax: 2 } } });
    const [first] = [await watch(gateway), await watch(gateway)];
    await expect(watch(gateway)).rejects.toMatchObject({ code: Code.ResourceExhausted });
    await first!.close();
    await waitFor(
      "a free place",
      () => watch(gateway).catch((error: unknown) => error),
      (seen) => !(seen instanceof ConnectError),
    );
  });

  test("cuts off one who does not read, tells where it stood, and meanwhile delivers to everybody", async () => {
    const ahead = { ms: 0 };
    const clock = { now: () => new Date(Date.now() + ahead.ms), sleep: systemClock.sleep };
    const gateway = await startGateway({ clock });
    const receiver = closing(await startReceiver({ answer: { status: 200, body: "x".repeat(8_192) } }));
    await gateway.createWebhook({ webhooks: receiver.url });
    const stream = clientOf(gateway).watchDeliveries({})[Symbol.asyncIterator]();
    await stream.next();
    // More than lies in the buffers on the way.
    for (let round = 0; round < 10; round++) await post(gateway, round * 200, round * 200 + 200);
    await gateway.waitForStates(2_000, ["delivered"], {}, 30_000);
    ahead.ms = 60_000;
    const names: string[] = [];
    const error = await (async () => {
      for (;;) {
        try {
          const { value, done } = await stream.next();
          if (done) return undefined;
          if (value.attempt) names.push(nameOf(value));
        } catch (reason) {
          return ConnectError.from(reason);
        }
      }
    })();
    expect(error?.code).toBe(Code.ResourceExhausted);
    expect(names.length).toBeLessThan(2_000);
    const [end] = error!.findDetails(WatchDeliveriesEndSchema);
    const next = await watch(gateway, { resumeToken: end!.resumeToken });
    const rest = await next.waitFor(2_000 - names.length);
    expect([...names, ...rest.map(nameOf)].sort()).toEqual(await loggedNames(gateway));
  }, 60_000);

  test.each<[string, Transport, number]>([
    ["is broken off after a while", "connect", 1_000],
    ["is broken off after a while", "gRPC", 1_000],
    ["leaves", "connect", 600_000],
  ])(
    "has a place again when one who reads nothing %s, over %s",
    async (how, transport, abandonMs) => {
      const { watches } = loadConfig({}, { coreCount: 2 });
      const gateway = await startGateway({
        overrides: { watches: { ...watches, abandonMs, streamsPerCallerMax: 1 } },
      });
      const receiver = closing(await startReceiver({ answer: { status: 200, body: "x".repeat(8_192) } }));
      await gateway.createWebhook({ webhooks: receiver.url });
      const stop = new AbortController();
      closers.push(async () => stop.abort());
      const stream = clientOf(gateway, transport)
        .watchDeliveries({}, { signal: stop.signal })
        [Symbol.asyncIterator]();
      await stream.next();
      // More than lies in the buffers on the way.
      for (let round = 0; round < 10; round++) await post(gateway, round * 200, round * 200 + 200);
      await gateway.waitForStates(2_000, ["delivered"], {}, 30_000);
      if (how === "leaves") stop.abort();
      const next = await waitFor(
        "place for another stream",
        () => watch(gateway).catch((error: unknown) => error),
        (seen) => !(seen instanceof ConnectError),
        20_000,
      );
      expect((next as Watch).messages).toHaveLength(1);
    },
    60_000,
  );

  test.each([
    ["no token at all", "nonsense", Code.InvalidArgument],
    [
      "a place that this database has not come to",
      encode([1, Date.now(), "9:9000000000:", null, "0", 0]),
      Code.InvalidArgument,
    ],
    ["a place that cannot be", encode([1, Date.now(), "9:3:", null, "0", 0]), Code.InvalidArgument],
    [
      "a place with more than a transaction's number holds",
      encode([1, Date.now(), "1:2:", "99999999999999999999:99999999999999999999:", "0", 0]),
      Code.InvalidArgument,
    ],
    [
      "a place of two days ago",
      encode([1, Date.now() - 2 * 86_400_000, "3:3:", null, "0", 0]),
      Code.FailedPrecondition,
    ],
  ])("refuses to go on from %s", async (_, resumeToken, code) => {
    const gateway = await startGateway();
    await expect(watch(gateway, { resumeToken })).rejects.toMatchObject({ code });
  });
});

function encode(parts: unknown[]): string {
  return Buffer.from(JSON.stringify(parts)).toString("base64url");
}
