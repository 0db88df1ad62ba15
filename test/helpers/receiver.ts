/** A real HTTP endpoint for tests: keeps every request as it came, and answers from a script. */

import { once } from "node:events";
import http from "node:http";
import https from "node:https";
import type { AddressInfo, Socket } from "node:net";

export interface ReceivedRequest {
  method: string;
  path: string;
  headers: http.IncomingHttpHeaders;
  /** Names and values in turn, spelled as they came. */
  rawHeaders: string[];
  body: Buffer;
  receivedAt: Date;
  /** Counts connections from 1, those whose TLS handshake failed left out. */
  connectionNumber: number;
}

export type Answer =
  /** A whole answer, after `delayMs`. Default: 200, no body. */
  | {
      kind?: "whole";
      status?: number;
      headers?: Record<string, string | string[]>;
      body?: string | Uint8Array;
      delayMs?: number;
    }
  /** Takes the request and never answers. */
  | { kind: "hang" }
  /** Drops the connection without an answer: `close` in order, `reset` by TCP reset. */
  | { kind: "close" | "reset" }
  /** The head at once, then a byte of the body every `everyMs`, for ever. */
  | { kind: "drip"; status?: number; everyMs: number }
  /** The head, then body as fast as it is taken, for ever. */
  | { kind: "endless"; status?: number }
  /** Exactly these bytes on the socket, which then stays open, or closes. */
  | { kind: "raw"; bytes: string; thenClose?: boolean };

export interface ReceiverOptions {
  /** One answer for all, or one for each request (`number` counts from 1). Default: 200. */
  answer?: Answer | ((request: ReceivedRequest, number: number) => Answer);
  /** Serves https with it. */
  certificate?: { key: string; cert: string };
  host?: string;
  /** How long an idle connection is kept, in milliseconds. Default: Node's. */
  keepAliveTimeoutMs?: number;
}

export interface Receiver {
  /** `http://127.0.0.1:<port>/hook` */
  url: string;
  port: number;
  requests: ReceivedRequest[];
  /** TCP connections taken so far. */
  connectionCount(): number;
  /** Body bytes that `endless` and `drip` wrote so far. */
  bytesWritten(): number;
  openConnectionCount(): number;
  /** Settles with the requests once there are `count`; after `boundMs` it rejects and says what it saw. */
  waitForRequests(count: number, boundMs?: number): Promise<ReceivedRequest[]>;
  /** Closes all connections that wait for a request. */
  closeIdleConnections(): void;
  close(): Promise<void>;
}

export async function startReceiver(options: ReceiverOptions = {}): Promise<Receiver> {
  const { answer = {}, certificate, host = "127.0.0.1" } = options;
  const requests: ReceivedRequest[] = [];
  const waiting = new Set<() => void>();
  const sockets = new Set<Socket>();
  const numberBySocket = new WeakMap<Socket, number>();
  let connectionCount = 0;
  let bytesWritten = 0;

  const server = certificate ? https.createServer(certificate) : http.createServer();
  if (options.keepAliveTimeoutMs !== undefined) server.keepAliveTimeout = options.keepAliveTimeoutMs;
  server.on("connection", (socket: Socket) => {
    connectionCount++;
    sockets.add(socket);
    socket.on("error", () => {});
    socket.once("close", () => sockets.delete(socket));
  });
  let servedCount = 0;
  server.on(certificate ? "secureConnection" : "connection", (socket: Socket) => {
    servedCount++;
    numberBySocket.set(socket, servedCount);
  });
  server.on("request", async (incoming: http.IncomingMessage, outgoing: http.ServerResponse) => {
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of incoming) chunks.push(chunk);
    } catch {
      return;
    }
    const request: ReceivedRequest = {
      method: incoming.method!,
      path: incoming.url!,
      headers: incoming.headers,
      rawHeaders: incoming.rawHeaders,
      body: Buffer.concat(chunks),
      receivedAt: new Date(),
      connectionNumber: numberBySocket.get(incoming.socket)!,
    };
    const number = requests.push(request);
    for (const check of waiting) check();
    give(typeof answer === "function" ? answer(request, number) : answer, outgoing);
  });

  function give(wanted: Answer, outgoing: http.ServerResponse): void {
    const socket = outgoing.socket!;
    const write = (bytes: string) => {
      bytesWritten += bytes.length;
      return outgoing.write(bytes);
    };
    switch (wanted.kind) {
      case "hang":
        return;
      case "close":
        socket.destroy();
        return;
      case "reset":
        socket.resetAndDestroy();
        return;
      case "raw":
        if (wanted.thenClose) socket.end(wanted.bytes);
        else socket.write(wanted.bytes);
        return;
      case "drip": {
        outgoing.writeHead(wanted.status ?? 200);
        outgoing.flushHeaders();
        const timer = setInterval(() => write("x"), wanted.everyMs);
        outgoing.once("close", () => clearInterval(timer));
        return;
      }
      case "endless": {
        outgoing.writeHead(wanted.status ?? 200);
        const piece = "x".repeat(64 * 1024);
        const fill = () => {
          while (!outgoing.destroyed && write(piece));
        };
        outgoing.on("drain", fill);
        fill();
        return;
      }
      default: {
        const end = () => {
          outgoing.writeHead(wanted.status ?? 200, wanted.headers);
          outgoing.end(wanted.body);
        };
        if (wanted.delayMs) setTimeout(end, wanted.delayMs);
        else end();
      }
    }
  }

  server.listen(0, host);
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const scheme = certificate ? "https" : "http";

  return {
    url: `${scheme}://${host.includes(":") ? `[${host}]` : host}:${port}/hook`,
    port,
    requests,
    connectionCount: () => connectionCount,
    bytesWritten: () => bytesWritten,
    openConnectionCount: () => sockets.size,
    waitForRequests(count, boundMs = 5_000) {
      return new Promise((resolve, reject) => {
        const check = () => {
          if (requests.length < count) return;
          finish();
          resolve(requests);
        };
        const finish = () => {
          clearTimeout(timer);
          waiting.delete(check);
        };
        const timer = setTimeout(() => {
          finish();
          const seen = requests.map(
            ({ method, path, headers }) => `${method} ${path} ${headers["webhook-id"]}`,
          );
          reject(
            new Error(`${requests.length} of ${count} requests within ${boundMs} ms: ${seen.join("; ")}`),
          );
        }, boundMs);
        waiting.add(check);
        check();
      });
    },
    closeIdleConnections: () => server.closeIdleConnections(),
    async close() {
      const closed = once(server, "close");
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}
