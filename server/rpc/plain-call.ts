/**
 * One rpc behind a plain route: the same gate, rules and handler as over Connect, with the same statuses, since it is
 * Connect's own handler that is called. The route takes more (any content type, unknown fields) and gives less.
 */

import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import type { Http2ServerResponse } from "node:http2";
import type { DescMethod } from "@bufbuild/protobuf";
import { type ConnectRouter, createConnectRouter } from "@connectrpc/connect";
import {
  compressionBrotli,
  compressionGzip,
  universalRequestFromNodeRequest,
} from "@connectrpc/connect-node";
import type { Logger } from "pino";
import { MessageService } from "../../gen/posthorn/v1/message_service_pb.ts";
import { WebhookService } from "../../gen/posthorn/v1/webhook_service_pb.ts";
import { toConnectError } from "./errors.ts";
import { addServices, handlerOptions, type RpcParts } from "./router.ts";

type NodeRequest = Parameters<typeof universalRequestFromNodeRequest>[0];
type NodeResponse = ServerResponse | Http2ServerResponse;

export interface PlainAnswer {
  status: number;
  /** What the call says of itself, such as how much of the rate limit is left. */
  headers: Map<string, string>;
  /** The response message; on any status but 200 `{"code","message"}` and more. */
  body: Record<string, unknown>;
}

/**
 * Makes one call of a request whose path is not the rpc's.
 *
 * @param readBody  called once the caller is known; what it throws is answered as any error of the call is
 */
export type PlainCall = (
  request: NodeRequest,
  response: NodeResponse,
  readBody: () => Promise<Uint8Array>,
) => Promise<PlainAnswer>;

/** The calls that have a plain route. */
export function createPlainCalls(parts: RpcParts): { createWebhook: PlainCall; sendMessage: PlainCall } {
  const options = handlerOptions(parts);
  const router = createConnectRouter({
    ...options,
    grpc: false,
    grpcWeb: false,
    acceptCompression: [compressionGzip, compressionBrotli],
    jsonOptions: { ...options.jsonOptions, ignoreUnknownFields: true },
  });
  addServices(parts)(router);
  return {
    createWebhook: createPlainCall(WebhookService.method.createWebhook, router, parts.log),
    sendMessage: createPlainCall(MessageService.method.sendMessage, router, parts.log),
  };
}

function createPlainCall(method: DescMethod, router: ConnectRouter, log: Logger): PlainCall {
  const handler = router.handlers.find((candidate) => candidate.method === method);
  assert(handler !== undefined, `${method} is served`);

  return async (request, response, readBody) => {
    const call = universalRequestFromNodeRequest(request, response, undefined, undefined);
    call.header.set("Content-Type", "application/json");
    // Both would concern the bytes that this process reads itself.
    call.header.delete("Content-Length");
    call.header.delete("Accept-Encoding");
    const answer = await handler({ ...call, body: bodyOf(readBody, method, log) });
    const chunks: Uint8Array[] = [];
    for await (const chunk of answer.body ?? []) chunks.push(chunk);
    const headers = new Map(answer.header);
    headers.delete("content-type");
    headers.delete("content-length");
    return { status: answer.status, headers, body: JSON.parse(Buffer.concat(chunks).toString("utf8")) };
  };
}

async function* bodyOf(
  readBody: () => Promise<Uint8Array>,
  method: DescMethod,
  log: Logger,
): AsyncIterable<Uint8Array> {
  try {
    yield await readBody();
  } catch (error) {
    throw toConnectError(error, method.input, log);
  }
}
