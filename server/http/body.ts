/** Reading the raw body of a request: bounded in bytes, in time, and by a budget that all requests share. */

import type { ByteBudget } from "./byte-budget.ts";
import type { HttpRequest } from "./message.ts";

/**
 * Why there is no body: it is larger than allowed, it came too slowly, the shared budget is used up, or the sender
 * went away.
 */
export type BodyRefusal = "too_large" | "too_slow" | "overloaded" | "gone";

export interface BodyLimits {
  bytesMax: number;
  /** From now to the last byte. */
  deadlineMs: number;
}

/** True if the head already says that the body is larger than `bytesMax`. */
export function announcesMoreThan(request: HttpRequest, bytesMax: number): boolean {
  const length = request.headers["content-length"];
  return length !== undefined && Number(length) > bytesMax;
}

/**
 * Reads the body as it was sent. A body that came in one piece, as nearly all do, is not copied.
 * Never rejects; after a refusal nothing more is kept, and nothing is held of the budget.
 *
 * @returns the bytes, whose number the caller gives back to `budget`; or why there are none
 */
export function readBody(
  request: HttpRequest,
  limits: BodyLimits,
  budget: ByteBudget,
): Promise<Buffer | BodyRefusal> {
  return new Promise((resolve) => {
    let first: Buffer | null = null;
    let rest: Buffer[] | null = null;
    let byteCount = 0;
    // The listeners stay: taking them off costs more than what they do once all is decided, which is nothing.
    let isDecided = false;
    const timer = setTimeout(refuse, limits.deadlineMs, "too_slow");

    function keep(chunk: Buffer): void {
      if (isDecided) return;
      if (byteCount + chunk.length > limits.bytesMax) refuse("too_large");
      else if (!budget.take(chunk.length)) refuse("overloaded");
      else {
        byteCount += chunk.length;
        if (first === null) first = chunk;
        else if (rest === null) rest = [first, chunk];
        else rest.push(chunk);
      }
    }
    function finish(): void {
      if (isDecided) return;
      decide(rest === null ? (first ?? Buffer.alloc(0)) : Buffer.concat(rest, byteCount));
    }
    function refuse(reason: BodyRefusal): void {
      if (isDecided) return;
      budget.give(byteCount);
      decide(reason);
    }
    function leave(): void {
      refuse("gone");
    }
    function decide(outcome: Buffer | BodyRefusal): void {
      isDecided = true;
      clearTimeout(timer);
      first = null;
      rest = null;
      resolve(outcome);
    }
    request.on("data", keep);
    request.on("end", finish);
    request.on("close", leave);
    // An abort is told by `close`; without a listener its error would be thrown.
    request.on("error", ignore);
  });
}

function ignore(): void {}
