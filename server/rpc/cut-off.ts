/** Breaks the connection of a call whose answer nobody takes: the only thing that can still be told to such a caller. */

import type { IncomingMessage } from "node:http";
import { constants, type Http2ServerRequest } from "node:http2";
import {
  type ContextValues,
  createContextKey,
  createContextValues,
  type HandlerContext,
} from "@connectrpc/connect";

const cutOffKey = createContextKey<() => void>(() => undefined, { description: "breaks the connection" });

/** For `contextValues` of the adapter: what `cutOffOf` gives to handlers. */
export function withCutOff(request: IncomingMessage | Http2ServerRequest): ContextValues {
  return createContextValues().set(cutOffKey, () => {
    // Of an HTTP/2 connection the other calls go on.
    if ("stream" in request) request.stream.close(constants.NGHTTP2_CANCEL);
    else request.socket.destroy();
  });
}

/** May be called at any time; does nothing for a call that has ended. */
export function cutOffOf(context: HandlerContext): () => void {
  return context.values.get(cutOffKey);
}
