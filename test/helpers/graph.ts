/** A stand-in for WhatsApp's Graph API: a real server on a free port that answers from what a test told it. */

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { createGraphMedia, type GraphMedia } from "./graph-media.ts";
import { createGraphMessages, type GraphMessages } from "./graph-messages.ts";

export interface GraphRequest {
  method: string;
  /** Path without the version, such as `/620000000000001`. */
  path: string;
  version: string;
  query: URLSearchParams;
  /** What came behind `Bearer`. */
  accessToken: string | null;
}

export type GraphAnswer =
  | { status: number; body?: unknown; headers?: Record<string, string> }
  /** Takes the request and never answers. */
  | "hang"
  /** Drops the connection. */
  | "reset";

export interface TestGraph {
  url: string;
  requests: GraphRequest[];
  /** Files, looked up by their ids. */
  media: GraphMedia;
  /** Messages that were sent. */
  messages: GraphMessages;
  /** Makes a number known under an access token. */
  addNumber(phoneNumberId: string, accessToken: string, displayPhoneNumber?: string): void;
  /** Answers every request like this from now on; null = by its own rules again. */
  answerWith(answer: GraphAnswer | ((request: GraphRequest) => GraphAnswer) | null): void;
  close(): Promise<void>;
}

/** @param tls  key and certificate in PEM: it then speaks https */
export async function openTestGraph(tls: { key: string; cert: string } | null = null): Promise<TestGraph> {
  const numbers = new Map<string, { accessToken: string; displayPhoneNumber: string }>();
  const requests: GraphRequest[] = [];
  const messages = createGraphMessages();
  const isTokenKnown = (token: string | null) =>
    [...numbers.values()].some(({ accessToken }) => accessToken === token);
  const files = createGraphMedia(isTokenKnown);
  let url = "";
  let script: ((request: GraphRequest) => GraphAnswer) | null = null;

  function judge(request: GraphRequest): GraphAnswer {
    const id = request.path.slice(1);
    const number = numbers.get(id);
    const found = files.lookUp(request, url);
    if (found !== undefined) return found;
    if (!isTokenKnown(request.accessToken))
      return graphError(401, 190, `Invalid OAuth access token ${request.accessToken}`);
    if (number?.accessToken !== request.accessToken) {
      return graphError(400, 100, `Unsupported get request. Object with ID '${id}' does not exist`);
    }
    return { status: 200, body: { id, display_phone_number: number.displayPhoneNumber } };
  }

  function receive(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? "/", "http://graph");
    const [, version = "", ...rest] = url.pathname.split("/");
    const received: GraphRequest = {
      method: request.method ?? "",
      path: `/${rest.map(decodeURIComponent).join("/")}`,
      version,
      query: url.searchParams,
      accessToken: /^Bearer (.+)$/.exec(request.headers.authorization ?? "")?.[1] ?? null,
    };
    requests.push(received);
    if (messages.serve(received, request, response)) return;
    if (script === null && files.serve(received, request, response)) return;
    const answer = (script ?? judge)(received);
    if (answer === "hang") return;
    if (answer === "reset") {
      request.socket.destroy();
      return;
    }
    const isText = typeof answer.body === "string";
    response.writeHead(answer.status, { "Content-Type": "application/json", ...answer.headers });
    response.end(isText ? (answer.body as string) : JSON.stringify(answer.body ?? {}));
  }

  const server = tls === null ? createServer(receive) : createTlsServer(tls, receive);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  url = `${tls === null ? "http" : "https"}://127.0.0.1:${port}`;
  return {
    url,
    requests,
    messages,
    media: files.media,
    addNumber(phoneNumberId, accessToken, displayPhoneNumber = "+1 555-777-0100") {
      numbers.set(phoneNumberId, { accessToken, displayPhoneNumber });
    },
    answerWith(answer) {
      script = answer === null || typeof answer === "function" ? answer : () => answer;
    },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** An error as Graph writes it. Its words may repeat what was sent. */
export function graphError(status: number, code: number, message: string): GraphAnswer {
  return { status, body: { error: { message, type: "OAuthException", code, fbtrace_id: "trace" } } };
}
