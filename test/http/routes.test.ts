import { connect as connectHttp2 } from "node:http2";
import { describe, expect, test } from "vitest";
import { connectRaw, eventually, listenWithRoutes } from "./port.ts";

describe("routes", () => {
  test("paths of Connect and gRPC go to the rpc handler, query and all", async () => {
    const asked: (string | undefined)[] = [];
    const port = await listenWithRoutes({
      rpcHandler: (request, response) => {
        asked.push(request.url);
        response.end();
      },
    });
    const paths = [
      "/posthorn.v1.WebhookService/GetWebhook?connect=v1",
      "/grpc.health.v1.Health/Check",
      "/posthorn.v1.Nothing/AtAll",
    ];
    for (const path of paths) {
      const answer = await fetch(port.url + path);
      expect(answer.status).toBe(200);
      expect(answer.headers.get("x-content-type-options")).toBe("nosniff");
    }
    expect(asked).toEqual(paths);
  });

  test.each(["/", "/whatsapp", "/whatsapp/webhook/", "/posthorn.v2.X/Y", "/constructor", "/%2e%2e/etc"])(
    "answers 404 as JSON to %s",
    async (path) => {
      const port = await listenWithRoutes();
      const answer = await fetch(port.url + path);
      expect(answer.status).toBe(404);
      expect(answer.headers.get("content-type")).toBe("application/json");
      expect(answer.headers.get("x-content-type-options")).toBe("nosniff");
      expect(answer.headers.get("x-powered-by")).toBeNull();
      expect(answer.headers.get("server")).toBeNull();
      expect(await answer.json()).toEqual({ code: "not_found", message: expect.any(String) });
    },
  );

  test.each([
    ["/whatsapp/webhook", "PUT", "GET, HEAD, POST"],
    ["/healthz", "POST", "GET, HEAD"],
    ["/readyz", "DELETE", "GET, HEAD"],
  ])("answers 405 with Allow: %s %s", async (path, method, allow) => {
    const port = await listenWithRoutes();
    const answer = await fetch(port.url + path, { method });
    expect(answer.status).toBe(405);
    expect(answer.headers.get("allow")).toBe(allow);
    expect(await answer.json()).toMatchObject({ code: "unimplemented" });
  });

  test("answers HEAD like GET, without the body", async () => {
    const port = await listenWithRoutes();
    const answer = await fetch(`${port.url}/healthz`, { method: "HEAD" });
    expect(answer.status).toBe(200);
    expect(await answer.text()).toBe("");
  });

  test("opens no tunnel for an HTTP/2 CONNECT", async () => {
    const port = await listenWithRoutes();
    const session = connectHttp2(port.url);
    const stream = session.request({ ":method": "CONNECT", ":authority": "example.com:443" });
    const status = await new Promise((resolve, reject) => {
      stream.on("response", (headers) => resolve(headers[":status"]));
      stream.on("error", reject);
    });
    expect(status).toBe(405);
    session.destroy();
  });
});

describe("health", () => {
  test("/healthz answers as long as the process does", async () => {
    const port = await listenWithRoutes({ isReady: async () => ({ ready: false, reasons: ["database"] }) });
    expect((await fetch(`${port.url}/healthz`)).status).toBe(200);
  });

  test("/readyz answers 200 when database and pools are there", async () => {
    const port = await listenWithRoutes();
    const answer = await fetch(`${port.url}/readyz`);
    expect(answer.status).toBe(200);
    expect(await answer.json()).toEqual({ ready: true, reasons: [] });
  });

  test("/readyz answers 503 with the reasons when they are not", async () => {
    const port = await listenWithRoutes({
      isReady: async () => ({ ready: false, reasons: ["the database does not answer"] }),
    });
    const answer = await fetch(`${port.url}/readyz`);
    expect(answer.status).toBe(503);
    expect(await answer.json()).toEqual({ ready: false, reasons: ["the database does not answer"] });
  });

  test("/readyz answers 503 when the check fails, without its details", async () => {
    const port = await listenWithRoutes({ isReady: () => Promise.reject(new Error("password wrong")) });
    const answer = await fetch(`${port.url}/readyz`);
    expect(answer.status).toBe(503);
    expect(await answer.text()).not.toContain("password");
  });

  test("/readyz answers 503 when the check takes too long", async () => {
    const port = await listenWithRoutes({
      isReady: () => new Promise(() => undefined),
      clock: { now: () => new Date(), sleep: async () => undefined },
    });
    expect((await fetch(`${port.url}/readyz`)).status).toBe(503);
  });

  test("many requests to /readyz at once make one check", async () => {
    let checkCount = 0;
    const now = new Date();
    const port = await listenWithRoutes({
      isReady: async () => {
        checkCount += 1;
        return { ready: true, reasons: [] };
      },
      clock: { now: () => now, sleep: () => new Promise(() => undefined) },
    });
    await Promise.all(Array.from({ length: 10 }, () => fetch(`${port.url}/readyz`)));
    expect(checkCount).toBe(1);
  });
});

describe("the log", () => {
  test("has one line a request, without its query, headers or body", async () => {
    const port = await listenWithRoutes();
    await fetch(`${port.url}/whatsapp/webhook?hub.verify_token=hidden-token`, {
      method: "POST",
      body: "hidden-body",
      headers: { Authorization: "Bearer hidden-key", "X-Hub-Signature-256": "hidden-signature" },
    });
    const line = await eventually(() => port.logLines[0]);
    expect(line).toMatchObject({
      level: "info",
      method: "POST",
      path: "/whatsapp/webhook",
      status: 401,
      isAnswered: true,
      http: "1.1",
      remoteAddress: "127.0.0.1",
      durationMs: expect.any(Number),
    });
    expect(JSON.stringify(port.logLines)).not.toContain("hidden-");
    expect(port.logLines).toHaveLength(1);
  });

  test("has requests that went well at debug only", async () => {
    const quiet = await listenWithRoutes({}, {}, "info");
    const talkative = await listenWithRoutes({}, {}, "debug");
    for (const port of [quiet, talkative]) {
      await fetch(`${port.url}/healthz`);
      await fetch(`${port.url}/nothing`);
      await eventually(() => port.logLines.some((line) => line.status === 404));
    }
    expect(quiet.logLines.map((line) => line.status)).toEqual([404]);
    expect(talkative.logLines.map((line) => [line.level, line.status])).toEqual([
      ["debug", 200],
      ["info", 404],
    ]);
  });

  test("says of a request whose sender left that it was not answered", async () => {
    const port = await listenWithRoutes({ rpcHandler: () => undefined });
    const { socket } = connectRaw(port.port);
    socket.write("GET /grpc.x/Y HTTP/1.1\r\nHost: x\r\n\r\n", () => socket.destroy());
    expect(await eventually(() => port.logLines[0])).toMatchObject({ isAnswered: false });
  });
});
