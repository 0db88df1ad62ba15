import { once } from "node:events";
import http from "node:http";
import net, { type AddressInfo } from "node:net";
import { setImmediate } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createSender, type Sender } from "../../server/workers/send.ts";
import type { WorkerSettings } from "../../server/workers/settings.ts";
import { makeCertificate } from "../helpers/certificate.ts";
import { type Answer, type Receiver, type ReceiverOptions, startReceiver } from "../helpers/receiver.ts";

const developmentSettings: WorkerSettings = {
  mode: "development",
  allowedNetworks: [],
  caPem: null,
  egressProxy: null,
  version: "1.2.3",
  transformTimeoutMs: 250,
};

let sender: Sender;
let closers: (() => Promise<unknown>)[];
beforeEach(() => {
  sender = createSender(developmentSettings);
  closers = [() => sender.close()];
});
afterEach(async () => {
  for (const close of closers.reverse()) await close();
});

async function receive(options: ReceiverOptions = {}): Promise<Receiver> {
  const receiver = await startReceiver(options);
  closers.push(() => receiver.close());
  return receiver;
}

const encode = (text: string) => new TextEncoder().encode(text);

async function post(url: string, changes: Partial<Parameters<Sender["post"]>[0]> = {}) {
  const result = await sender.post({
    url,
    headers: ["Content-Type", "application/json"],
    body: encode('{"a":1}'),
    timeoutMs: 2_000,
    responseBytesMax: 65_536,
    ...changes,
  });
  // undici gives a connection back one turn of the event loop after its answer ended.
  await setImmediate();
  await setImmediate();
  return result;
}

async function timed<T>(work: Promise<T>): Promise<{ result: T; tookMs: number }> {
  const startMs = performance.now();
  const result = await work;
  return { result, tookMs: performance.now() - startMs };
}

describe("a request", () => {
  test("is a POST of exactly the bytes and headers given, path and query as in the URL", async () => {
    const receiver = await receive();
    const body = new Uint8Array([0, 255, 10, 128]);
    const headers = ["Content-Type", "application/octet-stream", "X-Intelli-Signature", "sha256=00"];
    await post(`${receiver.url}/a%20b?x=1&y=ä`, { body, headers });
    const [request] = receiver.requests;
    expect(request).toMatchObject({ method: "POST", path: "/hook/a%20b?x=1&y=%C3%A4" });
    expect([...request!.body]).toEqual([...body]);
    expect(request!.rawHeaders).toContain("X-Intelli-Signature");
    expect(request!.headers["content-length"]).toBe("4");
  });

  test("keeps its connection for the next one", async () => {
    const receiver = await receive();
    await post(receiver.url);
    await post(receiver.url);
    expect(receiver.requests.map(({ connectionNumber }) => connectionNumber)).toEqual([1, 1]);
  });

  test("gets its answer back: status, headers in lower case, body", async () => {
    const receiver = await receive({
      answer: { status: 201, headers: { "X-Trace": "t1", "Set-Cookie": ["a=1", "b=2"] }, body: "thanks" },
    });
    const result = await post(receiver.url);
    expect(result).toMatchObject({
      kind: "succeeded",
      response: { status: 201, headers: { "x-trace": "t1", "set-cookie": "a=1, b=2" } },
    });
    expect(Buffer.from(result.response!.body).toString()).toBe("thanks");
  });

  test("256 to one endpoint run at once", async () => {
    const receiver = await receive({ answer: { delayMs: 300 } });
    const { result, tookMs } = await timed(
      Promise.all(Array.from({ length: 256 }, () => post(receiver.url))),
    );
    expect(result.every(({ kind }) => kind === "succeeded")).toBe(true);
    expect(receiver.connectionCount()).toBe(256);
    expect(tookMs).toBeLessThan(1_900);
  });

  test("to a healthy path is not held up by hundreds that hang at the same origin", async () => {
    const receiver = await receive({ answer: ({ path }) => (path === "/hang" ? { kind: "hang" } : {}) });
    const hanging = Array.from({ length: 300 }, () => post(`http://127.0.0.1:${receiver.port}/hang`));
    await receiver.waitForRequests(300);
    const { result, tookMs } = await timed(post(receiver.url));
    expect(result.kind).toBe("succeeded");
    expect(tookMs).toBeLessThan(1_500);
    await Promise.all(hanging);
  });
});

describe("the status decides", () => {
  test.each([200, 202, 204, 299])("%i is success", async (status) => {
    const receiver = await receive({ answer: { status } });
    expect(await post(receiver.url)).toMatchObject({ kind: "succeeded", response: { status } });
  });

  test.each([301, 302, 307, 308, 304, 400, 404, 410, 429, 500, 503])("%i is http_status", async (status) => {
    const receiver = await receive({
      answer: { status, headers: { location: "/elsewhere", "retry-after": "7" } },
    });
    expect(await post(receiver.url)).toMatchObject({
      kind: "failed",
      errorKind: "http_status",
      response: { status, headers: { "retry-after": "7" } },
    });
    expect(receiver.requests).toHaveLength(1);
  });
});

describe("an endpoint that misbehaves", () => {
  const raw = (bytes: string, thenClose = false): Answer => ({ kind: "raw", bytes, thenClose });
  const ok = "HTTP/1.1 200 OK\r\n";

  test.each<[string, Answer, object]>([
    ["resets", { kind: "reset" }, { errorKind: "broken_response" }],
    ["closes without an answer", { kind: "close" }, { errorKind: "broken_response" }],
    ["closes amid the head", raw("HTTP/1.1 200 O", true), { errorKind: "broken_response" }],
    ["speaks no HTTP", raw("hello\r\n\r\n"), { errorKind: "broken_response" }],
    ["breaks its head", raw(`${ok}bad header\r\n\r\n`), { errorKind: "broken_response" }],
    ["says 100 unasked", raw(`HTTP/1.1 100 Continue\r\n\r\n${ok}\r\n`), { errorKind: "broken_response" }],
    [
      "switches protocols",
      raw("HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n"),
      { errorKind: "broken_response" },
    ],
    [
      "gives two lengths",
      raw(`${ok}content-length: 3\r\ncontent-length: 4\r\n\r\nabcd`),
      { errorKind: "broken_response" },
    ],
    ["sends an endless head", raw(`${ok}x: ${"y".repeat(80_000)}`), { errorKind: "broken_response" }],
    ["never answers", { kind: "hang" }, { errorKind: "timeout", errorMessage: "No answer within 300 ms." }],
    ["stops amid the head", raw(`${ok}x-slow: `), { errorKind: "timeout" }],
    ["hints for ever", raw("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"), { errorKind: "timeout" }],
  ])("that %s fails with the right kind within the bound", async (_case, answer, expected) => {
    const receiver = await receive({ answer });
    const { result, tookMs } = await timed(post(receiver.url, { timeoutMs: 300 }));
    expect(result).toMatchObject({ kind: "failed", response: null, ...expected });
    expect(tookMs).toBeLessThan(1_500);
    expect(receiver.requests).toHaveLength(1);
    await expect.poll(() => receiver.openConnectionCount()).toBe(0);
  });

  test("early hints before the answer are passed over", async () => {
    const receiver = await receive({
      answer: raw(`HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n${ok}content-length: 2\r\n\r\nok`),
    });
    const result = await post(receiver.url);
    expect(result).toMatchObject({ kind: "succeeded", response: { status: 200 } });
    expect(Buffer.from(result.response!.body).toString()).toBe("ok");
  });

  test.each<[string, Answer]>([
    ["closes amid the body", raw(`${ok}content-length: 100\r\n\r\npart`, true)],
    ["breaks its chunks", raw(`${ok}transfer-encoding: chunked\r\n\r\n4\r\npart\r\nzz\r\n`)],
    ["stalls amid the body", raw(`${ok}content-length: 100\r\n\r\npart`)],
  ])("that %s after a 2xx head has succeeded with what came", async (_case, answer) => {
    const receiver = await receive({ answer });
    const result = await post(receiver.url, { timeoutMs: 300 });
    expect(result).toMatchObject({ kind: "succeeded", response: { status: 200 } });
    expect(Buffer.from(result.response!.body).toString()).toBe("part");
    await expect.poll(() => receiver.openConnectionCount()).toBe(0);
  });

  test("that drips a byte at a time is cut at the deadline, and has succeeded", async () => {
    const receiver = await receive({ answer: { kind: "drip", everyMs: 20 } });
    const { result, tookMs } = await timed(post(receiver.url, { timeoutMs: 300 }));
    expect(result.kind).toBe("succeeded");
    expect(result.response!.body.byteLength).toBeGreaterThan(0);
    expect(tookMs).toBeGreaterThanOrEqual(290);
    expect(tookMs).toBeLessThan(1_500);
    await expect.poll(() => receiver.openConnectionCount()).toBe(0);
  });

  test("that never stops talking is read to the limit alone, 8 KiB are kept, and the connection is dropped", async () => {
    const receiver = await receive({ answer: { kind: "endless", status: 500 } });
    const { result, tookMs } = await timed(post(receiver.url, { timeoutMs: 5_000 }));
    expect(result).toMatchObject({ kind: "failed", errorKind: "http_status" });
    expect(result.response!.body.byteLength).toBe(8 * 1024);
    expect(result.response!.body.buffer.byteLength).toBe(8 * 1024);
    expect(tookMs).toBeLessThan(2_000);
    await expect.poll(() => receiver.openConnectionCount()).toBe(0);
    expect(receiver.bytesWritten()).toBeLessThan(16 * 1024 * 1024);
  });

  test("a body of exactly the limit leaves the connection in use", async () => {
    const receiver = await receive({ answer: { body: "x".repeat(1_000) } });
    await post(receiver.url, { responseBytesMax: 1_000 });
    await post(receiver.url, { responseBytesMax: 1_000 });
    expect(receiver.connectionCount()).toBe(1);
    await post(receiver.url, { responseBytesMax: 999 });
    await post(receiver.url);
    expect(receiver.connectionCount()).toBe(2);
  });

  test("of its headers 16 KiB are kept", async () => {
    const headers = Object.fromEntries(
      Array.from({ length: 40 }, (_, index) => [`x-${index}`, "y".repeat(1_000)]),
    );
    const receiver = await receive({ answer: { headers } });
    const result = await post(receiver.url);
    expect(result.kind).toBe("succeeded");
    const keptBytes = Object.entries(result.response!.headers).flat().join("").length;
    expect(keptBytes).toBeGreaterThan(14 * 1024);
    expect(keptBytes).toBeLessThanOrEqual(16 * 1024);
  });

  test("hundreds of endless answers leave no memory behind", async () => {
    const receiver = await receive({ answer: { kind: "endless" } });
    const round = async () => {
      await Promise.all(Array.from({ length: 50 }, () => post(receiver.url)));
      await expect.poll(() => receiver.openConnectionCount()).toBe(0);
      return process.memoryUsage().arrayBuffers;
    };
    const early = await round();
    let late = early;
    for (let index = 0; index < 4; index++) late = await round();
    expect(late - early).toBeLessThan(32 * 1024 * 1024);
  });
});

describe("a kept-alive connection that the server closes as we write", () => {
  /** Answers the first request of each connection, and closes the connection once the second has come. */
  const closesSecond = (kind: "close" | "reset"): ReceiverOptions => {
    const seen = new Set<number>();
    return {
      answer: ({ connectionNumber }) => {
        if (seen.has(connectionNumber)) return { kind };
        seen.add(connectionNumber);
        return {};
      },
    };
  };

  test.each(["close", "reset"] as const)(
    "(%s) is no failure: the request is repeated once on a new one",
    async (kind) => {
      const receiver = await receive(closesSecond(kind));
      expect(await post(receiver.url)).toMatchObject({ kind: "succeeded" });
      expect(await post(receiver.url)).toMatchObject({ kind: "succeeded" });
      expect(receiver.requests.map(({ connectionNumber }) => connectionNumber)).toEqual([1, 1, 2]);
    },
  );

  test("is repeated once only", async () => {
    const receiver = await receive({ answer: (_request, number) => (number === 1 ? {} : { kind: "reset" }) });
    await post(receiver.url);
    expect(await post(receiver.url)).toMatchObject({ kind: "failed", errorKind: "broken_response" });
    expect(receiver.requests).toHaveLength(3);
  });

  test("is not repeated when part of an answer came", async () => {
    const receiver = await receive({
      answer: (_request, number) =>
        number === 1 ? {} : { kind: "raw", bytes: "HTTP/1.1 2", thenClose: true },
    });
    await post(receiver.url);
    expect(await post(receiver.url)).toMatchObject({ kind: "failed", errorKind: "broken_response" });
    expect(receiver.requests).toHaveLength(2);
  });
});

describe("a connection that does not come about", () => {
  test("is connect when nobody listens", async () => {
    const receiver = await startReceiver();
    await receiver.close();
    expect(await post(receiver.url)).toMatchObject({
      errorKind: "connect",
      errorMessage: "The connection could not be made (ECONNREFUSED).",
    });
  });

  test("is timeout when the request is never taken off the wire", async () => {
    const deaf = net
      .createServer((socket) => void socket.on("error", () => {}).pause())
      .listen(0, "127.0.0.1");
    const sockets: net.Socket[] = [];
    deaf.on("connection", (socket) => sockets.push(socket));
    await once(deaf, "listening");
    closers.push(async () => {
      for (const socket of sockets) socket.destroy();
      deaf.close();
    });
    const { port } = deaf.address() as AddressInfo;
    const { result, tookMs } = await timed(
      post(`http://127.0.0.1:${port}/`, { body: new Uint8Array(256 * 1024), timeoutMs: 300 }),
    );
    expect(result).toMatchObject({ errorKind: "timeout" });
    expect(tookMs).toBeLessThan(1_500);
  });

  test("is dns when the name does not resolve, and the name's query is not in the message", async () => {
    const result = await post("http://nowhere.invalid/?token=s3cret");
    expect(result).toMatchObject({ errorKind: "dns" });
    expect(JSON.stringify(result)).not.toContain("s3cret");
  });

  test("is timeout when the name server does not answer, and nothing is sent afterwards", async () => {
    const receiver = await receive();
    let answerLookup = () => {};
    sender = createSender(developmentSettings, (_name, callback) => {
      answerLookup = () => callback(null, [{ address: "127.0.0.1", family: 4 }]);
    });
    const url = `http://slow.test:${receiver.port}/hook`;
    const { result, tookMs } = await timed(post(url, { timeoutMs: 200 }));
    expect(result).toMatchObject({ errorKind: "timeout", errorMessage: "No connection within 200 ms." });
    expect(tookMs).toBeLessThan(1_500);
    answerLookup();
    await expect.poll(() => receiver.connectionCount()).toBe(1);
    const next = post(url);
    answerLookup();
    await next;
    expect(receiver.requests).toHaveLength(1);
  });

  test("lookups of one name at the same time are one lookup", async () => {
    const receiver = await receive();
    let lookupCount = 0;
    sender = createSender(developmentSettings, (_name, callback) => {
      lookupCount++;
      setTimeout(callback, 50, null, [{ address: "127.0.0.1", family: 4 }]);
    });
    const results = await Promise.all(
      Array.from({ length: 20 }, () => post(`http://shared.test:${receiver.port}/hook`)),
    );
    expect(results.every(({ kind }) => kind === "succeeded")).toBe(true);
    expect(lookupCount).toBe(1);
  });

  test("is timeout when TLS is never agreed on", async () => {
    const silent = net.createServer(() => {}).listen(0, "127.0.0.1");
    await once(silent, "listening");
    closers.push(async () => silent.close());
    const { port } = silent.address() as AddressInfo;
    const { result, tookMs } = await timed(post(`https://127.0.0.1:${port}/`, { timeoutMs: 250 }));
    expect(result).toMatchObject({ errorKind: "timeout" });
    expect(tookMs).toBeLessThan(1_500);
    await sender.close();
  });
});

describe("TLS", () => {
  test("an authority of the operator's own is trusted", async () => {
    const certificate = makeCertificate();
    const receiver = await receive({ certificate });
    sender = createSender({ ...developmentSettings, caPem: certificate.cert });
    expect(await post(receiver.url)).toMatchObject({ kind: "succeeded" });
    expect(await post(receiver.url.replace("127.0.0.1", "localhost"))).toMatchObject({ kind: "succeeded" });
  });

  test("a certificate of no known authority is refused, whatever the environment says", async () => {
    const receiver = await receive({ certificate: makeCertificate() });
    process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0";
    try {
      expect(await post(receiver.url)).toMatchObject({
        errorKind: "tls",
        errorMessage: "TLS could not be agreed on (DEPTH_ZERO_SELF_SIGNED_CERT).",
      });
    } finally {
      delete process.env.NODE_TLS_REJECT_UNAUTHORIZED;
    }
    expect(receiver.requests).toHaveLength(0);
  });

  test("a certificate for another name is refused", async () => {
    const certificate = makeCertificate(["other.test"]);
    const receiver = await receive({ certificate });
    sender = createSender({ ...developmentSettings, caPem: certificate.cert });
    expect(await post(receiver.url)).toMatchObject({
      errorKind: "tls",
      errorMessage: "TLS could not be agreed on (ERR_TLS_CERT_ALTNAME_INVALID).",
    });
  });

  test("https to a port that speaks http is tls", async () => {
    const receiver = await receive();
    const result = await post(receiver.url.replace("http:", "https:"), { timeoutMs: 1_000 });
    expect(result).toMatchObject({ errorKind: "tls" });
  });
});

describe("an egress proxy", () => {
  async function startProxy(options: { status?: number } = {}) {
    const connects: { target: string; authorization: string | undefined }[] = [];
    const proxy = http.createServer();
    const sockets = new Set<net.Socket>();
    proxy.on("connect", (request: http.IncomingMessage, socket: net.Socket) => {
      connects.push({ target: request.url!, authorization: request.headers["proxy-authorization"] });
      sockets.add(socket);
      socket.on("error", () => {});
      if (options.status !== undefined) {
        socket.end(`HTTP/1.1 ${options.status} No\r\n\r\n`);
        return;
      }
      const [host, port] = request.url!.split(":");
      const upstream = net.connect(Number(port), host === "hook.test" ? "127.0.0.1" : host);
      sockets.add(upstream);
      upstream.on("error", () => socket.destroy());
      upstream.once("connect", () => {
        socket.write("HTTP/1.1 200 OK\r\n\r\n");
        socket.pipe(upstream).pipe(socket);
      });
    });
    proxy.listen(0, "127.0.0.1");
    await once(proxy, "listening");
    closers.push(async () => {
      for (const socket of sockets) socket.destroy();
      proxy.close();
    });
    return { connects, url: `http://user:pass@127.0.0.1:${(proxy.address() as AddressInfo).port}` };
  }

  test("carries https and http requests through a tunnel, and resolves names itself", async () => {
    const certificate = makeCertificate(["hook.test"]);
    const [secure, plain, proxy] = [await receive({ certificate }), await receive(), await startProxy()];
    sender = createSender({ ...developmentSettings, caPem: certificate.cert, egressProxy: proxy.url });
    expect(await post(`https://hook.test:${secure.port}/hook`)).toMatchObject({ kind: "succeeded" });
    expect(await post(`http://hook.test:${plain.port}/hook`)).toMatchObject({ kind: "succeeded" });
    const authorization = `Basic ${Buffer.from("user:pass").toString("base64")}`;
    expect(proxy.connects).toEqual([
      { target: `hook.test:${secure.port}`, authorization },
      { target: `hook.test:${plain.port}`, authorization },
    ]);
    expect(secure.requests[0]!.headers["proxy-authorization"]).toBeUndefined();
  });

  test("that refuses is connect, without its credentials in the message", async () => {
    const proxy = await startProxy({ status: 403 });
    sender = createSender({ ...developmentSettings, egressProxy: proxy.url });
    const result = await post("https://hook.test/");
    expect(result).toMatchObject({ errorKind: "connect" });
    expect(JSON.stringify(result)).not.toContain("pass");
  });

  test("does not carry requests to closed literal addresses", async () => {
    const proxy = await startProxy();
    sender = createSender({ ...developmentSettings, mode: "production", egressProxy: proxy.url });
    expect(await post("https://127.0.0.1/")).toMatchObject({ errorKind: "address_not_allowed" });
    expect(proxy.connects).toEqual([]);
  });
});
