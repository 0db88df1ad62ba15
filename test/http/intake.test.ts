import { createHmac } from "node:crypto";
import { connect as connectHttp2 } from "node:http2";
import { describe, expect, test } from "vitest";
import type { Clock } from "../../server/clock.ts";
import { GatewayError } from "../../server/domain/errors.ts";
import { aChange, anEnvelope, anInboundBody, aTextMessage, toBytes } from "../helpers/whatsapp-bodies.ts";
import { appSecret, connectRaw, eventually, listenWithRoutes, type RoutesPort } from "./port.ts";

function sign(body: Uint8Array | string, secret = appSecret): string {
  return `sha256=${createHmac("sha256", secret).update(body).digest("hex")}`;
}

function post(
  port: RoutesPort,
  body: Uint8Array<ArrayBuffer> | string,
  headers: Record<string, string> = { "X-Hub-Signature-256": sign(body) },
): Promise<Response> {
  return fetch(`${port.url}/whatsapp/webhook`, { method: "POST", body, headers });
}

const inbound = Buffer.from(toBytes(anInboundBody()));

describe("POST /whatsapp/webhook", () => {
  test("publishes the events of a signed body, then answers 200 without a body", async () => {
    const port = await listenWithRoutes();
    const answer = await post(port, inbound);
    expect(answer.status).toBe(200);
    expect(await answer.text()).toBe("");
    expect(answer.headers.get("x-content-type-options")).toBe("nosniff");
    expect(answer.headers.get("server")).toBeNull();
    expect(port.published).toHaveLength(1);
    expect(port.published[0]!.events.map((event) => event.type)).toEqual(["message.received"]);
    expect(port.published[0]!.scope).toEqual({
      tenantId: null,
      signer: { isOperator: true, secret: appSecret },
    });
    expect(port.kept).toEqual([]);
  });

  test("says which app secret signed", async () => {
    const port = await listenWithRoutes({}, { appSecrets: ["old-secret", "new-secret"] });
    await post(port, inbound, { "X-Hub-Signature-256": sign(inbound, "new-secret") });
    expect(port.published[0]!.scope).toMatchObject({ signer: { isOperator: true, secret: "new-secret" } });
  });

  test("answers only once the events are stored", async () => {
    const stored = Promise.withResolvers<object[]>();
    let isPublishing = false;
    let isAnswered = false;
    const port = await listenWithRoutes({
      publish: () => {
        isPublishing = true;
        return stored.promise;
      },
    });
    const answer = post(port, inbound).then((response) => {
      isAnswered = true;
      return response.status;
    });
    await eventually(() => isPublishing);
    // A round trip on another connection: time enough for a premature answer to show.
    await fetch(`${port.url}/healthz`);
    expect(isAnswered).toBe(false);
    stored.resolve([{}]);
    expect(await answer).toBe(200);
  });

  test.each([
    [
      '{"object":"whatsapp_business_account","entry":[]}',
      "dec6a680679a968e7e0319355b23599cbfc54502c0784668e9618baa0c633756",
    ],
    [
      '{"object": "whatsapp_business_account", "entry": []}',
      "56cbbaf4961c6cfdae48b7f116c047e5eb513d2c931baae63a2bc1afd26f803a",
    ],
  ])("accepts the published signature of %s and no other", async (body, digits) => {
    const port = await listenWithRoutes();
    expect((await post(port, body, { "X-Hub-Signature-256": `sha256=${digits}` })).status).toBe(200);
    const wrong = digits.replace(/^./, (digit) => (digit === "0" ? "1" : "0"));
    expect((await post(port, body, { "X-Hub-Signature-256": `sha256=${wrong}` })).status).toBe(401);
  });

  test.each<[string, Record<string, string>]>([
    ["no signature", {}],
    ["an empty signature", { "X-Hub-Signature-256": "" }],
    ["another secret's signature", { "X-Hub-Signature-256": sign(inbound, "other") }],
    ["the signature of the empty secret", { "X-Hub-Signature-256": sign(inbound, "") }],
    ["a digest without its prefix", { "X-Hub-Signature-256": sign(inbound).slice(7) }],
    ["one digit less", { "X-Hub-Signature-256": sign(inbound).slice(0, -1) }],
    ["one digit more", { "X-Hub-Signature-256": `${sign(inbound)}0` }],
    ["the SHA-1 header alone", { "X-Hub-Signature": sign(inbound) }],
  ])("stores nothing and answers 401 to %s", async (_what, headers) => {
    const port = await listenWithRoutes();
    const answer = await post(port, inbound, headers);
    expect(answer.status).toBe(401);
    expect(await answer.json()).toEqual({ code: "unauthenticated", message: expect.any(String) });
    expect(port.published).toEqual([]);
    expect(port.kept).toEqual([]);
  });

  test("checks the bytes as they came: the same text re-encoded does not match", async () => {
    const port = await listenWithRoutes();
    const escaped = Buffer.from(toBytes(anInboundBody(aTextMessage({ body: "äöå" }))));
    const spelledOut = Buffer.from(JSON.stringify(JSON.parse(escaped.toString())));
    expect((await post(port, escaped)).status).toBe(200);
    expect((await post(port, spelledOut, { "X-Hub-Signature-256": sign(escaped) })).status).toBe(401);
  });

  test.each<[string, Buffer | string]>([
    ["text that is no JSON", "hello"],
    ["nothing", ""],
    ["bytes that are no UTF-8", Buffer.from([0x7b, 0xff, 0x00, 0xfe])],
    ["JSON of something else", '{"object":"page","entry":[]}'],
    ["null", "null"],
    ["brackets nested too deep", "[".repeat(200_000)],
  ])("keeps the raw bytes of a signed body that makes no sense and answers 200: %s", async (_what, body) => {
    const port = await listenWithRoutes();
    expect((await post(port, Buffer.from(body))).status).toBe(200);
    expect(port.published).toEqual([]);
    expect(port.kept).toHaveLength(1);
    expect(port.kept[0]!.rawBody).toEqual(Buffer.from(body));
    expect(port.kept[0]!.reason).not.toBe("");
  });

  test("publishes the good events beside a bad change, and keeps the body for the bad one", async () => {
    const port = await listenWithRoutes();
    const body = Buffer.from(toBytes(anEnvelope([7, aChange({ messages: [aTextMessage()] })])));
    expect((await post(port, body)).status).toBe(200);
    expect(port.published[0]!.events).toHaveLength(1);
    expect(port.kept).toEqual([{ rawBody: body, reason: expect.stringContaining("entry[0]") }]);
  });

  test("takes a body with U+0000 and lone surrogates like any other", async () => {
    const port = await listenWithRoutes();
    const body = Buffer.from(toBytes(anInboundBody(aTextMessage({ body: "a\u0000b\ud800c" }))));
    expect((await post(port, body)).status).toBe(200);
    expect(port.published[0]!.events).toHaveLength(1);
  });

  test("answers 503 with Retry-After while the events cannot be stored", async () => {
    const port = await listenWithRoutes({
      publish: () => Promise.reject(new GatewayError("unavailable", "The database is away.")),
    });
    const answer = await post(port, inbound);
    expect(answer.status).toBe(503);
    expect(Number(answer.headers.get("retry-after"))).toBeGreaterThan(0);
    expect(await answer.json()).toEqual({ code: "unavailable", message: "The database is away." });
  });

  test("answers 503 while a body that makes no sense cannot be kept", async () => {
    const port = await listenWithRoutes({
      keepMalformed: () => Promise.reject(new GatewayError("unavailable", "The database is away.")),
    });
    expect((await post(port, "hello")).status).toBe(503);
  });

  test("answers 500 without details to a fault of ours, and logs them once", async () => {
    const port = await listenWithRoutes({ publish: () => Promise.reject(new Error("row 17 of secret")) });
    const answer = await post(port, inbound);
    expect(answer.status).toBe(500);
    expect(await answer.text()).not.toContain("row 17");
    expect(port.logLines.filter((line) => JSON.stringify(line).includes("row 17"))).toHaveLength(1);
  });

  test.each(["gzip", "identity", "br"])("answers 415 to Content-Encoding: %s", async (encoding) => {
    const port = await listenWithRoutes();
    const headers = { "X-Hub-Signature-256": sign(inbound), "Content-Encoding": encoding };
    expect((await post(port, inbound, headers)).status).toBe(415);
    expect(port.published).toEqual([]);
  });
});

describe("the longest body", () => {
  const limit = 4 * 1024 * 1024;

  test("of 4 MiB is taken", async () => {
    const port = await listenWithRoutes();
    const body = Buffer.alloc(limit, " ");
    inbound.copy(body);
    expect((await post(port, body)).status).toBe(200);
    expect(port.published).toHaveLength(1);
  });

  test("one byte longer is answered 413, announced or not", async () => {
    const port = await listenWithRoutes();
    const body = Buffer.alloc(limit + 1, " ");
    const announced = await post(port, body);
    expect(announced.status).toBe(413);
    expect(await announced.json()).toEqual({ code: "resource_exhausted", message: expect.any(String) });

    const { socket, text } = connectRaw(port.port);
    socket.write(
      `POST /whatsapp/webhook HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: ${sign(body)}\r\nTransfer-Encoding: chunked\r\n\r\n`,
    );
    socket.write(`${(limit + 1).toString(16)}\r\n`);
    socket.write(body);
    expect(await eventually(() => text().includes("\r\n\r\n") && text())).toMatch(/^HTTP\/1\.1 413 /);
    expect(port.published).toEqual([]);
  });

  test("is refused before it is sent, and the connection closed", async () => {
    const port = await listenWithRoutes({}, { bodyBytesMax: 1_000 });
    const { socket, closed } = connectRaw(port.port);
    socket.write(
      "POST /whatsapp/webhook HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: x\r\nContent-Length: 1001\r\n\r\n",
    );
    expect(await closed).toMatch(/^HTTP\/1\.1 413 .*\r\nConnection: close\r\n/s);
  });

  test("is refused so that a sender who reads only after sending everything sees it", async () => {
    const port = await listenWithRoutes({}, { bodyBytesMax: 1_000 });
    const { socket, text } = connectRaw(port.port);
    socket.pause();
    const body = Buffer.alloc(16 * 1024 * 1024);
    socket.write(
      `POST /whatsapp/webhook HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: x\r\nContent-Length: ${body.length}\r\n\r\n`,
    );
    await new Promise((resolve) => socket.write(body, resolve));
    socket.resume();
    expect(await eventually(() => text().includes("\r\n\r\n") && text())).toMatch(/^HTTP\/1\.1 413 /);
  });

  test("is refused over HTTP/2 without ending the session", async () => {
    const port = await listenWithRoutes({}, { bodyBytesMax: 1_000 });
    const session = connectHttp2(port.url);
    const send = (body: Buffer) =>
      new Promise<number>((resolve) => {
        const stream = session.request({
          ":method": "POST",
          ":path": "/whatsapp/webhook",
          "x-hub-signature-256": sign(body),
        });
        stream.on("response", (headers) => resolve(Number(headers[":status"])));
        stream.on("error", () => undefined);
        stream.end(body);
      });
    expect(await send(Buffer.alloc(500_000))).toBe(413);
    expect(await send(inbound)).toBe(200);
    session.destroy();
  });
});

describe("senders that dawdle, leave or come in crowds", () => {
  const head = (length: number) =>
    `POST /whatsapp/webhook HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: sha256=0\r\nContent-Length: ${length}\r\n\r\n`;

  test("a body that comes too slowly is answered 408", async () => {
    const port = await listenWithRoutes({}, { bodyDeadlineMs: 100 });
    const { socket, closed } = connectRaw(port.port);
    socket.write(`${head(10)}abc`);
    expect(await closed).toMatch(/^HTTP\/1\.1 408 /);
  });

  test("a body that comes in pieces is put together", async () => {
    const port = await listenWithRoutes();
    const { socket, text } = connectRaw(port.port);
    socket.setNoDelay(true);
    const signed = head(inbound.length).replace("sha256=0", sign(inbound));
    for (const piece of [signed, inbound.subarray(0, 5), inbound.subarray(5, 90), inbound.subarray(90)]) {
      await new Promise<void>((resolve) => socket.write(piece, () => setImmediate(resolve)));
    }
    expect(await eventually(() => text().includes("\r\n\r\n") && text())).toMatch(/^HTTP\/1\.1 200 /);
    expect(port.published).toHaveLength(1);
  });

  test("a sender that leaves in the middle harms nobody", async () => {
    const port = await listenWithRoutes({}, { heldBytesMax: 9_000 });
    const { socket } = connectRaw(port.port);
    socket.write(head(500) + "a".repeat(499));
    await eventually(async () => (await post(port, inbound)).status === 503);
    socket.destroy();
    await eventually(async () => (await post(port, inbound)).status === 200);
  });

  test("beyond the bytes that may wait, new bodies are answered 503 with Retry-After until others are done", async () => {
    const stored = Promise.withResolvers<object[]>();
    let publishingCount = 0;
    const port = await listenWithRoutes(
      {
        publish: () => {
          publishingCount += 1;
          return stored.promise;
        },
      },
      { heldBytesMax: 30_000 },
    );
    const first = [post(port, inbound), post(port, inbound), post(port, inbound)];
    await eventually(() => publishingCount === 3);

    const refused = await post(port, inbound);
    expect(refused.status).toBe(503);
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);

    stored.resolve([{}]);
    expect((await Promise.all(first)).map((answer) => answer.status)).toEqual([200, 200, 200]);
    expect((await post(port, inbound)).status).toBe(200);
  });
});

describe("without an app secret", () => {
  function movableClock(): Clock & { nowMs: number } {
    return {
      nowMs: Date.UTC(2026, 2, 5),
      now() {
        return new Date(this.nowMs);
      },
      sleep: () => new Promise(() => undefined),
    };
  }
  const warnings = (port: RoutesPort) => port.logLines.filter((line) => line.level === "warn");

  test("production refuses everything, and warns once a minute", async () => {
    const clock = movableClock();
    const port = await listenWithRoutes({ clock }, { appSecrets: [] });
    for (const signature of ["", sign(inbound, "")]) {
      const answer = await post(port, inbound, { "X-Hub-Signature-256": signature });
      expect(answer.status).toBe(403);
      expect(await answer.json()).toMatchObject({
        code: "permission_denied",
        message: expect.stringContaining("WHATSAPP_APP_SECRET"),
      });
    }
    expect(warnings(port)).toHaveLength(1);
    clock.nowMs += 60_000;
    await post(port, inbound);
    expect(warnings(port)).toHaveLength(2);
    expect(port.published).toEqual([]);
    expect(port.kept).toEqual([]);
  });

  test("development accepts, signed or not, and warns once", async () => {
    const clock = movableClock();
    const port = await listenWithRoutes({ clock }, { appSecrets: [], mode: "development" });
    expect((await post(port, inbound, {})).status).toBe(200);
    clock.nowMs += 86_400_000;
    expect((await post(port, inbound)).status).toBe(200);
    expect(port.published.map(({ scope }) => scope)).toEqual([
      { tenantId: null, signer: { isOperator: true, secret: null } },
      { tenantId: null, signer: { isOperator: true, secret: null } },
    ]);
    expect(warnings(port)).toHaveLength(1);
  });

  test("a blank secret is no secret", async () => {
    const port = await listenWithRoutes({}, { appSecrets: [""] });
    expect((await post(port, inbound, { "X-Hub-Signature-256": sign(inbound, "") })).status).toBe(401);
  });
});

describe("GET /whatsapp/webhook", () => {
  const ask = (port: RoutesPort, query: string) => fetch(`${port.url}/whatsapp/webhook?${query}`);

  test("answers the handshake with the raw challenge as text", async () => {
    const port = await listenWithRoutes();
    const answer = await ask(port, "hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=the-token");
    expect(answer.status).toBe(200);
    expect(answer.headers.get("content-type")).toMatch(/^text\/plain/);
    expect(answer.headers.get("x-content-type-options")).toBe("nosniff");
    expect(await answer.text()).toBe("1158201444");
  });

  test("gives back a challenge with markup as inert text", async () => {
    const port = await listenWithRoutes();
    const answer = await ask(
      port,
      `hub.mode=subscribe&hub.challenge=${encodeURIComponent("<b>é</b>")}&hub.verify_token=the-token`,
    );
    expect(answer.headers.get("content-type")).toMatch(/^text\/plain/);
    expect(await answer.text()).toBe("<b>é</b>");
  });

  test.each([
    ["another token", "hub.mode=subscribe&hub.challenge=1&hub.verify_token=other"],
    ["no token", "hub.mode=subscribe&hub.challenge=1"],
    ["another mode", "hub.mode=unsubscribe&hub.challenge=1&hub.verify_token=the-token"],
    ["no challenge", "hub.mode=subscribe&hub.verify_token=the-token"],
    ["no query", ""],
  ])("answers 403 to %s", async (_what, query) => {
    const port = await listenWithRoutes();
    const answer = await ask(port, query);
    expect(answer.status).toBe(403);
    expect(await answer.json()).toMatchObject({ code: "permission_denied" });
  });

  test("refuses every handshake when no token is configured", async () => {
    const port = await listenWithRoutes({}, { verifyToken: null });
    expect((await ask(port, "hub.mode=subscribe&hub.challenge=1&hub.verify_token=")).status).toBe(403);
  });
});
