import { request as requestHttp } from "node:http";
import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2";
import { request as requestHttps } from "node:https";
import { connect as connectTls } from "node:tls";
import { afterEach, describe, expect, test } from "vitest";
import { createListener } from "../../server/http/listener.ts";
import type { HttpHandler, HttpResponse } from "../../server/http/message.ts";
import { makeCertificate } from "../helpers/certificate.ts";
import { connectRaw, eventually, listenWith, roomyLimits } from "./port.ts";

const sessions: ClientHttp2Session[] = [];
afterEach(() => {
  for (const session of sessions.splice(0)) session.destroy();
});

/** Answers with the HTTP version and the body that it got. */
const echo: HttpHandler = (request, response) => {
  let body = "";
  request.setEncoding("utf8");
  request.on("data", (text) => {
    body += text;
  });
  request.on("end", () => {
    response.end(`${request.httpVersion} ${body}`);
  });
};

function openSession(url: string, options = {}): ClientHttp2Session {
  const session = connectHttp2(url, options);
  session.on("error", () => undefined);
  sessions.push(session);
  return session;
}

function postHttp2(session: ClientHttp2Session, body: string): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const stream = session.request({ ":method": "POST", ":path": "/" });
    let status = 0;
    let text = "";
    stream.setEncoding("utf8");
    stream.on("response", (headers) => {
      status = Number(headers[":status"]);
    });
    stream.on("data", (chunk) => {
      text += chunk;
    });
    stream.on("end", () => (status === 0 ? reject(new Error("no answer")) : resolve({ status, text })));
    stream.on("error", reject);
    stream.end(body);
  });
}

/** A handler whose answers the test gives. */
function holding(): { handler: HttpHandler; held: HttpResponse[] } {
  const held: HttpResponse[] = [];
  return { handler: (_request, response) => void held.push(response), held };
}

describe("one port", () => {
  const certificate = makeCertificate();

  test("speaks HTTP/1.1, cleartext HTTP/2, and both over TLS", async () => {
    const { url, port } = await listenWith(echo, {}, certificate);

    const plain1 = await (await fetch(url, { method: "POST", body: "a" })).text();
    const plain2 = await postHttp2(openSession(url), "b");
    const secure1 = await new Promise<string>((resolve, reject) => {
      const request = requestHttps(
        { host: "127.0.0.1", port, method: "POST", ca: certificate.cert, agent: false },
        (response) => {
          let text = "";
          response.setEncoding("utf8");
          response.on("data", (chunk) => {
            text += chunk;
          });
          response.on("end", () => resolve(text));
        },
      );
      request.on("error", reject);
      request.end("c");
    });
    const secure2 = await postHttp2(openSession(`https://127.0.0.1:${port}`, { ca: certificate.cert }), "d");

    expect(plain1).toBe("1.1 a");
    expect(plain2).toEqual({ status: 200, text: "2.0 b" });
    expect(secure1).toBe("1.1 c");
    expect(secure2).toEqual({ status: 200, text: "2.0 d" });
  });

  test("closes a TLS handshake at once when there is no certificate", async () => {
    const { port } = await listenWith(echo);
    const socket = connectTls({ host: "127.0.0.1", port, rejectUnauthorized: false });
    const error = await new Promise<Error>((resolve) => socket.once("error", resolve));
    expect(error).toBeInstanceOf(Error);
  });

  test("recognises an HTTP/2 preface that comes byte by byte", async () => {
    const { port } = await listenWith(echo);
    const { socket, text } = connectRaw(port);
    socket.setNoDelay(true);
    for (const byte of Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")) {
      await new Promise<void>((resolve) => socket.write(Buffer.of(byte), () => setImmediate(resolve)));
    }
    socket.write(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]));
    // The server's first frame is SETTINGS: type 4 behind three bytes of length.
    const frame = await eventually(() => text().length >= 9 && Buffer.from(text(), "latin1"));
    expect(frame[3]).toBe(4);
  });

  test("takes a method that begins like the preface for HTTP/1.1", async () => {
    const { port } = await listenWith(echo);
    const { socket, text } = connectRaw(port);
    await new Promise<void>((resolve) => socket.write("PR", () => setImmediate(resolve)));
    socket.write("OPFIND / HTTP/1.1\r\nHost: x\r\n\r\n");
    expect(await eventually(() => text().includes("1.1 ") && text())).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
  });

  test("keeps a body whole that comes together with the head", async () => {
    const { url } = await listenWith(echo);
    const body = "x".repeat(300_000);
    expect(await (await fetch(url, { method: "POST", body })).text()).toBe(`1.1 ${body}`);
  });

  test("names another setting when the port is taken", async () => {
    const { port } = await listenWith(echo);
    const second = createListener(echo, { host: "127.0.0.1", port, tls: null, limits: roomyLimits });
    await expect(second.listen()).rejects.toThrow(/another process listens there\. Set PORT/);
    await second.close(0);
  });
});

describe("slow and greedy clients", () => {
  test("a connection that says nothing is closed", async () => {
    const { port } = await listenWith(echo, { sniffTimeoutMs: 100 });
    expect(await connectRaw(port).closed).toBe("");
  });

  test("half a preface is closed", async () => {
    const { port } = await listenWith(echo, { sniffTimeoutMs: 100 });
    const { socket, closed } = connectRaw(port);
    socket.write("PRI * HTTP/2");
    expect(await closed).toBe("");
  });

  test("half a preface and the end of sending is closed at once", async () => {
    const { port } = await listenWith(echo, { sniffTimeoutMs: 60_000 });
    const { socket, closed } = connectRaw(port);
    socket.end("PRI * HTTP/2");
    expect(await closed).toBe("");
  });

  test("a head that never ends is answered 408", async () => {
    const { port } = await listenWith(echo, { headersTimeoutMs: 150 });
    const { socket, closed } = connectRaw(port);
    socket.write("POST / HTTP/1.1\r\nHost: x\r\n");
    expect(await closed).toMatch(/^HTTP\/1\.1 408 /);
  });

  test("a head that never ends is closed under TLS too", async () => {
    const certificate = makeCertificate();
    const { port } = await listenWith(echo, { headersTimeoutMs: 150 }, certificate);
    const socket = connectTls({ host: "127.0.0.1", port, ca: certificate.cert });
    socket.on("error", () => undefined);
    socket.write("POST / HTTP/1.1\r\nHost: x\r\n");
    let text = "";
    socket.on("data", (chunk) => {
      text += chunk;
    });
    await new Promise((resolve) => socket.once("close", resolve));
    expect(text).toMatch(/^HTTP\/1\.1 408 /);
  });

  test("a body that never ends is answered 408", async () => {
    const { port } = await listenWith(echo, { headersTimeoutMs: 150, requestTimeoutMs: 200 });
    const { socket, closed } = connectRaw(port);
    socket.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab");
    expect(await closed).toMatch(/^HTTP\/1\.1 408 /);
  });

  test("a head beyond the limit is answered 431", async () => {
    const { port } = await listenWith(echo, { headerBytesMax: 1_024 });
    const { socket, closed } = connectRaw(port);
    socket.write(`GET / HTTP/1.1\r\nHost: x\r\nA: ${"a".repeat(4_000)}\r\n\r\n`);
    expect(await closed).toMatch(/^HTTP\/1\.1 431 /);
  });

  test("connections beyond the cap are closed, those within it go on", async () => {
    const { url, port } = await listenWith(echo, { socketsMax: 2, sniffTimeoutMs: 60_000 });
    const first = connectRaw(port);
    const second = connectRaw(port);
    await Promise.all(
      [first, second].map(({ socket }) => new Promise((done) => socket.once("connect", done))),
    );
    await connectRaw(port).closed;
    first.socket.destroy();
    await first.closed;
    const text = await fetchOnceFree(() => fetch(url, { method: "POST", body: "in" }));
    expect(text).toBe("1.1 in");
  });

  test("HTTP/2 sessions beyond the cap are closed", async () => {
    const { url } = await listenWith(echo, { sessionsMax: 1 });
    expect((await postHttp2(openSession(url), "one")).status).toBe(200);
    await expect(postHttp2(openSession(url), "two")).rejects.toThrow();
  });

  test("an HTTP/2 session in which nothing happens is ended", async () => {
    const { url } = await listenWith(echo, { sessionIdleMs: 100 });
    const session = openSession(url);
    await new Promise((resolve) => session.once("close", resolve));
    expect(session.destroyed).toBe(true);
  });

  test("tells HTTP/2 clients how many requests they may have open", async () => {
    const { url } = await listenWith(echo, { streamsPerSessionMax: 7 });
    const session = openSession(url);
    const settings = await new Promise<{ maxConcurrentStreams?: number }>((resolve) =>
      session.once("remoteSettings", resolve),
    );
    expect(settings.maxConcurrentStreams).toBe(7);
  });
});

/** The place of a connection that just ended may take a moment to be free. */
async function fetchOnceFree(attempt: () => Promise<Response>): Promise<string> {
  const endAtMs = performance.now() + 5_000;
  for (;;) {
    try {
      return await (await attempt()).text();
    } catch (error) {
      if (performance.now() > endAtMs) throw error;
    }
  }
}

describe("closing", () => {
  test("lets HTTP/1.1 requests in flight finish, says Connection: close, and takes no new ones", async () => {
    const { handler, held } = holding();
    const { port, listener } = await listenWith(handler);
    const { socket, closed } = connectRaw(port);
    socket.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    const response = await eventually(() => held[0]);

    const closing = listener.close(5_000);
    const refused = await connectRaw(port).closed;
    response.end("done");

    expect(await closed).toMatch(/\r\nConnection: close\r\n.*done/s);
    await closing;
    expect(refused).toBe("");
  });

  test("lets HTTP/2 requests in flight finish", async () => {
    const { handler, held } = holding();
    const { url, listener } = await listenWith(handler);
    const session = openSession(url);
    const answer = postHttp2(session, "");
    const response = await eventually(() => held[0]);
    const goaway = new Promise((resolve) => session.once("goaway", resolve));

    const closing = listener.close(5_000);
    await goaway;
    response.end("done");

    expect(await answer).toEqual({ status: 200, text: "done" });
    await closing;
  });

  test("closes connections without a request at once", async () => {
    const { url, port, listener } = await listenWith(echo);
    const silent = connectRaw(port);
    const idle = connectRaw(port);
    idle.socket.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    await eventually(() => idle.text().includes("1.1 "));
    await postHttp2(openSession(url), "");

    const startedAtMs = performance.now();
    await listener.close(10_000);

    expect(performance.now() - startedAtMs).toBeLessThan(3_000);
    await Promise.all([silent.closed, idle.closed]);
    expect(idle.text()).toMatch(/\r\nConnection: keep-alive\r\n/);
  });

  test("destroys what does not finish within the grace time", async () => {
    const { handler, held } = holding();
    const { url, port, listener } = await listenWith(handler);
    const { socket, closed } = connectRaw(port);
    socket.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    const lost = postHttp2(openSession(url), "").catch(() => "lost");
    await eventually(() => held.length === 2);

    await listener.close(100);

    expect(await closed).toBe("");
    expect(await lost).toBe("lost");
  });

  test("a second close waits for the first", async () => {
    const { handler, held } = holding();
    const { port, listener } = await listenWith(handler);
    const request = requestHttp({ host: "127.0.0.1", port, agent: false });
    const answered = new Promise((resolve) => request.once("response", resolve));
    request.end();
    const response = await eventually(() => held[0]);
    let isSecondDone = false;

    const first = listener.close(5_000);
    const second = listener.close(5_000).then(() => {
      isSecondDone = true;
    });
    await connectRaw(port).closed;
    expect(isSecondDone).toBe(false);
    response.end();
    await Promise.all([first, second, answered]);
    expect(isSecondDone).toBe(true);
  });
});
