/** Tells by the first bytes of a connection which protocol it speaks. */

import type { Socket } from "node:net";

export type Protocol = "http1" | "http2" | "tls";

/** What every HTTP/2 client sends first (RFC 9113, section 3.4). */
const http2Preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
/** Record type of a TLS handshake, its first byte. */
const tlsHandshake = 0x16;

/**
 * Waits for enough bytes to know the protocol, puts them back and tells it. A socket that says too little
 * for `timeoutMs` is destroyed; of one that ends or fails before, `found` is never called.
 */
export function sniffProtocol(socket: Socket, timeoutMs: number, found: (protocol: Protocol) => void): void {
  let seen: Buffer | null = null;

  const readMore = () => {
    const bytes: Buffer | null = socket.read();
    if (bytes === null) return;
    seen = seen === null ? bytes : Buffer.concat([seen, bytes]);
    const protocol = recognize(seen);
    if (protocol === null) return;
    stop();
    socket.unshift(seen);
    found(protocol);
  };
  const timer = setTimeout(() => socket.destroy(), timeoutMs);
  const stop = () => {
    clearTimeout(timer);
    socket.off("readable", readMore);
    socket.off("close", stop);
  };
  socket.on("readable", readMore);
  socket.on("close", stop);
}

/** Null while the bytes may still become either: a preface may come in pieces, and `PR` begins other methods too. */
function recognize(bytes: Buffer): Protocol | null {
  if (bytes[0] === tlsHandshake) return "tls";
  const length = Math.min(bytes.length, http2Preface.length);
  if (bytes.compare(http2Preface, 0, length, 0, length) !== 0) return "http1";
  return length === http2Preface.length ? "http2" : null;
}
