import { hash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createMediaSource, type MediaAsked, type MediaSource } from "../../server/whatsapp/media.ts";
import { openTestGraph, type TestGraph } from "../helpers/graph.ts";
import { startReceiver } from "../helpers/receiver.ts";
import { waitFor } from "../helpers/wait.ts";

const accessToken = "EAA-token-of-the-shop";
const asked: MediaAsked = { clientId: 1, phoneNumberId: "6201", mediaId: "1480001", accessToken };
const bytes = Buffer.from("the bytes of a picture");
const clock = {
  nowMs: Date.parse("2026-03-05T12:00:00Z"),
  now: () => new Date(clock.nowMs),
  sleep: () => Promise.resolve(),
};
const never = new AbortController().signal;

let graph: TestGraph;
const sources: MediaSource[] = [];
beforeEach(async () => {
  graph = await openTestGraph();
  graph.addNumber("6201", accessToken);
  graph.media.add(asked.mediaId, { bytes, mimeType: "image/jpeg", phoneNumberId: "6201", accessToken });
});
afterEach(async () => {
  await Promise.all(sources.splice(0).map((source) => source.close()));
  await graph.close();
});

interface Options {
  graphUrl?: string;
  egressProxy?: string;
  fileBytesMax?: number;
}

function openSource({ graphUrl = graph.url, egressProxy, fileBytesMax = 1_000_000 }: Options = {}) {
  const source = createMediaSource(
    {
      url: graphUrl,
      version: "v23.0",
      timeoutMs: 1_000,
      responseBytesMax: 64 * 1024,
      caPem: null,
      egressProxy: egressProxy ?? null,
    },
    { fileBytesMax, locationKeptMs: 300_000, failureKeptMs: 5_000, idleTimeoutMs: 1_000 },
    clock,
  );
  sources.push(source);
  return source;
}

async function readAll(source: MediaSource, range: string | null = null, of = asked): Promise<string> {
  const answer = await source.open(of, range, never);
  if (answer.status === 416) throw new Error("416");
  const chunks: Uint8Array[] = [];
  for await (const chunk of answer.body) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

async function faultOf(
  reading: Promise<unknown>,
): Promise<{ kind: string; message: string; cause: unknown }> {
  try {
    await reading;
  } catch (error) {
    expect(error).toMatchObject({ name: "MediaFault" });
    // biome-ignore lint/suspicious/noExplicitAny: looked at below
    const { kind, message, cause } = error as any;
    expect(`${message} ${cause} ${cause?.stack}`).not.toContain(accessToken);
    expect(message).not.toContain(graph.url);
    return { kind, message, cause };
  }
  throw new Error("it was no fault");
}

describe("a file", () => {
  test("is looked up with the client's token and number, then read with the same token", async () => {
    expect(await readAll(openSource())).toBe("the bytes of a picture");
    expect(graph.requests).toMatchObject([
      { method: "GET", version: "v23.0", path: "/1480001", accessToken },
      { method: "GET", version: "whatsapp_business", accessToken },
    ]);
    expect(graph.requests[0]!.query.get("phone_number_id")).toBe("6201");
  });

  test("is looked up once for all who read it within five minutes, then anew", async () => {
    const source = openSource();
    await Promise.all([readAll(source), readAll(source), source.look(asked)]);
    clock.nowMs += 299_999;
    await readAll(source);
    expect(graph.media.lookups).toHaveLength(1);
    clock.nowMs += 1;
    await readAll(source);
    expect(graph.media.lookups).toHaveLength(2);
  });

  test("is looked up anew when its URL has run out before", async () => {
    const source = openSource();
    await source.look(asked);
    graph.media.expireUrls();
    expect(await readAll(source)).toBe("the bytes of a picture");
    expect(graph.media.lookups).toHaveLength(2);
  });

  test("is looked up anew once for all who find that its URL has run out", async () => {
    const source = openSource();
    await source.look(asked);
    graph.media.expireUrls();
    await Promise.all(Array.from({ length: 8 }, () => readAll(source)));
    expect(graph.media.lookups).toHaveLength(2);
  });

  test("of one client is not told to another who names the same id", async () => {
    const source = openSource();
    await readAll(source);
    graph.addNumber("6202", "EAA-token-of-another");
    const others = { ...asked, clientId: 2, phoneNumberId: "6202", accessToken: "EAA-token-of-another" };
    expect(await faultOf(readAll(source, null, others))).toMatchObject({ kind: "missing" });
    expect(graph.media.downloads).toHaveLength(1);
  });

  test("that the reader wants no more of is asked for no more", async () => {
    graph.media.serve("endless");
    const gone = new AbortController();
    const answer = await openSource({ fileBytesMax: 1e12 }).open(asked, null, gone.signal);
    if (answer.status === 416) throw new Error("416");
    const reading = (async () => {
      for await (const _ of answer.body) gone.abort();
    })();
    await faultOf(reading);
    await waitFor(
      "the end of the download",
      () => graph.media.downloads[0]!.ended,
      (isWhole) => !isWhole,
    );
  });
});

describe("the token goes to nobody else", () => {
  test("when the media host sends on to another one", async () => {
    const thief = await startReceiver();
    try {
      graph.media.serve({ status: 302, headers: { Location: thief.url } });
      expect(await faultOf(readAll(openSource()))).toMatchObject({ kind: "unavailable" });
      expect(thief.requests).toEqual([]);
    } finally {
      await thief.close();
    }
  });

  test("when Graph itself sends on", async () => {
    const thief = await startReceiver();
    try {
      graph.answerWith({ status: 302, headers: { Location: thief.url } });
      expect(await faultOf(readAll(openSource()))).toMatchObject({ kind: "unavailable" });
      expect(thief.requests).toEqual([]);
    } finally {
      await thief.close();
    }
  });

  test.each([
    ["https://evil.example/file", false],
    ["https://lookaside.fbsbx.com.evil.example/file", false],
    ["https://evilfbcdn.net/file", false],
    ["https://fbcdn.net/file", false],
    ["https://user:word@lookaside.fbsbx.com/file", false],
    ["https://lookaside.fbsbx.com:8443/file", false],
    ["http://lookaside.fbsbx.com/file", false],
    ["ftp://lookaside.fbsbx.com/file", false],
    ["https://127.0.0.1/file", false],
    ["https://lookaside.fbsbx.com/whatsapp_business/attachments/?mid=1", true],
    ["https://scontent.xx.fbcdn.net/file", true],
    ["https://mmg.whatsapp.net/file", true],
  ])("%s is asked: %s", async (url, isAsked) => {
    const proxy = await openProxy();
    try {
      const facts = { url };
      graph.media.add(asked.mediaId, {
        bytes,
        mimeType: "image/jpeg",
        phoneNumberId: "6201",
        accessToken,
        facts,
      });
      const { kind } = await faultOf(readAll(openSource({ egressProxy: proxy.url })));
      const graphHost = new URL(graph.url).host;
      const others = proxy.asked.filter((host) => host !== graphHost);
      expect(kind).toBe(isAsked ? "unavailable" : "untrusted");
      expect(others).toEqual(isAsked ? [`${new URL(url).host}:443`] : []);
      expect(proxy.asked).toContain(graphHost);
    } finally {
      await proxy.close();
    }
  });
});

/** A proxy that leads to this machine only, and notes who is asked for. */
async function openProxy() {
  const hosts: string[] = [];
  const server: Server = createServer();
  server.on("connect", (request, socket) => {
    hosts.push(request.url ?? "");
    const [host, port] = (request.url ?? "").split(":");
    socket.on("error", () => undefined);
    if (host !== "127.0.0.1" || `127.0.0.1:${port}` !== new URL(graph.url).host) {
      return void socket.end("HTTP/1.1 502 Bad Gateway\r\n\r\n");
    }
    const upstream = connect(Number(port), "127.0.0.1", () => {
      socket.write("HTTP/1.1 200 OK\r\n\r\n");
      socket.pipe(upstream).pipe(socket);
    });
    upstream.on("error", () => socket.destroy());
    socket.on("close", () => upstream.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked: hosts,
    async close() {
      await Promise.all(sources.splice(0).map((source) => source.close()));
      server.close();
    },
  };
}

describe("a file that cannot be had is a fault that says why", () => {
  test.each<[string, () => void, string]>([
    [
      "Graph refuses the token",
      () => graph.answerWith({ status: 401, body: { error: { code: 190 } } }),
      "token_refused",
    ],
    [
      "Graph refuses it with 400",
      () => graph.answerWith({ status: 400, body: { error: { code: 190 } } }),
      "token_refused",
    ],
    [
      "Graph does not know the id",
      () => graph.answerWith({ status: 400, body: { error: { code: 100 } } }),
      "missing",
    ],
    ["Graph limits us", () => graph.answerWith({ status: 400, body: { error: { code: 4 } } }), "unavailable"],
    ["Graph has a fault", () => graph.answerWith({ status: 500, body: "oops" }), "unavailable"],
    ["Graph makes no sense", () => graph.answerWith({ status: 200, body: "<html>" }), "unavailable"],
    ["Graph gives no URL", () => graph.answerWith({ status: 200, body: { id: "1480001" } }), "unavailable"],
    ["Graph hangs", () => graph.answerWith("hang"), "unavailable"],
    ["Graph hangs up", () => graph.answerWith("reset"), "unavailable"],
    ["the media host refuses the token", () => graph.media.serve({ status: 403 }), "token_refused"],
    ["the media host does not find it", () => graph.media.serve({ status: 404 }), "missing"],
    ["the media host has a fault", () => graph.media.serve({ status: 503 }), "unavailable"],
    ["the media host hangs", () => graph.media.serve("hang"), "unavailable"],
    [
      "it comes encoded",
      () => graph.media.serve({ status: 200, headers: { "Content-Encoding": "gzip" }, body: "x" }),
      "unavailable",
    ],
    ["a part comes unasked", () => graph.media.serve({ status: 206, body: "x" }), "unavailable"],
    ["it ends too early", () => graph.media.serve("short"), "unavailable"],
    ["it stops half-way", () => graph.media.serve("stalled"), "unavailable"],
    ["it never ends", () => graph.media.serve("endless"), "too_large"],
    [
      "its head says that it is too large",
      () => graph.media.serve({ status: 200, headers: { "Content-Length": "1000001" } }),
      "too_large",
    ],
    [
      "Graph says that it is too large",
      () => {
        const facts = { file_size: 1_000_001 };
        graph.media.add(asked.mediaId, {
          bytes,
          mimeType: "video/mp4",
          phoneNumberId: "6201",
          accessToken,
          facts,
        });
      },
      "too_large",
    ],
  ])("%s", async (_what, prepare, kind) => {
    prepare();
    expect((await faultOf(readAll(openSource()))).kind).toBe(kind);
  });

  test("Graph is away", async () => {
    expect((await faultOf(readAll(openSource({ graphUrl: "http://127.0.0.1:9" })))).kind).toBe("unavailable");
  });

  test("its id would lead elsewhere at Graph", async () => {
    const fault = await faultOf(readAll(openSource(), null, { ...asked, mediaId: "../me" }));
    expect(fault.kind).toBe("missing");
    expect(graph.requests).toEqual([]);
  });

  test("is remembered for five seconds, and then the next try may do better", async () => {
    const source = openSource();
    graph.answerWith({ status: 500 });
    await faultOf(readAll(source));
    graph.answerWith(null);
    clock.nowMs += 4_999;
    expect(await faultOf(readAll(source))).toMatchObject({ kind: "unavailable" });
    expect(graph.requests).toHaveLength(1);
    clock.nowMs += 1;
    expect(await readAll(source)).toBe("the bytes of a picture");
  });

  test("is not remembered of a token that was replaced since", async () => {
    const source = openSource();
    const { kind } = await faultOf(readAll(source, null, { ...asked, accessToken: "EAA-revoked" }));
    expect(kind).toBe("token_refused");
    expect(await readAll(source)).toBe("the bytes of a picture");
  });

  test("is remembered, too, of a file that is not where Graph says", async () => {
    const source = openSource();
    graph.media.serve({ status: 404 });
    await faultOf(readAll(source));
    const askedCount = graph.requests.length;
    expect(await faultOf(readAll(source))).toMatchObject({ kind: "missing" });
    expect(graph.requests).toHaveLength(askedCount);
    graph.media.serve("as_asked");
    clock.nowMs += 5_000;
    expect(await readAll(source)).toBe("the bytes of a picture");
  });
});

describe("bytes that are not those that Graph promised", () => {
  const digest = hash("sha256", bytes, "hex");

  test.each([
    ["its hash in hexadecimal", digest, true],
    ["its hash in capitals", digest.toUpperCase(), true],
    ["its hash in base64", Buffer.from(digest, "hex").toString("base64"), true],
    ["what is no hash", "q83vEjRWeJA=", true],
    ["another's hash", hash("sha256", "another file", "hex"), false],
    ["another's hash in base64", hash("sha256", "another file", "base64"), false],
  ])("are found out by their hash, if it is one: %s", async (_what, sha256, isWhole) => {
    add({ sha256 });
    const reading = readAll(openSource());
    if (isWhole) expect(await reading).toBe("the bytes of a picture");
    else expect(await faultOf(reading)).toMatchObject({ kind: "altered" });
  });

  test("are never given to their last", async () => {
    const long = randomBytes(300_000);
    add({ sha256: hash("sha256", "another file", "hex") }, long);
    const answer = await openSource().open(asked, null, never);
    if (answer.status === 416) throw new Error("416");
    let readCount = 0;
    const reading = (async () => {
      for await (const chunk of answer.body) readCount += chunk.byteLength;
    })();
    await faultOf(reading);
    expect(readCount).toBeLessThan(300_000);
  });

  test("cannot be told in a part", async () => {
    add({ sha256: hash("sha256", "another file", "hex") });
    expect(await readAll(openSource(), "bytes=4-8")).toBe("bytes");
  });

  test.each([
    ["its length does not fit", "bytes 0-9/22"],
    ["it ends before it begins", "bytes 4-1/22"],
    ["it ends behind the end", "bytes 0-2/2"],
    ["it is none", "bytes */22"],
  ])("may be a part, but %s", async (_what, range) => {
    graph.media.serve({
      status: 206,
      headers: { "Content-Range": range, "Content-Length": "3" },
      body: "the",
    });
    expect(await faultOf(readAll(openSource(), "bytes=0-2"))).toMatchObject({ kind: "unavailable" });
  });

  function add(facts: Record<string, unknown>, content: Uint8Array = bytes) {
    const file = { mimeType: "image/jpeg", phoneNumberId: "6201", accessToken };
    graph.media.add(asked.mediaId, { bytes: content, ...file, facts });
  }
});
