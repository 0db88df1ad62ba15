import { expect, test } from "vitest";
import { formatPosition, parsePosition } from "../../server/domain/watch-position.ts";

const givenAt = new Date("2026-03-05T12:00:00.123Z");

test.each([
  { since: "748:748:", upTo: null, xid: "0", index: 0 },
  { since: "10:18446744073709551615:10,14,15", upTo: "12:20:13", xid: "17", index: 500 },
])("a position comes back as it was: %j", (position) => {
  expect(parsePosition(formatPosition(position, givenAt))).toEqual({ position, givenAt });
});

const parts = [1, givenAt.getTime(), "1:2:", null, "0", 0];
const changed = (index: number, value: unknown) => parts.with(index, value as never);

test.each<[string, unknown]>([
  ["nothing", ""],
  ["no list", { since: "1:2:" }],
  ["too few parts", parts.slice(1)],
  ["another version", changed(0, 2)],
  ["a time that is none", changed(1, "yesterday")],
  ["a snapshot with more in it", changed(2, "1:2:'; DROP TABLE attempt")],
  ["a snapshot that is none", changed(3, "1")],
  ["a snapshot that ends before it begins", changed(2, "3:2:")],
  ["a snapshot of no transaction", changed(2, "0:2:")],
  ["a snapshot with open transactions outside of it", changed(2, "3:9:9")],
  ["a snapshot with open transactions in no order", changed(2, "3:9:5,4")],
  ["a snapshot with a number too large", changed(3, "1:18446744073709551616:")],
  ["a transaction that is none", changed(4, "-1")],
  ["half a place", changed(5, 0.5)],
])("%s is no position", (_, value) => {
  const text = value === "" ? "" : Buffer.from(JSON.stringify(value)).toString("base64url");
  expect(parsePosition(text)).toBeNull();
});
