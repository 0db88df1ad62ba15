import { expect, test } from "vitest";
import { findHeaderFault, isReservedHeader } from "../../server/domain/request-headers.ts";

test.each([
  "content-type",
  "Content-Foo",
  "HOST",
  "webhook-id",
  "Webhook-X",
  "x-intelli-signature",
  "X-Any-Signature",
  "connection",
  "Keep-Alive",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "proxy-authorization",
  "user-agent",
])("%s is reserved", (name) => {
  expect(isReservedHeader(name)).toBe(true);
  expect(findHeaderFault(name, "x")).toContain("set by the gateway");
});

test.each([
  "authorization",
  "x-api-key",
  "x-signature",
  "x-webhook-id",
  "my-host",
  "signature",
  "x-contents",
])("%s may be given", (name) => {
  expect(findHeaderFault(name, "Bearer a\tb ü")).toBeNull();
});

test.each<[string, unknown, string]>([
  ["", "x", "name"],
  ["a b", "x", "name"],
  ["a:b", "x", "name"],
  ["ä", "x", "name"],
  ["a\r\n", "x", "name"],
  ["x", 1, "no text"],
  ["x", undefined, "no text"],
  ["x", "a\nb", "control character"],
  ["x", "a\u0000", "control character"],
  ["x", "a".repeat(4097), "longer than 4096"],
])("%j: %j is refused, and the value is not repeated", (name, value, part) => {
  expect(findHeaderFault(name, value)).toContain(part);
  expect(findHeaderFault(name, value)).not.toContain("aaa");
});
