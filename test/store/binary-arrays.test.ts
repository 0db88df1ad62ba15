import { afterAll, beforeAll, expect, test } from "vitest";
import {
  bigintArray,
  booleanArray,
  bytesArray,
  instantArray,
  intArray,
  numberArray,
  textArray,
  utf8Array,
  uuidArray,
} from "../../server/store/binary-arrays.ts";
import { openStore, type Store } from "./open-store.ts";

let store: Store;
beforeAll(async () => {
  store = await openStore();
});
afterAll(() => store.close());

const uuid = "0199c0de-0000-7000-8000-0000000000aF";

test.each<[string, Buffer, Buffer, unknown[]]>([
  ["int[]", intArray([1, null, -2_147_483_648]), intArray([]), [1, null, -2_147_483_648]],
  [
    "bigint[]",
    bigintArray(["9223372036854775807", null, 5, -5, 2 ** 40 + 3, -(2 ** 40) - 3, "-9223372036854775808"]),
    bigintArray([]),
    ["9223372036854775807", null, "5", "-5", "1099511627779", "-1099511627779", "-9223372036854775808"],
  ],
  ["float8[]", numberArray([1.5, null, -1e300]), numberArray([]), [1.5, null, -1e300]],
  [
    "float8[]",
    instantArray([new Date(1_749_505_530_123), null]),
    instantArray([]),
    [1_749_505_530_123, null],
  ],
  ["boolean[]", booleanArray([true, false]), booleanArray([]), [true, false]],
  [
    "uuid[]",
    uuidArray([uuid, null, uuid.replaceAll("-", "")]),
    uuidArray([]),
    [uuid.toLowerCase(), null, uuid.toLowerCase()],
  ],
  [
    "bytea[]",
    bytesArray([Buffer.from([0, 255]), null, new Uint8Array()]),
    bytesArray([]),
    [Buffer.from([0, 255]), null, Buffer.alloc(0)],
  ],
  ["bytea[]", utf8Array(["", "é€"]), utf8Array([]), [Buffer.alloc(0), Buffer.from("é€")]],
  [
    "text[]",
    textArray(["", null, 'a "quoted" \\ one, {with} NULL', "é€😀\ud800"]),
    textArray([]),
    ["", null, 'a "quoted" \\ one, {with} NULL', "é€😀\ufffd"],
  ],
])("%s arrives element by element, empty too", async (type, filled, empty, expected) => {
  const read = async (values: Buffer) => {
    const { rows } = await store.pool.query(`SELECT value FROM unnest($1::${type}) AS value`, [values]);
    return rows.map((row) => row.value);
  };
  expect(await read(filled)).toEqual(expected);
  expect(await read(empty)).toEqual([]);
});

test.each(["0199c0de", "", `${uuid}00`, uuid.replace("c", "x"), uuid.replace("c", "\u0163")])(
  "%j is no UUID and is refused before it is sent",
  (text) => {
    expect(() => uuidArray([text])).toThrow("is no UUID");
  },
);

test("U+0000 in a text is refused by the database", async () => {
  const query = store.pool.query("SELECT $1::text[]", [textArray(["a\u0000b"])]);
  await expect(query).rejects.toMatchObject({ code: "22021" });
});
