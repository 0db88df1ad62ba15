/** Writing a file to its reader, no faster than it is read and with no more memory than what is on its way. */

import { constants } from "node:http2";
import type { HttpResponse } from "./message.ts";

/**
 * Gives back the memory of bytes that are on their way, now instead of at the next garbage collection, which for so few
 * objects comes late: a file would cost its whole length. Only memory that holds nothing else is given back; of a chunk
 * that has its buffer to itself nobody else has a view once it is written.
 */
export function release({ buffer, byteLength }: Uint8Array): void {
  if (buffer instanceof ArrayBuffer && byteLength === buffer.byteLength) buffer.transfer(0);
}

/** The reader took nothing for too long, or the time for the whole stream ran out. */
export class SlowReader extends Error {}

/**
 * Settles when the reader has taken what was written.
 *
 * @throws SlowReader after `idleTimeoutMs` in which it took nothing, or when the signal aborts
 */
export function drained(response: HttpResponse, signal: AbortSignal, idleTimeoutMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (error: Error | null) => {
      clearTimeout(timer);
      response.off("drain", drain);
      signal.removeEventListener("abort", abort);
      if (error === null) resolve();
      else reject(error);
    };
    const drain = () => settle(null);
    const abort = () => settle(new SlowReader("the stream was ended"));
    const timer = setTimeout(() => settle(new SlowReader("the reader takes nothing")), idleTimeoutMs);
    response.on("drain", drain);
    signal.addEventListener("abort", abort);
    if (signal.aborted) abort();
  });
}

/** Ends an answer so that nobody takes what came of it for the whole. */
export function breakOff(response: HttpResponse): void {
  if ("stream" in response) response.stream?.close(constants.NGHTTP2_INTERNAL_ERROR);
  else response.destroy();
}
