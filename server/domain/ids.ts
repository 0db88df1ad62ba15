/**
 * Ids of rows that are written in bulk (events, deliveries) are UUIDv7: they grow with time, so index
 * inserts stay at the right-hand edge, and the day partition that holds a row follows from its id alone.
 */

const counterBits = 18;
const counterMax = 2 ** counterBits - 1;

export interface IdSource {
  /** A new UUIDv7, greater than every one this source gave before, in lower-case text form. */
  next(): string;
}

/**
 * @param now     milliseconds since the epoch; may step back, the ids still grow
 * @param random  fills a buffer with random bytes
 */
export function createIdSource(now: () => number, random: (bytes: Uint8Array) => void): IdSource {
  const pool = new Uint8Array(8 * 256);
  let poolOffset = pool.length;
  let lastMs = 0;
  let counter = 0;
  return {
    next() {
      if (poolOffset === pool.length) {
        random(pool);
        poolOffset = 0;
      }
      const tail = pool.subarray(poolOffset, poolOffset + 8);
      poolOffset += 8;
      const ms = now();
      if (ms > lastMs) {
        lastMs = ms;
        // Starts low, so that a burst inside one millisecond does not run out of counter.
        counter = tail[7]!;
      } else if (counter === counterMax) {
        lastMs += 1;
        counter = tail[7]!;
      } else {
        counter += 1;
      }
      return formatUuidV7(lastMs, counter, tail);
    },
  };
}

/** The smallest UUIDv7 of the millisecond `ms`: the bound of a partition, and of a search by time. */
export function firstIdAt(ms: number): string {
  const hex = Math.max(0, ms).toString(16).padStart(12, "0");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-0000-0000-000000000000`;
}

/** Milliseconds since the epoch at which a UUIDv7 was made. */
export function timeOfId(id: string): number {
  return Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16);
}

const uuidPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

export function isUuid(text: string): boolean {
  return uuidPattern.test(text);
}

/**
 * 48 bits of time, then the counter in rand_a and the head of rand_b (RFC 9562, method 1), then random.
 * Written digit by digit: a text joined from parts would keep all of them for as long as it lives.
 */
function formatUuidV7(ms: number, counter: number, tail: Uint8Array): string {
  const bytes = idBytes;
  bytes.writeUIntBE(ms, 0, 6);
  bytes.writeUInt16BE(0x7000 | (counter >>> 6), 6);
  bytes[8] = 0x80 | (counter & 0x3f);
  for (let index = 0; index < 7; index++) bytes[9 + index] = tail[index]!;
  let offset = 0;
  for (let index = 0; index < 16; index++) {
    if (index === 4 || index === 6 || index === 8 || index === 10) idText[offset++] = dash;
    idText[offset++] = digits[bytes[index]! >>> 4]!;
    idText[offset++] = digits[bytes[index]! & 0xf]!;
  }
  return idText.toString("latin1");
}

const idBytes = Buffer.alloc(16);
const idText = Buffer.alloc(36);
const dash = "-".charCodeAt(0);
const digits = Buffer.from("0123456789abcdef");
