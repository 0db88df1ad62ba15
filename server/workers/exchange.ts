/** One request and its answer, as undici tells about them: the bounds on time and size live here. */

import type { Socket } from "node:net";
import type { Dispatcher } from "undici";
import type { AttemptResponse } from "../domain/attempt.ts";
import { describeRequestError, type Failure, isClosedError } from "./error-kind.ts";
import type { AnswerBody } from "./replies.ts";

export type ExchangeResult =
  /** `body` is all that was read of it, if that was asked for. */
  | { kind: "answered"; response: AttemptResponse; body: AnswerBody | null }
  | { kind: "failed"; failure: Failure }
  /** A kept-alive connection was closed by the other side before it answered anything. */
  | { kind: "stale" };

export interface ExchangeLimits {
  /** When the whole must have ended, by `performance.now()`. */
  deadlineMs: number;
  /** For the message: the bound as the job says it. */
  timeoutMs: number;
  /** So much of the body is read. */
  responseBytesMax: number;
  /** True = give all that was read, not only what goes into the log. */
  isBodyWanted: boolean;
}

/** So much of the answer goes into the log. */
const keptBodyBytesMax = 8 * 1024;
const keptHeaderBytesMax = 16 * 1024;

/**
 * Settles once: with the answer as soon as its body has ended, is longer than the limit, breaks off or runs out of
 * time (the status decided already, so a cut body is no failure), or with what went wrong before the headers were
 * complete. A connection whose answer was not read to its end is dropped.
 */
export class Exchange implements Dispatcher.DispatchHandler {
  readonly result: Promise<ExchangeResult>;
  readonly #limits: ExchangeLimits;
  readonly #onStart: (exchange: Exchange) => void;
  readonly #timer: NodeJS.Timeout;
  #settle!: (result: ExchangeResult) => void;
  #isSettled = false;
  #controller: Dispatcher.DispatchController | null = null;
  #response: Pick<AttemptResponse, "status" | "headers"> | null = null;
  #chunks: Uint8Array[] = [];
  #bodyBytes = 0;
  #connection: { socket: Socket; isReused: boolean; bytesReadBefore: number } | null = null;

  /** @param onStart  called when the connection stands, right before the request's head is written to it */
  constructor(limits: ExchangeLimits, onStart: (exchange: Exchange) => void) {
    this.#limits = limits;
    this.#onStart = onStart;
    this.result = new Promise((resolve) => {
      this.#settle = resolve;
    });
    this.#timer = setTimeout(
      () => this.#runOutOfTime(),
      Math.max(0, Math.ceil(limits.deadlineMs - performance.now())),
    );
  }

  /** Told by `send.ts` when the request's head goes out. */
  noteConnection(socket: Socket, isReused: boolean): void {
    this.#connection = { socket, isReused, bytesReadBefore: socket.bytesRead };
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    // undici keeps a request that waits for its connection until that ends; nothing may be sent after the time-out.
    if (this.#isSettled) controller.abort(new Error("the attempt has ended"));
    else this.#onStart(this);
  }

  onResponseStart(
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: Record<string, string | string[] | undefined>,
  ): void {
    // Hints before the answer. (A 100 that nobody asked for never gets here: undici takes it for a broken answer.)
    if (status < 200) return;
    this.#response = { status, headers: keepHeaders(headers) };
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Uint8Array): void {
    if (this.#isSettled) return;
    const { isBodyWanted, responseBytesMax } = this.#limits;
    if (isBodyWanted || this.#bodyBytes < keptBodyBytesMax) this.#chunks.push(chunk);
    this.#bodyBytes += chunk.byteLength;
    if (this.#bodyBytes <= responseBytesMax) return;
    this.#finish(true);
    controller.abort(new Error("the answer is longer than is read"));
  }

  onResponseEnd(): void {
    this.#finish(false);
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    if (this.#isSettled) return;
    if (this.#response !== null) this.#finish(true);
    else if (this.#isStale(error)) this.#end({ kind: "stale" });
    else this.#end({ kind: "failed", failure: describeRequestError(error, this.#controller !== null) });
  }

  #runOutOfTime(): void {
    if (this.#response !== null) {
      this.#finish(true);
    } else {
      const what = this.#controller === null ? "connection" : "answer";
      const message = `No ${what} within ${this.#limits.timeoutMs} ms.`;
      this.#end({ kind: "failed", failure: { errorKind: "timeout", message } });
    }
    this.#controller?.abort(new Error("the attempt ran out of time"));
  }

  #finish(isCut: boolean): void {
    const { status, headers } = this.#response!;
    this.#end({
      kind: "answered",
      response: { status, headers, body: joinKept(this.#chunks) },
      body: this.#limits.isBodyWanted
        ? { bytes: isCut ? new Uint8Array() : Buffer.concat(this.#chunks), isCut, endedAtMs: Date.now() }
        : null,
    });
  }

  #end(result: ExchangeResult): void {
    if (this.#isSettled) return;
    this.#isSettled = true;
    clearTimeout(this.#timer);
    this.#chunks = [];
    this.#settle(result);
  }

  #isStale(error: Error): boolean {
    const connection = this.#connection;
    return (
      connection?.isReused === true &&
      connection.socket.bytesRead === connection.bytesReadBefore &&
      isClosedError(error)
    );
  }
}

function keepHeaders(headers: Record<string, string | string[] | undefined>): Record<string, string> {
  const kept: Record<string, string> = {};
  let bytesLeft = keptHeaderBytesMax;
  for (const name in headers) {
    const value = headers[name];
    const text = Array.isArray(value) ? value.join(", ") : (value ?? "");
    bytesLeft -= Buffer.byteLength(name) + Buffer.byteLength(text);
    if (bytesLeft < 0) break;
    kept[name] = text;
  }
  return kept;
}

/**
 * Copies into memory of its own: a view would keep the whole receive buffer alive, and would take all of it along
 * when the report is posted to the main thread.
 */
function joinKept(chunks: Uint8Array[]): Uint8Array {
  const length = Math.min(
    keptBodyBytesMax,
    chunks.reduce((sum, chunk) => sum + chunk.byteLength, 0),
  );
  const kept = new Uint8Array(length);
  let offset = 0;
  for (const chunk of chunks) {
    const part = chunk.subarray(0, length - offset);
    kept.set(part, offset);
    offset += part.byteLength;
  }
  return kept;
}
