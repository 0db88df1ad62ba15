import { createHash, randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { createMediaLinks, digestOfToken, expiryOfLink } from "../../server/domain/media-link.ts";

test("a link is the base URL, /media/ and 192 random bits; only their digest is kept", () => {
  const random = Buffer.from("000102030405060708090a0b0c0d0e0f1011121314151617", "hex");
  const make = createMediaLinks(
    () => "https://gateway.example.com/posthorn",
    (byteCount) => random.subarray(0, byteCount),
  );
  const { url, tokenDigest } = make();
  expect(url).toBe("https://gateway.example.com/posthorn/media/AAECAwQFBgcICQoLDA0ODxAREhMUFRYX");
  expect(tokenDigest).toEqual(createHash("sha256").update("AAECAwQFBgcICQoLDA0ODxAREhMUFRYX").digest());
  expect(digestOfToken("AAECAwQFBgcICQoLDA0ODxAREhMUFRYX")).toEqual(tokenDigest);
});

test("no two links are alike", () => {
  const make = createMediaLinks(() => "", randomBytes);
  expect(new Set(Array.from({ length: 1_000 }, () => make().url)).size).toBe(1_000);
});

test.each([
  "",
  "short",
  "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXY",
  "AAECAwQFBgcICQoLDA0ODxAREhMUFRY=",
  "../../etc/passwd",
])("%j cannot be a token", (text) => {
  expect(digestOfToken(text)).toBeNull();
});

test.each([
  ["its time", "2026-03-05T12:00:00Z", "2026-03-05T12:00:09Z", "2026-03-12T12:00:00Z"],
  ["its arrival if it has no time", null, "2026-03-05T12:00:09Z", "2026-03-12T12:00:09Z"],
  [
    "its arrival if its time lies ahead",
    "2031-01-01T00:00:00Z",
    "2026-03-05T12:00:09Z",
    "2026-03-12T12:00:09Z",
  ],
])("a link is good for 7 days from the message: from %s", (_what, occurredAt, receivedAt, expected) => {
  const expiry = expiryOfLink(occurredAt === null ? null : new Date(occurredAt), new Date(receivedAt));
  expect(expiry).toEqual(new Date(expected));
});
