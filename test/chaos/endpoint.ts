/** Endpoints that answer as a healthy one does, sooner or later. Those that misbehave are `helpers/receiver.ts`. */

import { once } from "node:events";
import http from "node:http";
import type { AddressInfo } from "node:net";
import type { Ledger } from "./ledger.ts";

export interface Endpoint {
  /** Of the endpoint of this name; all share one port. */
  urlOf(name: string): string;
  close(): Promise<void>;
}

export interface EndpointAnswer {
  /** Default 200. */
  status?: number;
  /** Default 0. `null` = never. */
  delayMs?: number | null;
}

/** How the endpoint of this name answers a request; `repeatNumber` counts those of one delivery from 1. */
export type AnswerOf = (name: string, repeatNumber: number) => EndpointAnswer;

/** @param answerOf  default: 200 at once */
export async function startEndpoint(ledger: Ledger, answerOf: AnswerOf = () => ({})): Promise<Endpoint> {
  const server = http.createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("error", () => undefined);
    request.on("end", () => {
      const name = request.url!.slice(1);
      const id = String(request.headers["webhook-id"]);
      const repeatNumber = (ledger.arrivalsAt(name).get(id)?.count ?? 0) + 1;
      const { status = 200, delayMs = 0 } = answerOf(name, repeatNumber);
      const isTaken = delayMs !== null && status >= 200 && status <= 299;
      ledger.noteArrival(name, id, Buffer.concat(chunks), isTaken);
      if (delayMs === null) return;
      const answer = () => {
        response.writeHead(status, { "Content-Length": "0" });
        response.end();
      };
      if (delayMs === 0) answer();
      else setTimeout(answer, delayMs);
    });
  });
  // Longer than any scenario: a connection that is closed under a request is a scenario of its own.
  server.keepAliveTimeout = 600_000;
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return {
    urlOf: (name) => `http://127.0.0.1:${port}/${name}`,
    async close() {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}
