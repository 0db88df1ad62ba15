import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { WebhookService } from "../../gen/posthorn/v1/webhook_service_pb.ts";
import { createRateLimiter } from "../../server/store/rate-limiter.ts";
import { startTestGateway, type TestGateway } from "../helpers/gateway.ts";
import { waitFor } from "../helpers/wait.ts";
import { openRpcGateway, type RpcGateway } from "./gateway.ts";

let gateway: RpcGateway;
beforeAll(async () => {
  gateway = await openRpcGateway();
  gateway.clock.at = new Date();
});
afterAll(async () => {
  await gateway.close();
});

const list = (headers?: Record<string, string>) => gateway.call("WebhookService/ListWebhooks", {}, headers);
const limitsOf = (headers: Headers) =>
  ["x-ratelimit-limit", "x-ratelimit-remaining"].map((name) => headers.get(name));

describe("a key with a rate limit", () => {
  test("is told at every answer how much is left, and is refused beyond", async () => {
    const { headers } = await gateway.createKey({ rate_limit_per_minute: 3 });
    for (const remaining of ["2", "1", "0"]) {
      const answer = await list(headers);
      expect(answer.status).toBe(200);
      expect(limitsOf(answer.headers)).toEqual(["3", remaining]);
      expect(answer.headers.has("retry-after")).toBe(false);
    }
    for (let call = 0; call < 3; call++) {
      const refused = await list(headers);
      expect(refused.status).toBe(429);
      expect(refused.body.code).toBe("resource_exhausted");
      expect(limitsOf(refused.headers)).toEqual(["3", "0"]);
      const waitSeconds = Number(refused.headers.get("retry-after"));
      expect(waitSeconds).toBeGreaterThan(0);
      expect(waitSeconds).toBeLessThanOrEqual(60);
      const resetSeconds = Number(refused.headers.get("x-ratelimit-reset"));
      const aheadMs = resetSeconds * 1000 - gateway.clock.at.getTime();
      expect(aheadMs).toBeGreaterThan(0);
      expect(aheadMs).toBeLessThanOrEqual(61_000);
    }
  });

  test("is told so with errors, with GET and with gRPC too", async () => {
    const { headers } = await gateway.createKey({ rate_limit_per_minute: 4, scopes: ["webhooks:read"] });
    const answers = [
      await gateway.call("WebhookService/GetWebhook", { id: 999_999 }, headers),
      await gateway.call("WebhookService/DeleteWebhook", { id: 1 }, headers),
      await gateway.get("WebhookService/ListWebhooks", {}, headers),
    ];
    expect(answers.map(({ status }) => status)).toEqual([404, 403, 200]);
    expect(answers.map((answer) => limitsOf(answer.headers)[1])).toEqual(["3", "2", "1"]);

    const metadata: Headers[] = [];
    const spy: Interceptor = (next) => async (request) => {
      request.header.set("Authorization", headers.Authorization!);
      const response = await next(request);
      metadata.push(response.header);
      return response;
    };
    const transport = createGrpcTransport({ baseUrl: gateway.http2Url, interceptors: [spy] });
    const client = createClient(WebhookService, transport);
    await client.listWebhooks({});
    expect(limitsOf(metadata[0]!)).toEqual(["4", "0"]);
    const error = ConnectError.from(await client.listWebhooks({}).catch((reason: unknown) => reason));
    expect(error.code).toBe(Code.ResourceExhausted);
    expect(limitsOf(error.metadata)).toEqual(["4", "0"]);
    expect(Number(error.metadata.get("retry-after"))).toBeGreaterThan(0);
  });

  test("does not share its calls with another key", async () => {
    const [first, second] = [
      await gateway.createKey({ rate_limit_per_minute: 1 }),
      await gateway.createKey({ rate_limit_per_minute: 1 }),
    ];
    expect((await list(first.headers)).status).toBe(200);
    expect((await list(first.headers)).status).toBe(429);
    expect((await list(second.headers)).status).toBe(200);
  });

  test("lets exactly as many through as it says when they come at once", async () => {
    const { headers } = await gateway.createKey({ rate_limit_per_minute: 7 });
    const answers = await Promise.all(Array.from({ length: 25 }, () => list(headers)));
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(7);
    expect(answers.filter(({ status }) => status === 429)).toHaveLength(18);
  });

  test("may call again when its window has ended", async () => {
    const limiter = createRateLimiter(gateway.database.pool, 1);
    expect(await limiter.count(999_001, 1)).toMatchObject({ isAdmitted: true, remaining: 0 });
    expect(await limiter.count(999_001, 1)).toMatchObject({ isAdmitted: false });
    await waitFor(
      "second call",
      () => limiter.count(999_001, 1),
      ({ isAdmitted }) => isAdmitted,
      3_000,
    );
  });
});

test("keys without a limit, and the operator's, are told none", async () => {
  const { headers } = await gateway.createKey({ rate_limit_per_minute: 0 });
  for (const answer of [await list(headers), await list()]) {
    expect(answer.status).toBe(200);
    expect([...answer.headers.keys()].filter((name) => name.startsWith("x-ratelimit"))).toEqual([]);
  }
});

describe("two processes", () => {
  let first: TestGateway;
  let second: TestGateway;
  beforeAll(async () => {
    first = await startTestGateway();
    second = await startTestGateway({ databaseUrl: first.databaseUrl });
  });
  afterAll(async () => {
    await second.close();
    await first.close();
  });

  test("count the calls of a key together, and know a new key at once", async () => {
    const key = { name: "shared", scopes: ["webhooks:read"], rate_limit_per_minute: 6 };
    const { key: secret } = (await first.call("ApiKeyService/CreateApiKey", key)).body;
    const status = async (one: TestGateway) => {
      const answer = await fetch(`${one.url()}/posthorn.v1.WebhookService/ListWebhooks`, {
        method: "POST",
        headers: { "Content-Type": "application/json", Authorization: `Bearer ${secret}` },
        body: "{}",
      });
      await answer.arrayBuffer();
      return answer.status;
    };
    await waitFor(
      "the key on the other process",
      () => status(second),
      (seen) => seen !== 401,
      1_000,
    );
    const answers: number[] = [];
    for (let call = 0; call < 4; call++) answers.push(await status(first), await status(second));
    // One call was made while waiting.
    expect(answers.filter((one) => one === 200)).toHaveLength(5);
    expect(answers.filter((one) => one === 429)).toHaveLength(3);
  });
});
