import { hash, randomBytes } from "node:crypto";
import { connect as connectHttp2 } from "node:http2";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createMediaLinks } from "../../server/domain/media-link.ts";
import type { LinkedMedia } from "../../server/store/media-links.ts";
import { createMediaSource, type MediaSource } from "../../server/whatsapp/media.ts";
import { openTestGraph, type TestGraph } from "../helpers/graph.ts";
import { waitFor } from "../helpers/wait.ts";
import { connectRaw, listenWithRoutes, type RoutesPort } from "./port.ts";

const accessToken = "EAA-token-of-the-shop";
const digits = Buffer.from("0123456789");
const file: LinkedMedia = {
  clientId: 1,
  clientRef: "shop",
  accessToken,
  phoneNumberId: "6201",
  mediaId: "1480001",
  fileName: null,
  expiresAt: new Date("2026-03-12T12:00:00Z"),
};
const link = createMediaLinks(() => "", randomBytes)();

let graph: TestGraph;
let source: MediaSource;
let port: RoutesPort;
let linked: LinkedMedia;
const clock = { at: new Date("2026-03-05T12:00:00Z") };
beforeEach(async () => {
  graph = await openTestGraph();
  graph.addNumber("6201", accessToken);
  clock.at = new Date("2026-03-05T12:00:00Z");
  const partClock = { now: () => clock.at, sleep: () => Promise.resolve() };
  source = createMediaSource(
    {
      url: graph.url,
      version: "v23.0",
      timeoutMs: 1_000,
      responseBytesMax: 65_536,
      caPem: null,
      egressProxy: null,
    },
    { fileBytesMax: 100 * 1024 * 1024, locationKeptMs: 300_000, failureKeptMs: 5_000, idleTimeoutMs: 1_000 },
    partClock,
  );
  linked = file;
  port = await listenWithRoutes({
    findLinkedMedia: async (digest) => (link.tokenDigest.equals(digest) ? linked : null),
    mediaSource: source,
    clock: partClock,
  });
});
afterEach(async () => {
  await source.close();
  await graph.close();
});

function addFile(mimeType = "image/jpeg", bytes: Uint8Array = digits, fileName: string | null = null) {
  graph.media.add(file.mediaId, { bytes, mimeType, phoneNumberId: "6201", accessToken });
  linked = { ...file, fileName };
}

const get = (headers: Record<string, string> = {}, method = "GET") =>
  fetch(`${port.url}${link.url}`, { method, headers });

const safeHeaders = {
  "x-content-type-options": "nosniff",
  "content-security-policy": "sandbox; default-src 'none'",
  "referrer-policy": "no-referrer",
};

describe("a media link", () => {
  test.each<[string, string, string | null, string]>([
    ["a picture", "image/jpeg", null, 'inline; filename="file.jpg"'],
    ["a voice note", "audio/ogg; codecs=opus", null, 'inline; filename="file.ogg"'],
    ["a video", "video/mp4", null, 'inline; filename="file.mp4"'],
    ["a document", "application/pdf", "Bill 7.pdf", 'attachment; filename="Bill 7.pdf"'],
    ["a page", "text/html", "../x.html", 'attachment; filename="x.html"'],
    ["a drawing that may hold scripts", "image/svg+xml", "logo.svg", 'attachment; filename="logo.svg"'],
  ])(
    "gives %s with headers under which nothing runs on our origin",
    async (_what, type, name, disposition) => {
      addFile(type, Buffer.from("<script>alert(1)</script>"), name);
      for (const method of ["GET", "HEAD"]) {
        const answer = await get({}, method);
        expect(answer.status).toBe(200);
        expect(Object.fromEntries(answer.headers)).toMatchObject({
          "content-type": type,
          "content-length": "25",
          "content-disposition": disposition,
          ...safeHeaders,
          "cache-control": "private",
          "accept-ranges": "bytes",
        });
        expect(answer.headers.get("access-control-allow-origin")).toBeNull();
        expect(await answer.text()).toBe(method === "GET" ? "<script>alert(1)</script>" : "");
      }
      // HEAD is answered from what the look-up told.
      expect(graph.media.downloads).toHaveLength(1);
    },
  );

  test("works over HTTP/2", async () => {
    const bytes = randomBytes(3_000_000);
    addFile("video/mp4", bytes);
    const session = connectHttp2(port.url);
    try {
      const stream = session.request({ ":path": link.url });
      const chunks: Buffer[] = [];
      for await (const chunk of stream) chunks.push(chunk as Buffer);
      expect(Buffer.concat(chunks).equals(bytes)).toBe(true);
    } finally {
      session.close();
    }
  });

  test.each<[string, number, string, string | null]>([
    ["bytes=2-4", 206, "234", "bytes 2-4/10"],
    ["bytes=7-", 206, "789", "bytes 7-9/10"],
    ["bytes=-2", 206, "89", "bytes 8-9/10"],
    ["bytes=0-99", 206, "0123456789", "bytes 0-9/10"],
    // Several ranges, other units and nonsense: all of it, as RFC 9110 allows.
    ["bytes=0-1,4-5", 200, "0123456789", null],
    ["items=0-1", 200, "0123456789", null],
    ["bytes=-", 200, "0123456789", null],
    ["bytes=5-2", 200, "0123456789", null],
    ["bytes=0-1\u00a0", 200, "0123456789", null],
  ])("asked for %s answers %i", async (range, status, body, contentRange) => {
    addFile();
    const answer = await get({ Range: range });
    expect(answer.status).toBe(status);
    expect(await answer.text()).toBe(body);
    expect(answer.headers.get("content-range")).toBe(contentRange);
    expect(answer.headers.get("content-length")).toBe(String(body.length));
  });

  test("asked for what lies behind the end says so", async () => {
    addFile();
    const answer = await get({ Range: "bytes=10-" });
    expect(answer.status).toBe(416);
    expect(answer.headers.get("content-range")).toBe("bytes */10");
    expect(await answer.json()).toMatchObject({ code: "out_of_range" });
  });

  test("goes on where a broken download stopped, if the file is the same", async () => {
    addFile();
    const etag = (await get()).headers.get("etag")!;
    expect((await get({ Range: "bytes=5-", "If-Range": etag })).status).toBe(206);
    expect((await get({ Range: "bytes=5-", "If-Range": '"another"' })).status).toBe(200);
    expect((await get({ Range: "bytes=5-", "If-Range": `W/${etag}` })).status).toBe(200);
  });

  test.each<[string, string, number]>([
    ["If-None-Match", "ETAG", 304],
    // As a proxy that packs answers writes it.
    ["If-None-Match", "W/ETAG", 304],
    ["If-None-Match", '"another", ETAG', 304],
    ["If-None-Match", "*", 304],
    ["If-None-Match", '"another"', 200],
    ["If-Match", "ETAG", 200],
    ["If-Match", '"another", ETAG', 200],
    ["If-Match", "*", 200],
    ["If-Match", '"another"', 412],
    ["If-Match", "W/ETAG", 412],
  ])("asked with %s: %s answers %i", async (name, value, status) => {
    addFile();
    const etag = (await get({}, "HEAD")).headers.get("etag")!;
    for (const method of ["GET", "HEAD"]) {
      const answer = await get({ [name]: value.replace("ETAG", etag) }, method);
      expect(answer.status).toBe(status);
      if (status !== 412) expect(answer.headers.get("etag")).toBe(etag);
      if (status === 304) expect(await answer.text()).toBe("");
    }
  });

  test("gives all of it where WhatsApp's host knows no ranges", async () => {
    addFile();
    graph.media.serve("without_ranges");
    const answer = await get({ Range: "bytes=2-4" });
    expect(answer.status).toBe(200);
    expect(await answer.text()).toBe("0123456789");
  });
});

describe("is refused in words", () => {
  const errorOf = async (answer: Response) => {
    // An error runs no more on our origin than a file does, and no other origin may read it.
    expect(Object.fromEntries(answer.headers)).toMatchObject(safeHeaders);
    expect(answer.headers.get("access-control-allow-origin")).toBeNull();
    return { status: answer.status, ...((await answer.json()) as { code: string; message: string }) };
  };

  test("if nobody made it", async () => {
    const token = link.url.slice("/media/".length);
    for (const tried of [
      "",
      "x",
      "A".repeat(32),
      token.toLowerCase(),
      `${token}/`,
      `${token}%00`,
      `%2e/${token}=`,
    ]) {
      const answer = await fetch(`${port.url}/media/${tried}`);
      expect(await errorOf(answer)).toMatchObject({ status: 404, code: "not_found" });
    }
    expect(graph.requests).toEqual([]);
  });

  test("from its last moment on", async () => {
    addFile();
    clock.at = new Date(file.expiresAt.getTime() - 1);
    expect((await get()).status).toBe(200);
    clock.at = file.expiresAt;
    expect(await errorOf(await get())).toEqual({
      status: 410,
      code: "not_found",
      message: "This media link ran out at 2026-03-12T12:00:00.000Z: links are good for 7 days.",
    });
  });

  test("if the client has no access token, with the fix and no names", async () => {
    linked = { ...file, accessToken: null };
    const answer = await errorOf(await get());
    expect(answer).toMatchObject({ status: 502, code: "unavailable" });
    expect(answer.message).toMatch(/UpdateClient with access_token/);
    expect(answer.message).not.toContain("shop");
  });

  test("if too many links are looked up at once, before the database is asked", async () => {
    const found = Promise.withResolvers<null>();
    let askedCount = 0;
    const busy = await listenWithRoutes({
      findLinkedMedia: () => {
        askedCount += 1;
        return found.promise;
      },
    });
    const ask = () => fetch(`${busy.url}/media/${"A".repeat(32)}`);
    const waiting = Array.from({ length: 10 }, ask);
    await waitFor(
      "ten look-ups",
      () => askedCount,
      (count) => count === 10,
    );
    expect(await errorOf(await ask())).toMatchObject({ status: 503, code: "unavailable" });
    expect(askedCount).toBe(10);
    found.resolve(null);
    for (const answer of await Promise.all(waiting)) expect(answer.status).toBe(404);
    expect((await ask()).status).toBe(404);
  });

  test("if the database is away", async () => {
    const broken = await listenWithRoutes({
      findLinkedMedia: () => Promise.reject(Object.assign(new Error("connect"), { code: "ECONNREFUSED" })),
    });
    expect(await errorOf(await fetch(`${broken.url}${link.url}`))).toMatchObject({ status: 503 });
  });

  test("in any other way than GET and HEAD", async () => {
    const answer = await get({}, "POST");
    expect(answer.status).toBe(405);
    expect(answer.headers.get("allow")).toBe("GET, HEAD");
  });

  test.each<[string, () => void]>([
    [
      "refuses the token",
      () => graph.answerWith({ status: 401, body: { error: { code: 190, message: accessToken } } }),
    ],
    ["has the file no more", () => graph.media.serve({ status: 404, body: graph.url })],
    [
      "sends on to another host",
      () => graph.media.serve({ status: 302, headers: { Location: "http://127.0.0.1:9/" } }),
    ],
    ["is away", () => graph.answerWith("reset")],
  ])("if WhatsApp %s, without its words", async (_what, prepare) => {
    addFile();
    prepare();
    const answer = await get();
    const text = await answer.text();
    expect(answer.status).toBe(502);
    expect(JSON.parse(text)).toEqual({ code: "unavailable", message: expect.stringMatching(/WhatsApp/) });
    for (const secret of [accessToken, graph.url]) {
      expect(`${text} ${JSON.stringify([...answer.headers])}`).not.toContain(secret);
    }
    expect(JSON.stringify(port.logLines)).not.toContain(accessToken);
  });

  test("if too many are read at once", async () => {
    addFile();
    graph.media.serve("hang");
    const waiting = Array.from({ length: 10 }, () => get().catch(() => null));
    await waitFor(
      "ten downloads",
      () => graph.media.downloads.length,
      (count) => count === 10,
    );
    const answer = await get();
    expect(answer.status).toBe(503);
    expect(answer.headers.get("retry-after")).toBe("2");
    // They end, and make room.
    await Promise.all(waiting);
    graph.media.serve("as_asked");
    expect((await get()).status).toBe(200);
  });
});

test("no log line tells a link", async () => {
  addFile();
  await get();
  graph.media.serve({ status: 404 });
  await get();
  await waitFor(
    "both lines",
    () => port.logLines.filter(({ path }) => path === "/media/").length,
    (count) => count === 2,
  );
  expect(JSON.stringify(port.logLines)).not.toContain(link.url.slice("/media/".length));
});

test("the log names the client whose token WhatsApp refuses", async () => {
  addFile();
  graph.answerWith({ status: 401, body: { error: { code: 190 } } });
  await get();
  expect(port.logLines).toContainEqual(
    expect.objectContaining({ kind: "token_refused", clientRef: "shop", phoneNumberId: "6201" }),
  );
});

test("a file that is not the one that Graph promised is never taken for whole", async () => {
  const bytes = randomBytes(200_000);
  const other = hash("sha256", "another file", "hex");
  graph.media.add(file.mediaId, {
    bytes,
    mimeType: "image/png",
    phoneNumberId: "6201",
    accessToken,
    facts: { sha256: other },
  });
  const answer = await get();
  expect(answer.headers.get("content-length")).toBe("200000");
  await expect(answer.arrayBuffer()).rejects.toThrow();
  const line = await waitFor(
    "line in the log",
    () => port.logLines.find(({ kind }) => kind === "altered"),
    (found) => found !== undefined,
  );
  expect(line).toMatchObject({ clientRef: "shop" });
});

test.each(["short", "endless"] as const)("a file that comes %s is never taken for whole", async (how) => {
  addFile("video/mp4", Buffer.alloc(200_000));
  if (how === "endless") {
    await source.close();
    source = createMediaSource(
      {
        url: graph.url,
        version: "v23.0",
        timeoutMs: 1_000,
        responseBytesMax: 65_536,
        caPem: null,
        egressProxy: null,
      },
      { fileBytesMax: 1_000_000, locationKeptMs: 1, failureKeptMs: 1, idleTimeoutMs: 1_000 },
      { now: () => clock.at, sleep: () => Promise.resolve() },
    );
    port = await listenWithRoutes({
      findLinkedMedia: async () => linked,
      mediaSource: source,
      clock: { now: () => clock.at, sleep: () => Promise.resolve() },
    });
  }
  graph.media.serve(how);
  const answer = await get();
  expect(answer.status).toBe(200);
  await expect(answer.arrayBuffer()).rejects.toThrow();
});

test("a reader that goes away ends the request to WhatsApp's host, and one that is slow holds it back", async () => {
  addFile();
  graph.media.serve("endless");
  const reader = connectRaw(port.port);
  reader.socket.write(`GET ${link.url} HTTP/1.1\r\nHost: x\r\n\r\n`);
  await waitFor(
    "the first bytes",
    () => reader.text().length,
    (length) => length > 0,
  );
  reader.socket.pause();
  let before = -1;
  // What is on its way fills buffers and sockets, and then no more is taken.
  await waitFor(
    "standstill",
    () => {
      const isStill = graph.media.bytesWritten() === before;
      before = graph.media.bytesWritten();
      return new Promise<boolean>((resolve) => setTimeout(resolve, 100, isStill));
    },
    (isStill) => isStill,
  );
  expect(before).toBeLessThan(20_000_000);
  reader.socket.destroy();
  expect(await graph.media.downloads[0]!.ended).toBe(false);
});
