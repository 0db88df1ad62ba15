import { createHmac } from "node:crypto";
import { Webhook } from "standardwebhooks";
import { describe, expect, test } from "vitest";
import { makeSignatureHeaders } from "../../server/domain/signer.ts";

// The published vector (contract, section 7).
const secret = "whsec_UG9zdGhvcm4tZXhhbXBsZS1zZWNyZXQtMzJieXRlcyE=";
const newSecret = "whsec_bmV3ZXItc2VjcmV0LW5ld2VyLXNlY3JldC1uZXdlci0=";
const text = '{"event":"message.received","timestamp":"2026-03-05T12:00:00Z"}';
const vector = {
  secrets: [secret],
  scheme: null,
  deliveryId: "0199c0de-0000-7000-8000-000000000001",
  timestampSeconds: 1772712000,
  body: new TextEncoder().encode(text),
};
const intelliValue = "sha256=39b8268f3237553502df13bed62633b3ab8b1652a41f13a243795f9337ee2c66";
const insightsValue =
  "I8L2SgkeI2sgzkim1Ik1mcrx5LNfrQXa8vSdic_CQExnfFIwV2y1Ri5T9546TjWFaP5apkaM4UtCdk10bGcIs_Mui7JhBy6D2YhqAliyjKl3gOCpfmIfgbCoB94kN0uREucIdY_EMV5nxn3fkaP5LfMVTyse9_2ywxMORjlrvMQ";
const standardValue = "v1,qwk8qeWv6EbG4b0VfJxzrxJ7SpBRx+nnTiwnsg1sr/4=";

describe("the published vector", () => {
  test("without a scheme there is webhook-signature alone", () => {
    expect(makeSignatureHeaders(vector)).toEqual({ "webhook-signature": standardValue });
  });

  test("intelli adds X-Intelli-Signature", () => {
    expect(makeSignatureHeaders({ ...vector, scheme: "intelli" })).toEqual({
      "webhook-signature": standardValue,
      "X-Intelli-Signature": intelliValue,
    });
  });

  test("insights adds X-Webhook-Signature, 171 characters long", () => {
    expect(insightsValue).toHaveLength(171);
    expect(makeSignatureHeaders({ ...vector, scheme: "insights" })).toEqual({
      "webhook-signature": standardValue,
      "X-Webhook-Signature": insightsValue,
    });
  });
});

test("a webhook without a secret sends no signature header, whatever its scheme", () => {
  expect(makeSignatureHeaders({ ...vector, secrets: [], scheme: "intelli" })).toEqual({});
});

test("during a rotation webhook-signature carries both, newest first; single values use the old secret", () => {
  const headers = makeSignatureHeaders({ ...vector, secrets: [secret, newSecret], scheme: "intelli" });
  const newAlone = makeSignatureHeaders({ ...vector, secrets: [newSecret] })["webhook-signature"];
  expect(headers["webhook-signature"]).toBe(`${newAlone} ${standardValue}`);
  expect(headers["X-Intelli-Signature"]).toBe(intelliValue);
});

test("a receiver with either secret accepts it by the standardwebhooks library", () => {
  const timestampSeconds = Math.floor(Date.now() / 1000);
  const headers = {
    ...makeSignatureHeaders({ ...vector, secrets: [secret, newSecret], timestampSeconds }),
    "webhook-id": vector.deliveryId,
    "webhook-timestamp": String(timestampSeconds),
  };
  for (const known of [secret, newSecret]) {
    expect(new Webhook(known).verify(text, headers)).toEqual(JSON.parse(text));
    expect(() => new Webhook(known).verify(`${text} `, headers)).toThrow("No matching signature");
  }
});

test("a secret without whsec_ is its own key, byte for byte", () => {
  const own = "pässword-of-an-older-system";
  const expected = createHmac("sha256", Buffer.from(own, "utf8"))
    .update(`${vector.deliveryId}.${vector.timestampSeconds}.${text}`)
    .digest("base64");
  const headers = makeSignatureHeaders({ ...vector, secrets: [own] });
  expect(headers["webhook-signature"]).toBe(`v1,${expected}`);
});

test("any bytes are signed as they are, not as text", () => {
  const body = new Uint8Array([0, 255, 254, 128, 10]);
  const expected = createHmac("sha256", secret).update(body).digest("hex");
  expect(makeSignatureHeaders({ ...vector, scheme: "intelli", body })["X-Intelli-Signature"]).toBe(
    `sha256=${expected}`,
  );
});
