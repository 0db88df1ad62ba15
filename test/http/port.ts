/** A listening port with our routes, and in-test parts behind it that record what they are given. */

import type { AddressInfo } from "node:net";
import { connect, type Socket } from "node:net";
import type { Level } from "pino";
import { afterEach, vi } from "vitest";
import { systemClock } from "../../server/clock.ts";
import type { IncomingEvent } from "../../server/domain/event.ts";
import type { IntakeSettings } from "../../server/http/intake.ts";
import { createListener, type Listener, type ListenerLimits } from "../../server/http/listener.ts";
import type { HttpHandler } from "../../server/http/message.ts";
import { createRoutes, type RouteParts } from "../../server/http/routes.ts";
import { createLogger } from "../../server/log.ts";

/** The key of the field guide's test vectors, and a body with its signature by that key. */
export const appSecret = "test_app_secret";

export const roomyLimits: ListenerLimits = {
  socketsMax: 200,
  sessionsMax: 50,
  streamsPerSessionMax: 100,
  headerBytesMax: 16_384,
  sniffTimeoutMs: 5_000,
  headersTimeoutMs: 5_000,
  requestTimeoutMs: 10_000,
  timeoutCheckMs: 50,
  keepAliveMs: 5_000,
  sessionIdleMs: 5_000,
};

const openListeners: Listener[] = [];
const openSockets: Socket[] = [];

afterEach(async () => {
  for (const socket of openSockets.splice(0)) socket.destroy();
  await Promise.all(openListeners.splice(0).map((listener) => listener.close(0)));
});

export interface Port {
  url: string;
  port: number;
  listener: Listener;
}

export async function listenWith(
  handler: HttpHandler,
  limits: Partial<ListenerLimits> = {},
  tls: { cert: string; key: string } | null = null,
): Promise<Port> {
  const listener = createListener(handler, {
    host: "127.0.0.1",
    port: 0,
    tls,
    limits: { ...roomyLimits, ...limits },
  });
  openListeners.push(listener);
  const address: AddressInfo = await listener.listen();
  return { url: `http://127.0.0.1:${address.port}`, port: address.port, listener };
}

export interface RoutesPort extends Port {
  published: { events: IncomingEvent[]; scope: unknown }[];
  kept: { rawBody: Buffer; reason: string }[];
  logLines: Record<string, unknown>[];
}

export async function listenWithRoutes(
  parts: Partial<RouteParts> = {},
  settings: Partial<IntakeSettings> = {},
  logLevel: Level = "debug",
): Promise<RoutesPort> {
  const published: RoutesPort["published"] = [];
  const kept: RoutesPort["kept"] = [];
  const logLines: RoutesPort["logLines"] = [];
  const handler = createRoutes(
    {
      publish: async (events, scope) => {
        published.push({ events, scope });
        return events.map(() => ({}));
      },
      hasClientSecrets: () => false,
      findClientSecrets: () => [],
      keepMalformed: async (rawBody, reason) => {
        kept.push({ rawBody: Buffer.from(rawBody), reason });
      },
      isReady: async () => ({ ready: true, reasons: [] }),
      rpcHandler: (_request, response) => {
        response.end("rpc");
      },
      createWebhook: async () => ({ status: 200, headers: new Map(), body: {} }),
      sendMessage: async () => ({ status: 200, headers: new Map(), body: {} }),
      findLinkedMedia: async () => null,
      mediaSource: {
        look: () => Promise.reject(new Error("there are no files here")),
        open: () => Promise.reject(new Error("there are no files here")),
      },
      clock: systemClock,
      log: createLogger(logLevel, { write: (line) => void logLines.push(JSON.parse(line)) }),
      ...parts,
    },
    {
      mode: "production",
      appSecrets: [appSecret],
      verifyToken: "the-token",
      bodyBytesMax: 4 * 1024 * 1024,
      bodyDeadlineMs: 5_000,
      heldBytesMax: 64 * 1024 * 1024,
      ...settings,
    },
    {
      idleTimeoutMs: 5_000,
      streamTimeoutMs: 10_000,
      streamsMax: 10,
      streamsPerClientMax: 10,
      linksSoughtMax: 10,
    },
  );
  return { ...(await listenWith(handler)), published, kept, logLines };
}

/** A raw connection, and all that comes back on it. */
export interface RawConnection {
  socket: Socket;
  /** Everything received so far. */
  text(): string;
  /** Settles when the server has closed; with what came until then. */
  closed: Promise<string>;
}

export function connectRaw(port: number): RawConnection {
  const socket = connect(port, "127.0.0.1");
  openSockets.push(socket);
  let received = "";
  socket.setEncoding("latin1");
  socket.on("data", (text) => {
    received += text;
  });
  socket.on("error", () => undefined);
  const closed = new Promise<string>((resolve) => socket.once("close", () => resolve(received)));
  return { socket, text: () => received, closed };
}

/** Waits until `read` gives something else than undefined or false. */
export function eventually<T>(read: () => T | undefined | false): Promise<T> {
  return vi.waitUntil(read, { timeout: 5_000, interval: 10 }) as Promise<T>;
}
