/**
 * Column arrays for `unnest` as text, for statements that run now and then, and for those that MikroORM runs. The
 * statements of the hot path send theirs in binary form (`binary-arrays.ts`). pg would quote every element; ids and numbers
 * need no quotes, so their array literals are joined here.
 */

/** A parameter for `uuid[]`, or any type whose text form needs no quoting. */
export function plainArray(values: readonly (string | number | bigint | null)[]): string {
  let text = "{";
  for (let index = 0; index < values.length; index++) {
    if (index > 0) text += ",";
    text += values[index] ?? "NULL";
  }
  return `${text}}`;
}

/** A parameter for `float8[]` of Unix milliseconds; `to_timestamp(x / 1000)` makes instants of them. */
export function instantArray(values: readonly (Date | null)[]): string {
  return plainArray(values.map((value) => (value === null ? null : value.getTime())));
}

/** A parameter for `bytea[]`. */
export function bytesArray(values: readonly (Uint8Array | null)[]): string {
  let text = "{";
  for (let index = 0; index < values.length; index++) {
    if (index > 0) text += ",";
    const value = values[index];
    text += value
      ? `"\\\\x${Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("hex")}"`
      : "NULL";
  }
  return `${text}}`;
}

/** A parameter for `text[]`. */
export function textArray(values: readonly (string | null)[]): string {
  let text = "{";
  for (let index = 0; index < values.length; index++) {
    if (index > 0) text += ",";
    const value = values[index];
    text += value === null || value === undefined ? "NULL" : quote(value);
  }
  return `${text}}`;
}

function quote(value: string): string {
  return /["\\]/.test(value) ? `"${value.replace(/["\\]/g, "\\$&")}"` : `"${value}"`;
}
