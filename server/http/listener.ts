/**
 * The one port: HTTP/1.1, HTTP/2 in cleartext and, with a certificate, both over TLS.
 *
 *   socket ─► sniffer ─┬─ "PRI * HTTP/2.0…" ─► HTTP/2 server ─┐
 *                      ├─ TLS handshake ─► TLS ─ ALPN ─► one  ├─► handler
 *                      └─ anything else ─────► HTTP/1.1 server┘   of both
 *
 * Node's `allowHTTP1` works under TLS only, so connections are handed to servers that do not listen themselves. One
 * server a protocol means that each limit stands in one place, for cleartext and TLS alike.
 */

import http from "node:http";
import http2 from "node:http2";
import net, { type AddressInfo, type Socket } from "node:net";
import tls, { type TLSSocket } from "node:tls";
import type { HttpHandler } from "./message.ts";
import { sniffProtocol } from "./sniffer.ts";

export interface ListenerLimits {
  /** Connections open at once; further ones are closed as they come. */
  socketsMax: number;
  /** HTTP/2 sessions open at once. */
  sessionsMax: number;
  /** Requests at once in one HTTP/2 session. */
  streamsPerSessionMax: number;
  /** All header fields of a request together. */
  headerBytesMax: number;
  /** How long a connection may take to show its protocol, and a TLS handshake to finish. */
  sniffTimeoutMs: number;
  /** How long the head of an HTTP/1.1 request may take. */
  headersTimeoutMs: number;
  /** How long a whole HTTP/1.1 request may take to come in, body included. */
  requestTimeoutMs: number;
  /** How often the two time-outs above are checked. */
  timeoutCheckMs: number;
  /** How long an HTTP/1.1 connection stays open between requests. */
  keepAliveMs: number;
  /** After this silence an HTTP/2 session takes no new requests; those that run go on. */
  sessionIdleMs: number;
}

export interface ListenerOptions {
  host: string;
  /** 0 = any free port. */
  port: number;
  /** Certificate chain and key, PEM; null = no TLS. */
  tls: { cert: string; key: string } | null;
  limits: ListenerLimits;
}

export interface Listener {
  /**
   * Starts to accept connections.
   *
   * @returns the address and port in use
   * @throws Error saying what to change if the address cannot be listened on
   */
  listen(): Promise<AddressInfo>;
  /**
   * Accepts nothing new, lets requests in flight finish (HTTP/1.1 answers say `Connection: close`, HTTP/2 sessions get
   * GOAWAY), and after `graceMs` milliseconds destroys what is left. A second call waits for the first.
   */
  close(graceMs: number): Promise<void>;
}

/** How often connections that became idle while draining are closed. */
const drainCheckMs = 25;

/** @throws Error if certificate and key are not usable */
export function createListener(handler: HttpHandler, options: ListenerOptions): Listener {
  const { limits } = options;
  const sockets = new Set<Socket>();
  const sniffing = new Set<Socket>();
  const sessions = new Set<http2.ServerHttp2Session>();
  let isDraining = false;
  let closing: Promise<void> | null = null;

  /** Every way of writing a head ends in `writeHead`, so an answer that begins while draining ends its connection. */
  class DrainingResponse extends http.ServerResponse {
    // biome-ignore lint/suspicious/noExplicitAny: the arguments pass through whatever their overload is
    override writeHead(...args: any[]): this {
      if (isDraining) this.shouldKeepAlive = false;
      // @ts-expect-error: a rest argument fits no single overload
      return super.writeHead(...args);
    }
  }

  const http1Server = http.createServer(
    {
      ServerResponse: DrainingResponse,
      maxHeaderSize: limits.headerBytesMax,
      headersTimeout: limits.headersTimeoutMs,
      requestTimeout: limits.requestTimeoutMs,
      connectionsCheckingInterval: limits.timeoutCheckMs,
      keepAliveTimeout: limits.keepAliveMs,
    },
    handler,
  );
  // A server that never listens begins to check its time-outs at this event only.
  http1Server.emit("listening");

  const http2Server = http2.createServer(
    {
      settings: {
        maxConcurrentStreams: limits.streamsPerSessionMax,
        maxHeaderListSize: limits.headerBytesMax,
        enablePush: false,
      },
      unknownProtocolTimeout: limits.sniffTimeoutMs,
    },
    handler,
  );
  http2Server.on("session", (session) => {
    sessions.add(session);
    session.once("close", () => sessions.delete(session));
    session.setTimeout(limits.sessionIdleMs, () => session.close());
    if (isDraining) session.close();
  });

  const tlsServer = options.tls === null ? null : createTlsServer(options.tls, limits.sniffTimeoutMs);
  tlsServer?.on("secureConnection", (socket: TLSSocket) => {
    enter(socket, socket.alpnProtocol === "h2" ? "http2" : "http1");
  });

  /** Gives the connection to the server of its protocol. */
  function enter(socket: Socket, protocol: "http1" | "http2"): void {
    if (protocol === "http1") http1Server.emit("connection", socket);
    else if (sessions.size >= limits.sessionsMax) socket.destroy();
    else http2Server.emit("connection", socket);
  }

  const server = net.createServer(
    { noDelay: true, keepAlive: true, keepAliveInitialDelay: 60_000 },
    (socket) => {
      sockets.add(socket);
      sniffing.add(socket);
      socket.once("close", () => {
        sockets.delete(socket);
        sniffing.delete(socket);
      });
      // A reset is no news; without a listener it would end the process.
      socket.on("error", ignore);
      sniffProtocol(socket, limits.sniffTimeoutMs, (protocol) => {
        sniffing.delete(socket);
        if (protocol !== "tls") enter(socket, protocol);
        else if (tlsServer === null) socket.destroy();
        else tlsServer.emit("connection", socket);
      });
    },
  );
  server.maxConnections = limits.socketsMax;

  async function drain(graceMs: number): Promise<void> {
    isDraining = true;
    const closed = new Promise<void>((resolve) => {
      if (server.listening) server.close(() => resolve());
      else resolve();
    });
    for (const socket of sniffing) socket.destroy();
    for (const session of sessions) session.close();
    http1Server.closeIdleConnections();
    const idleTimer = setInterval(() => http1Server.closeIdleConnections(), drainCheckMs);
    const graceTimer = setTimeout(() => {
      for (const session of sessions) session.destroy();
      for (const socket of sockets) socket.destroy();
    }, graceMs);
    await closed;
    clearInterval(idleTimer);
    clearTimeout(graceTimer);
    // Ends its time-out checks.
    http1Server.close();
  }

  return {
    listen: () =>
      new Promise((resolve, reject) => {
        const fail = (cause: NodeJS.ErrnoException) => reject(explainListenError(cause, options));
        server.once("error", fail);
        server.listen({ host: options.host, port: options.port, backlog: 1_024 }, () => {
          server.off("error", fail);
          // Running out of file descriptors shows here; the connections that are open go on.
          server.on("error", ignore);
          resolve(server.address() as AddressInfo);
        });
      }),
    close(graceMs) {
      closing ??= drain(graceMs);
      return closing;
    },
  };
}

function createTlsServer(certificate: { cert: string; key: string }, handshakeTimeoutMs: number): tls.Server {
  const server = tls.createServer({
    ...certificate,
    ALPNProtocols: ["h2", "http/1.1"],
    minVersion: "TLSv1.2",
    handshakeTimeout: handshakeTimeoutMs,
  });
  server.on("secureConnection", (socket) => socket.on("error", ignore));
  server.on("tlsClientError", (_error, socket) => socket.destroy());
  return server;
}

function explainListenError(cause: NodeJS.ErrnoException, { host, port }: ListenerOptions): Error {
  const reasons: Record<string, string> = {
    EADDRINUSE: "another process listens there. Set PORT to another one (0 = any free port)",
    EACCES: "this user may not. Set PORT to 1024 or higher",
    EADDRNOTAVAIL: "this machine has no such address. Set POSTHORN_HOST to one of its own",
    ENOTFOUND: "there is no such host. Set POSTHORN_HOST to an address of this machine",
  };
  const reason = reasons[cause.code ?? ""] ?? cause.message;
  return new Error(`Cannot listen on ${host} port ${port}: ${reason}.`, { cause });
}

function ignore(): void {}
