import { createHmac } from "node:crypto";
import { describe, expect, test } from "vitest";
import { answerHandshake, verifySignature } from "../../server/whatsapp/signature.ts";

const secret = "test_app_secret";
const compact = Buffer.from('{"object":"whatsapp_business_account","entry":[]}');
const compactHex = "dec6a680679a968e7e0319355b23599cbfc54502c0784668e9618baa0c633756";
const spaced = Buffer.from('{"object": "whatsapp_business_account", "entry": []}');
const spacedHex = "56cbbaf4961c6cfdae48b7f116c047e5eb513d2c931baae63a2bc1afd26f803a";

describe("a signature is taken", () => {
  test.each([
    ["of the published compact body", compact, `sha256=${compactHex}`],
    ["of the published spaced body", spaced, `sha256=${spacedHex}`],
    ["in upper-case hex", compact, `sha256=${compactHex.toUpperCase()}`],
  ])("%s", (_name, body, header) => {
    expect(verifySignature(body, header, [secret])).toBe(0);
  });

  test("over the raw bytes, escapes and all, and not over what they mean", () => {
    const raw = Buffer.from('{"name":"\\u05d0\\u05d1","url":"a\\/b"}');
    const header = `sha256=${createHmac("sha256", secret).update(raw).digest("hex")}`;
    expect(verifySignature(raw, header, [secret])).toBe(0);
    expect(verifySignature(Buffer.from(JSON.stringify(JSON.parse(String(raw)))), header, [secret])).toBe(-1);
  });

  test("from any configured secret, and the index tells which", () => {
    expect(verifySignature(compact, `sha256=${compactHex}`, ["other", "", secret])).toBe(2);
  });
});

describe("a signature is refused", () => {
  const emptyKeyHex = createHmac("sha256", "").update(compact).digest("hex");
  test.each([
    ["when the header is missing", undefined, [secret]],
    ["when the header is empty", "", [secret]],
    ["of another body", `sha256=${spacedHex}`, [secret]],
    ["of another secret", `sha256=${compactHex}`, ["another"]],
    ["with another prefix", `sha1=${compactHex}`, [secret]],
    ["with the prefix in upper case", `SHA256=${compactHex}`, [secret]],
    ["without a prefix", compactHex, [secret]],
    ["of 63 digits", `sha256=${compactHex.slice(1)}`, [secret]],
    ["of 65 digits", `sha256=${compactHex}0`, [secret]],
    ["that is not hex", `sha256=${"g".repeat(64)}`, [secret]],
    ["that is not ASCII", `sha256=${"é".repeat(64)}`, [secret]],
    ["with a line break at its end", `sha256=${compactHex}\n`, [secret]],
    ["with blanks around it", ` sha256=${compactHex} `, [secret]],
    ["of an empty secret, even if it is configured", `sha256=${emptyKeyHex}`, [""]],
    ["when no secret is configured", `sha256=${compactHex}`, []],
  ])("%s", (_name, header, secrets) => {
    expect(verifySignature(compact, header, secrets)).toBe(-1);
  });

  test("of a blank secret, which is as good as none", () => {
    const header = `sha256=${createHmac("sha256", "  ").update(compact).digest("hex")}`;
    expect(verifySignature(compact, header, ["  "])).toBe(-1);
  });
});

describe("the handshake", () => {
  const query = (overrides: Record<string, string> = {}) =>
    new URLSearchParams({
      "hub.mode": "subscribe",
      "hub.challenge": "1158201444",
      "hub.verify_token": "my-token",
      ...overrides,
    });

  test("echoes the challenge for the right token", () => {
    expect(answerHandshake(query(), "my-token")).toBe("1158201444");
  });

  test.each([
    ["another token", query({ "hub.verify_token": "my-toke" }), "my-token"],
    ["another mode", query({ "hub.mode": "unsubscribe" }), "my-token"],
    ["an empty challenge", query({ "hub.challenge": "" }), "my-token"],
    ["no parameters", new URLSearchParams(), "my-token"],
    ["an unset token", query(), undefined],
    ["an empty token on both sides", query({ "hub.verify_token": "" }), ""],
    ["a blank token on both sides", query({ "hub.verify_token": " " }), " "],
  ])("is refused for %s", (_name, parameters, token) => {
    expect(answerHandshake(parameters, token)).toBeNull();
  });
});
