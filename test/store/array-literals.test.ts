import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { bytesArray, instantArray, plainArray, textArray } from "../../server/store/array-literals.ts";
import { openStore, type Store } from "./open-store.ts";

let store: Store;
beforeAll(async () => {
  store = await openStore();
});
afterAll(() => store.close());

/** What PostgreSQL makes of a column array, one row an element. */
async function unnest<T>(parameter: string, type: string, shown = "v"): Promise<T[]> {
  const found = await store.pool.query(
    `SELECT ${shown} AS v FROM unnest($1::${type}[]) WITH ORDINALITY AS u(v, n) ORDER BY n`,
    [parameter],
  );
  return found.rows.map((row) => row.v);
}

const storable = fc
  .oneof(
    fc.string({ unit: "binary", maxLength: 30 }),
    fc.constantFrom("NULL", "null", "", " ", '"', "\\", "{}", ",", '{"a":1}', "\n\t", "\\\\x00", "é👍"),
  )
  .map((text) => text.replaceAll("\0", "").toWellFormed());

test("texts reach the database as they are, whatever is in them", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.option(storable), { maxLength: 12 }), async (texts) => {
      expect(await unnest(textArray(texts), "text")).toEqual(texts);
    }),
    { numRuns: 200 },
  );
});

test("bytes reach the database as they are, from views into larger buffers, too", async () => {
  const bytes = fc.uint8Array({ maxLength: 40 });
  await fc.assert(
    fc.asyncProperty(fc.array(fc.option(bytes), { maxLength: 8 }), fc.nat(3), async (values, offset) => {
      const views = values.map((one) => {
        if (one === null) return null;
        const larger = new Uint8Array(one.length + 8);
        larger.set(one, offset);
        return larger.subarray(offset, offset + one.length);
      });
      const found = await unnest<Buffer | null>(bytesArray(views), "bytea");
      expect(found.map((one) => one && [...one])).toEqual(values.map((one) => one && [...one]));
    }),
    { numRuns: 100 },
  );
});

test("instants keep their millisecond, also where exact comparison decides", async () => {
  const dates = fc.date({ min: new Date("1970-01-01"), max: new Date("2100-01-01"), noInvalidDate: true });
  await fc.assert(
    fc.asyncProperty(fc.array(fc.option(dates), { maxLength: 20 }), async (values) => {
      const found = await store.pool.query(
        `SELECT to_timestamp(u.ms / 1000) = c.at IS NOT FALSE AS is_same, to_timestamp(u.ms / 1000) AS at
         FROM unnest($1::float8[]) WITH ORDINALITY AS u(ms, n)
         JOIN unnest($2::timestamptz[]) WITH ORDINALITY AS c(at, n) USING (n) ORDER BY n`,
        [instantArray(values), values.map((value) => value?.toISOString() ?? null)],
      );
      expect(found.rows.every((row) => row.is_same)).toBe(true);
      expect(found.rows.map((row) => row.at)).toEqual(values);
    }),
    { numRuns: 100 },
  );
});

test("numbers and ids reach the database as they are", async () => {
  const id = "0199c0de-0000-7000-8000-000000000001";
  expect(await unnest(plainArray([1, null, -5, 2_147_483_647]), "int")).toEqual([1, null, -5, 2_147_483_647]);
  expect(await unnest(plainArray([9_007_199_254_740_993n]), "bigint")).toEqual(["9007199254740993"]);
  expect(await unnest(plainArray([id, null]), "uuid")).toEqual([id, null]);
  for (const empty of [plainArray([]), textArray([]), bytesArray([]), instantArray([])]) {
    expect(await unnest(empty, "text")).toEqual([]);
  }
});
