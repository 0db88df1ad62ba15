/** The files of the stand-in for WhatsApp's Graph API: looked up by id, then fetched from a URL of their own. */

import { hash } from "node:crypto";
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from "node:http";

export interface GraphFile {
  bytes: Uint8Array;
  mimeType: string;
  phoneNumberId: string;
  accessToken: string;
  /** What the look-up answers beside or instead of the usual. */
  facts?: Record<string, unknown>;
}

/** How files are served. */
export type Serving =
  /** As WhatsApp does: 200, or 206 and 416 for one range. */
  | "as_asked"
  /** Always all of it. */
  | "without_ranges"
  /** The head, and half of the bytes that it promises; then the connection ends. */
  | "short"
  /** The head and half of the bytes, then silence. */
  | "stalled"
  /** No length, and no end. */
  | "endless"
  /** Takes the request and never answers. */
  | "hang"
  | { status: number; headers?: Record<string, string>; body?: string };

export interface Download {
  headers: IncomingHttpHeaders;
  /** Settles when the connection or the answer has ended; true = all of it was sent. */
  ended: Promise<boolean>;
}

export interface GraphMedia {
  add(mediaId: string, file: GraphFile): void;
  /** From now on, until told otherwise. */
  serve(how: Serving): void;
  /** URLs given so far answer 404 from now on. */
  expireUrls(): void;
  /** Ids that were looked up, in order. */
  lookups: string[];
  downloads: Download[];
  /** Bytes of files handed to sockets so far. */
  bytesWritten(): number;
}

interface Asked {
  path: string;
  version: string;
  query: URLSearchParams;
  accessToken: string | null;
}

/** @param isTokenKnown  tells a wrong token from one that may not see this file */
export function createGraphMedia(isTokenKnown: (token: string | null) => boolean) {
  const files = new Map<string, GraphFile>();
  let serving: Serving = "as_asked";
  let generation = 1;
  let bytesWritten = 0;
  const lookups: string[] = [];
  const downloads: Download[] = [];

  function lookUp(mediaId: string, file: GraphFile, asked: Asked, baseUrl: string) {
    lookups.push(mediaId);
    if (file.accessToken !== asked.accessToken) {
      return isTokenKnown(asked.accessToken) ? refuse(400, 100) : refuse(401, 190);
    }
    const numberId = asked.query.get("phone_number_id");
    if (numberId !== null && numberId !== file.phoneNumberId) return refuse(400, 100);
    const body = {
      messaging_product: "whatsapp",
      url: `${baseUrl}/whatsapp_business/attachments/?mid=${mediaId}&generation=${generation}`,
      mime_type: file.mimeType,
      sha256: hash("sha256", file.bytes, "hex"),
      file_size: String(file.bytes.byteLength),
      id: mediaId,
      ...file.facts,
    };
    return { status: 200, body };
  }

  async function download(asked: Asked, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const ended = new Promise<boolean>((resolve) => {
      response.once("close", () => resolve(response.writableFinished));
    });
    downloads.push({ headers: request.headers, ended });
    const file = files.get(asked.query.get("mid") ?? "");
    if (serving === "hang") return;
    if (typeof serving === "object") {
      response.writeHead(serving.status, serving.headers).end(serving.body);
      return;
    }
    // The real host answers without a token with a page that says nothing.
    if (file === undefined || file.accessToken !== asked.accessToken)
      return void response.writeHead(401).end();
    if (asked.query.get("generation") !== String(generation)) return void response.writeHead(404).end();
    const head = { "Content-Type": file.mimeType, "Accept-Ranges": "bytes" };
    const length = file.bytes.byteLength;
    if (serving === "endless") {
      response.writeHead(200, head);
      const chunk = Buffer.alloc(64 * 1024, "x");
      while (await write(response, chunk));
      return;
    }
    if (serving === "short" || serving === "stalled") {
      response.writeHead(200, { ...head, "Content-Length": length });
      await write(response, file.bytes.subarray(0, length / 2));
      if (serving === "short") response.destroy();
      return;
    }
    const range = serving === "as_asked" ? readRange(request.headers.range, length) : null;
    if (range === "unsatisfiable") {
      return void response.writeHead(416, { "Content-Range": `bytes */${length}` }).end();
    }
    const [from, to] = range ?? [0, length];
    const partial = range === null ? {} : { "Content-Range": `bytes ${from}-${to - 1}/${length}` };
    response.writeHead(range === null ? 200 : 206, { ...head, ...partial, "Content-Length": to - from });
    for (let at = from; at < to; at += 64 * 1024) {
      if (!(await write(response, file.bytes.subarray(at, Math.min(to, at + 64 * 1024))))) return;
    }
    response.end();
  }

  /** False once the reader has gone. */
  function write(response: ServerResponse, bytes: Uint8Array): Promise<boolean> {
    bytesWritten += bytes.byteLength;
    return new Promise((resolve) => {
      const onClose = () => resolve(false);
      response.once("close", onClose);
      response.write(bytes, (error) => {
        response.off("close", onClose);
        resolve(!error && !response.destroyed && response.socket?.destroyed === false);
      });
    });
  }

  const media: GraphMedia = {
    add: (mediaId, file) => void files.set(mediaId, file),
    serve(how) {
      serving = how;
    },
    expireUrls() {
      generation++;
    },
    lookups,
    downloads,
    bytesWritten: () => bytesWritten,
  };
  return {
    media,
    /** The answer of a look-up; undefined if the request is none. */
    lookUp(asked: Asked, baseUrl: string) {
      const mediaId = asked.path.slice(1);
      const file = files.get(mediaId);
      return file && lookUp(mediaId, file, asked, baseUrl);
    },
    /** Serves a file; false if the request is for none. */
    serve(asked: Asked, request: IncomingMessage, response: ServerResponse): boolean {
      if (asked.version !== "whatsapp_business") return false;
      void download(asked, request, response);
      return true;
    },
  };
}

function refuse(status: number, code: number) {
  const message = "Its words may repeat what was sent";
  return { status, body: { error: { message, type: "OAuthException", code, fbtrace_id: "trace" } } };
}

/** From, and the place after the last byte; null for all of it. */
function readRange(header: string | undefined, length: number): [number, number] | "unsatisfiable" | null {
  const [, first = "", last = ""] = /^bytes=(\d*)-(\d*)$/.exec(header ?? "") ?? [];
  if (first === "" && last === "") return null;
  if (first === "") return [Math.max(0, length - Number(last)), length];
  const to = last === "" ? length : Math.min(length, Number(last) + 1);
  return Number(first) < to ? [Number(first), to] : "unsatisfiable";
}
