/** Rotation of a signing secret, from the call to what a receiver sees, with real threads and a clock that jumps. */

import { createHmac } from "node:crypto";
import { Webhook as StandardWebhook } from "standardwebhooks";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Clock, systemClock } from "../../server/clock.ts";
import { startTestGateway, type TestGateway } from "../helpers/gateway.ts";
import { type QueryRows, queryRows } from "../helpers/query-rows.ts";
import { type ReceivedRequest, type Receiver, startReceiver } from "../helpers/receiver.ts";
import { anInboundBody, aTextMessage } from "../helpers/whatsapp-bodies.ts";

/** Ahead of the real clock by so much. */
let aheadMs = 0;
const clock: Clock = { ...systemClock, now: () => new Date(Date.now() + aheadMs) };

let gateway: TestGateway;
let receiver: Receiver;
let query: QueryRows;
beforeAll(async () => {
  receiver = await startReceiver();
  gateway = await startTestGateway({ clock });
  query = queryRows(gateway.databaseUrl);
});
afterAll(async () => {
  await gateway.close();
  await receiver.close();
});

let count = 0;
async function createSigned(transformer: string, fields: Record<string, unknown> = {}) {
  return await gateway.createWebhook({
    webhooks: `${receiver.url}/${++count}`,
    active_signature: true,
    transformer,
    ...fields,
  });
}

const rotate = async (id: number, fields: Record<string, unknown> = {}) =>
  (await gateway.call("WebhookService/RotateWebhookSecret", { id, ...fields })).body;

/** Lets one event go to the webhook of this path, and gives the request. */
async function deliver(path: string): Promise<ReceivedRequest> {
  const before = receiver.requests.length;
  await gateway.postBody(anInboundBody(aTextMessage({ id: `wamid.rotation-${++count}` })));
  // One for each webhook that is there.
  const { body } = await gateway.call("WebhookService/ListWebhooks", { page_size: 500 });
  const requests = await receiver.waitForRequests(before + body.webhooks.length);
  return requests.slice(before).find((request) => request.path.endsWith(path))!;
}

/** Which of the secrets a receiver finds to fit, as the library of Standard Webhooks judges. */
function standardFits(request: ReceivedRequest, secrets: string[]): string[] {
  return secrets.filter((secret) => {
    try {
      new StandardWebhook(secret).verify(request.body.toString(), request.headers as Record<string, string>);
      return true;
    } catch {
      return false;
    }
  });
}

function intelliFits(request: ReceivedRequest, secrets: string[]): string[] {
  return secrets.filter(
    (secret) =>
      request.headers["x-intelli-signature"] ===
      `sha256=${createHmac("sha256", secret).update(request.body).digest("hex")}`,
  );
}

function insightsFits(request: ReceivedRequest, secrets: string[]): string[] {
  return secrets.filter((secret) => {
    const first = createHmac("sha512", secret).update(request.body).digest();
    const second = createHmac("sha512", secret).update(first).digest();
    return request.headers["x-webhook-signature"] === Buffer.concat([first, second]).toString("base64url");
  });
}

describe.each([
  ["intelli", intelliFits],
  ["insights", insightsFits],
])("the secret of a webhook with %s", (transformer, singleFits) => {
  test("is followed by the new one after the overlap, and a receiver that accepts either never fails", async () => {
    const { id, signature_secret: old } = await createSigned(transformer);
    const path = `/${count}`;
    const rotated = await rotate(id, { overlap_seconds: 3_600 });
    const next: string = rotated.signature_secret;
    expect(next).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/);
    const endsInMs = Date.parse(rotated.former_secret_expires_at) - clock.now().getTime();
    expect(endsInMs).toBeGreaterThan(3_590_000);
    expect(endsInMs).toBeLessThanOrEqual(3_600_000);

    const during = await deliver(path);
    expect(String(during.headers["webhook-signature"]).split(" ")).toHaveLength(2);
    expect(standardFits(during, [old, next])).toEqual([old, next]);
    expect(singleFits(during, [old, next])).toEqual([old]);

    // What is still under way when the clock jumps would lose its lease.
    await gateway.waitForStates(1, ["delivered"], { webhook_id: id });
    aheadMs += 3_600_000;
    const after = await deliver(path);
    expect(String(after.headers["webhook-signature"]).split(" ")).toHaveLength(1);
    expect(standardFits(after, [old, next])).toEqual([next]);
    expect(singleFits(after, [old, next])).toEqual([next]);
    await gateway.call("WebhookService/DeleteWebhook", { id });
  });

  test("that is rotated twice leaves the oldest dead and the second one in the single-value header", async () => {
    const { id, signature_secret: oldest } = await createSigned(transformer);
    const path = `/${count}`;
    const second: string = (await rotate(id)).signature_secret;
    const third: string = (await rotate(id)).signature_secret;
    const request = await deliver(path);
    expect(standardFits(request, [oldest, second, third])).toEqual([second, third]);
    expect(singleFits(request, [oldest, second, third])).toEqual([second]);
    await gateway.call("WebhookService/DeleteWebhook", { id });
  });

  test("ends at once without an overlap", async () => {
    const { id, signature_secret: old } = await createSigned(transformer);
    const path = `/${count}`;
    const rotated = await rotate(id, { overlap_seconds: 0 });
    expect(rotated).not.toHaveProperty("former_secret_expires_at");
    const request = await deliver(path);
    expect(standardFits(request, [old, rotated.signature_secret])).toEqual([rotated.signature_secret]);
    expect(singleFits(request, [old, rotated.signature_secret])).toEqual([rotated.signature_secret]);
    await gateway.call("WebhookService/DeleteWebhook", { id });
  });
});

test("a delivery that waits keeps its body, and goes with the URL, headers and secret of the moment", async () => {
  // Threads tell the real time, so waiting for a retry needs a gateway without a clock that jumps.
  const waiting = await startTestGateway({ env: { POSTHORN_RETRY_SECONDS: "3" } });
  const endpoint = await startReceiver({ answer: (_, number) => ({ status: number === 1 ? 500 : 200 }) });
  try {
    const { id, signature_secret: old } = await waiting.createWebhook({
      webhooks: endpoint.url,
      active_signature: true,
      transformer: "intelli",
      headers: { "X-Key": "old" },
    });
    await waiting.postBody(anInboundBody());
    const [first] = await endpoint.waitForRequests(1);
    const rotated = await waiting.call("WebhookService/RotateWebhookSecret", { id, overlap_seconds: 0 });
    const next: string = rotated.body.signature_secret;
    await waiting.updateWebhook(id, {
      webhooks: `${endpoint.url}/moved`,
      headers: { "X-Key": "new" },
      transformer: "insights",
    });
    const [, second] = await endpoint.waitForRequests(2, 10_000);
    expect(intelliFits(first!, [old, next])).toEqual([old]);
    expect(second!.path).toMatch(/\/moved$/);
    expect(second!.headers["webhook-id"]).toBe(first!.headers["webhook-id"]);
    expect(second!.headers["x-key"]).toBe("new");
    expect(second!.body).toEqual(first!.body);
    expect(standardFits(second!, [old, next])).toEqual([next]);
  } finally {
    await waiting.close();
    await endpoint.close();
  }
});

describe("RotateWebhookSecret", () => {
  test("keeps the former secret for a day unless told otherwise", async () => {
    const { id } = await createSigned("raw");
    const { former_secret_expires_at } = await rotate(id);
    const endsInMs = Date.parse(former_secret_expires_at) - clock.now().getTime();
    expect(Math.round(endsInMs / 60_000)).toBe(24 * 60);
    await gateway.call("WebhookService/DeleteWebhook", { id });
  });

  test("turns signing on for an unsigned webhook, which can then become intelli", async () => {
    const { id } = await gateway.createWebhook({ webhooks: `${receiver.url}/${++count}` });
    const path = `/${count}`;
    expect(
      (await gateway.call("WebhookService/UpdateWebhook", { id, active_signature: true })).body.code,
    ).toBe("failed_precondition");
    const rotated = await rotate(id);
    expect(rotated.webhook).toMatchObject({ id, active_signature: true });
    expect(rotated).not.toHaveProperty("former_secret_expires_at");
    await gateway.updateWebhook(id, { transformer: "intelli" });
    const request = await deliver(path);
    expect(intelliFits(request, [rotated.signature_secret])).toEqual([rotated.signature_secret]);
    await gateway.call("WebhookService/DeleteWebhook", { id });
  });

  test("takes the caller's own secret", async () => {
    const { id } = await createSigned("raw");
    const path = `/${count}`;
    const signature_secret = "a secret of my own, long enough";
    expect((await rotate(id, { signature_secret, overlap_seconds: 0 })).signature_secret).toBe(
      signature_secret,
    );
    const request = await deliver(path);
    const encoded = `whsec_${Buffer.from(signature_secret).toString("base64")}`;
    expect(standardFits(request, [encoded])).toEqual([encoded]);
    await gateway.call("WebhookService/DeleteWebhook", { id });
  });

  const wrong: [string, Record<string, unknown>][] = [
    ["an overlap of more than a week", { overlap_seconds: 604_801 }],
    ["a negative overlap", { overlap_seconds: -1 }],
    ["a secret of 23 characters", { signature_secret: "x".repeat(23) }],
    ["a secret that only looks like base64", { signature_secret: `whsec_${"%".repeat(40)}` }],
  ];
  test.each(wrong)("refuses %s and leaves the secrets alone", async (_, fields) => {
    const { id } = await createSigned("raw");
    const secrets = () => query("SELECT id, expires_at FROM webhook_secret WHERE webhook_id = $1", [id]);
    const before = await secrets();
    expect((await rotate(id, fields)).code).toBe("invalid_argument");
    expect(await secrets()).toEqual(before);
    await gateway.call("WebhookService/DeleteWebhook", { id });
  });

  test("leaves one current and at most one former secret when many rotate at once", async () => {
    const { id } = await createSigned("raw");
    const answers = await Promise.all(Array.from({ length: 6 }, () => rotate(id)));
    expect(new Set(answers.map(({ signature_secret }) => signature_secret)).size).toBe(6);
    const rows = await query("SELECT expires_at FROM webhook_secret WHERE webhook_id = $1 ORDER BY id", [id]);
    expect(rows.map(({ expires_at }) => expires_at === null)).toEqual([false, true]);
    await gateway.call("WebhookService/DeleteWebhook", { id });
  });

  test("knows no deleted webhook", async () => {
    const { id } = await createSigned("raw");
    await gateway.call("WebhookService/DeleteWebhook", { id });
    expect((await rotate(id)).code).toBe("not_found");
  });
});
