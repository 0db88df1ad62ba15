import type { DescMethod } from "@bufbuild/protobuf";
import { createConnectRouter } from "@connectrpc/connect";
import { addServices, type RpcParts } from "../../server/rpc/router.ts";

/** Every rpc that the router serves, so that a new service cannot be forgotten. */
export function servedMethods(): DescMethod[] {
  const router = createConnectRouter();
  addServices({ transformers: new Map() } as unknown as RpcParts)(router);
  return router.handlers.map((handler) => handler.method);
}
