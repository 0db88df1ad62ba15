import { describe, expect, test } from "vitest";
import { createSealer } from "../../server/store/sealer.ts";

const key = (byte: number) => new Uint8Array(32).fill(byte);
const secret = "whsec_dGhpcyBpcyBhIHNlY3JldA==";

describe("the sealer", () => {
  test.for(["", "a", secret, "ünïcödé 👍", "x".repeat(100_000)])("opens what it sealed", (text) => {
    const sealer = createSealer([key(1)]);
    const blob = sealer.seal(text, "webhook_secret");
    expect(sealer.open(blob, "webhook_secret")).toBe(text);
    // As a driver gives it: a view into a larger buffer.
    const inside = Buffer.concat([Buffer.alloc(7), blob, Buffer.alloc(3)]).subarray(7, 7 + blob.length);
    expect(sealer.open(inside, "webhook_secret")).toBe(text);
  });

  test("never gives the same blob twice, nor one that shows the text", () => {
    const sealer = createSealer([key(1)]);
    const [first, second] = [sealer.seal(secret, "webhook_secret"), sealer.seal(secret, "webhook_secret")];
    expect(first.equals(second)).toBe(false);
    expect(first.includes(Buffer.from("whsec_"))).toBe(false);
    expect(first.includes(Buffer.from(key(1)))).toBe(false);
  });

  test("seals with the first key and opens with all, so that keys can be changed", () => {
    const old = createSealer([key(1)]).seal(secret, "webhook_secret");
    const both = createSealer([key(2), key(1)]);
    expect(both.open(old, "webhook_secret")).toBe(secret);
    const fresh = both.seal(secret, "webhook_secret");
    expect(createSealer([key(2)]).open(fresh, "webhook_secret")).toBe(secret);
    expect(() => createSealer([key(1)]).open(fresh, "webhook_secret")).toThrow();
  });

  test("names the missing key and the way out, and tells nothing else", () => {
    const blob = createSealer([key(1)]).seal(secret, "webhook_secret");
    const message = messageOf(() => createSealer([key(2)]).open(blob, "webhook_secret"));
    expect(message).toMatch(/^sealed with master key [0-9a-f]{8}, .*POSTHORN_MASTER_KEY.*add that key/);
    expectNothingSecret(message);
  });

  test("does not open a blob for another purpose", () => {
    const sealer = createSealer([key(1)]);
    const blob = sealer.seal(secret, "webhook_secret");
    expectNothingSecret(messageOf(() => sealer.open(blob, "webhook_headers")));
  });

  test("does not open a blob of which any byte was changed or cut off", () => {
    const sealer = createSealer([key(1)]);
    const blob = sealer.seal(secret, "webhook_secret");
    for (let index = 0; index < blob.length; index++) {
      const altered = Buffer.from(blob);
      altered[index]! ^= 1;
      expectNothingSecret(messageOf(() => sealer.open(altered, "webhook_secret")));
    }
    for (const length of [0, 1, 5, 17, 32, blob.length - 1]) {
      expectNothingSecret(messageOf(() => sealer.open(blob.subarray(0, length), "webhook_secret")));
    }
  });

  test.for([[], [new Uint8Array(31)], [key(1), new Uint8Array(33)]])("refuses keys that are none", (keys) => {
    expect(() => createSealer(keys)).toThrow(/key/);
  });
});

function messageOf(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    return (error as Error).message;
  }
  throw new Error("it opened");
}

function expectNothingSecret(message: string): void {
  expect(message).not.toContain("whsec_");
  expect(message).not.toContain(secret.slice(6));
  expect(message).not.toContain(Buffer.from(key(1)).toString("hex"));
  expect(message).not.toContain(Buffer.from(key(1)).toString("base64"));
}
