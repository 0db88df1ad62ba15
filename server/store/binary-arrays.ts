/**
 * Column arrays for `unnest`: one parameter a column instead of one a value, in PostgreSQL's binary form. As text every
 * element would be quoted, escaped and hexed here and taken apart again there, which cost more than writing the rows.
 *
 * The element type is part of the form, so each function serves exactly one cast in the statement.
 */

const typeOids = {
  bytea: 17,
  bigint: 20,
  integer: 23,
  smallint: 21,
  text: 25,
  float8: 701,
  uuid: 2950,
  boolean: 16,
};

const headBytes = 20;
const lengthBytes = 4;

/** A parameter for `int[]`. */
export function intArray(values: readonly (number | null)[]): Buffer {
  const array = allocate(typeOids.integer, values, 4);
  let offset = headBytes;
  for (const value of values) {
    if (value === null) offset = array.writeInt32BE(-1, offset);
    else offset = array.writeInt32BE(value, array.writeInt32BE(4, offset));
  }
  return array;
}

/** A parameter for `bigint[]`; numbers are to be safe integers. */
export function bigintArray(values: readonly (number | string | null)[]): Buffer {
  const array = allocate(typeOids.bigint, values, 8);
  let offset = headBytes;
  for (const value of values) {
    if (value === null) offset = array.writeInt32BE(-1, offset);
    else offset = writeBigint(array, value, array.writeInt32BE(8, offset));
  }
  return array;
}

/** In two halves where a number holds it all: a `BigInt` is an object that would be thrown away at once. */
function writeBigint(array: Buffer, value: number | string, offset: number): number {
  const number = Number(value);
  if (!Number.isSafeInteger(number)) return array.writeBigInt64BE(BigInt(value), offset);
  return array.writeInt32BE(number >> 0, array.writeInt32BE(Math.floor(number / 2 ** 32), offset));
}

/** A parameter for `float8[]`. */
export function numberArray(values: readonly (number | null)[]): Buffer {
  const array = allocate(typeOids.float8, values, 8);
  let offset = headBytes;
  for (const value of values) {
    if (value === null) offset = array.writeInt32BE(-1, offset);
    else offset = array.writeDoubleBE(value, array.writeInt32BE(8, offset));
  }
  return array;
}

/** A parameter for `float8[]` of Unix milliseconds; `to_timestamp(x / 1000)` makes instants of them. */
export function instantArray(values: readonly (Date | null)[]): Buffer {
  return numberArray(values.map((value) => (value === null ? null : value.getTime())));
}

/** A parameter for `boolean[]`. */
export function booleanArray(values: readonly boolean[]): Buffer {
  const array = allocate(typeOids.boolean, values, 1);
  let offset = headBytes;
  for (const value of values) offset = array.writeUInt8(value ? 1 : 0, array.writeInt32BE(1, offset));
  return array;
}

/** A parameter for `uuid[]`: 32 hexadecimal digits each, with or without dashes. */
export function uuidArray(values: readonly (string | null)[]): Buffer {
  const array = allocate(typeOids.uuid, values, 16);
  let offset = headBytes;
  for (const value of values) {
    if (value === null) offset = array.writeInt32BE(-1, offset);
    else offset = writeUuid(array, value, array.writeInt32BE(16, offset));
  }
  return array;
}

/** A parameter for `bytea[]`. */
export function bytesArray(values: readonly (Uint8Array | null)[]): Buffer {
  let bytes = headBytes;
  for (const value of values) bytes += lengthBytes + (value?.byteLength ?? 0);
  const array = writeHead(Buffer.allocUnsafe(bytes), typeOids.bytea, values);
  let offset = headBytes;
  for (const value of values) {
    offset = array.writeInt32BE(value?.byteLength ?? -1, offset);
    if (!value) continue;
    array.set(value, offset);
    offset += value.byteLength;
  }
  return array;
}

/** A parameter for `text[]`. A lone surrogate becomes U+FFFD; U+0000 is refused by the database. */
export function textArray(values: readonly (string | null | undefined)[]): Buffer {
  return writeTexts(values, typeOids.text);
}

/** A parameter for `bytea[]` of texts in UTF-8. */
export function utf8Array(values: readonly string[]): Buffer {
  return writeTexts(values, typeOids.bytea);
}

function writeTexts(values: readonly (string | null | undefined)[], oid: number): Buffer {
  let bytesMax = headBytes;
  for (const value of values) bytesMax += lengthBytes + (value ? value.length * 3 : 0);
  const array = writeHead(Buffer.allocUnsafe(bytesMax), oid, values);
  let offset = headBytes;
  for (const value of values) {
    const written = value === null || value === undefined ? -1 : array.write(value, offset + lengthBytes);
    array.writeInt32BE(written, offset);
    offset += lengthBytes + Math.max(written, 0);
  }
  return array.subarray(0, offset);
}

function allocate(oid: number, values: readonly unknown[], elementBytes: number): Buffer {
  let bytes = headBytes;
  for (const value of values) bytes += lengthBytes + (value === null ? 0 : elementBytes);
  return writeHead(Buffer.allocUnsafe(bytes), oid, values);
}

/** One dimension that counts from 1; an array without elements has no dimension. */
function writeHead(array: Buffer, oid: number, values: readonly unknown[]): Buffer {
  array.writeInt32BE(values.length === 0 ? 0 : 1, 0);
  array.writeInt32BE(1, 4);
  array.writeInt32BE(oid, 8);
  if (values.length === 0) return array.subarray(0, 12);
  array.writeInt32BE(values.length, 12);
  array.writeInt32BE(1, 16);
  return array;
}

function writeUuid(array: Buffer, uuid: string, at: number): number {
  let offset = at;
  let seen = 0;
  for (let index = 0; index < uuid.length; index += 2) {
    if (uuid.charCodeAt(index) === dash) index += 1;
    const high = nibbles[uuid.charCodeAt(index)] ?? noDigit;
    const low = nibbles[uuid.charCodeAt(index + 1)] ?? noDigit;
    seen |= high | low;
    array[offset++] = (high << 4) | low;
  }
  if (offset !== at + 16 || seen >= noDigit) throw new RangeError(`${JSON.stringify(uuid)} is no UUID`);
  return offset;
}

const dash = "-".charCodeAt(0);
const noDigit = 16;
const nibbles = new Uint8Array(128).fill(noDigit);
for (const [value, digit] of [..."0123456789abcdef"].entries()) {
  nibbles[digit.charCodeAt(0)] = value;
  nibbles[digit.toUpperCase().charCodeAt(0)] = value;
}
