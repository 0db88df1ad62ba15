import { hash } from "node:crypto";
import { type IncomingMessage, request } from "node:http";
import { type DescMethod, getOption } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { createConnectRouter } from "@connectrpc/connect";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { scope as scopeOption } from "../../gen/posthorn/v1/scope_pb.ts";
import { createGate, scopeOf } from "../../server/rpc/auth.ts";
import { addServices, type RpcParts } from "../../server/rpc/router.ts";
import {
  asTenant,
  aWebhook,
  nextOperatorKey,
  openRpcGateway,
  operatorKey,
  type RpcGateway,
} from "./gateway.ts";

let gateway: RpcGateway;
beforeAll(async () => {
  gateway = await openRpcGateway({ tenants: ["acme"] });
});
afterAll(async () => {
  await gateway.close();
});

/** Every rpc that the router serves, so that a new service cannot be forgotten here. */
function servedMethods(): DescMethod[] {
  const router = createConnectRouter();
  addServices({ transformers: new Map() } as unknown as RpcParts)(router);
  return router.handlers.map((handler) => handler.method);
}

describe("scopes", () => {
  test("every rpc declares the scope that the contract gives it", () => {
    const declared = servedMethods().map((method) => [
      `${method.parent.name}.${method.name}`,
      scopeOf(method),
    ]);
    expect(Object.fromEntries(declared)).toEqual({
      "WebhookService.GetWebhook": "webhooks:read",
      "WebhookService.ListWebhooks": "webhooks:read",
      "WebhookService.CreateWebhook": "webhooks:write",
      "WebhookService.UpdateWebhook": "webhooks:write",
      "WebhookService.DeleteWebhook": "webhooks:write",
      "DeliveryService.ListDeliveries": "deliveries:read",
      "DeliveryService.GetDelivery": "deliveries:read",
      "DeliveryService.RetryDelivery": "deliveries:write",
      "EventService.PublishEvents": "events:write",
    });
  });

  test.each(servedMethods().map((method) => ({ name: method.name, method })))(
    "$name is free of side effects exactly if its scope is to read",
    ({ method }) => {
      const isRead = method.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS;
      expect(getOption(method, scopeOption).endsWith(":read")).toBe(isRead);
    },
  );

  test("an rpc that declares none is refused to the operator too", () => {
    const method = { ...servedMethods()[0]!, proto: { options: undefined } } as unknown as DescMethod;
    const admit = createGate({ operatorKeyDigests: [digestOf(operatorKey)], tenantIdByName: () => 1 });
    const requestHeader = new Headers({ Authorization: `Bearer ${operatorKey}` });
    expect(() => admit({ method, requestHeader, values: new Map() } as never)).toThrow("declares no scope");
  });
});

describe("a call without a valid key", () => {
  const wrong: Record<string, Record<string, string>> = {
    "no header": {},
    "an empty key": { Authorization: "Bearer " },
    "another scheme": { Authorization: `Basic ${operatorKey}` },
    "an unknown key": { Authorization: `Bearer ${operatorKey}x` },
    "the digest for the key": { Authorization: `Bearer ${digestOf(operatorKey).toString("hex")}` },
    "a key with a tail": { Authorization: `Bearer ${operatorKey} x` },
  };
  test.each(Object.entries(wrong))("is refused: %s", async (_, headers) => {
    const answers = [
      await gateway.call("WebhookService/CreateWebhook", aWebhook(), headers),
      await gateway.call("DeliveryService/ListDeliveries", {}, headers),
      await gateway.get("WebhookService/ListWebhooks", {}, headers),
    ];
    for (const answer of answers) {
      expect(answer.status).toBe(401);
      expect(answer.body.code).toBe("unauthenticated");
      expect(answer.headers.get("WWW-Authenticate")).toBe("Bearer");
      expect(answer.text).not.toContain(operatorKey);
    }
  });

  test("is refused before its body is read", async () => {
    const answer = await gateway.call("WebhookService/CreateWebhook", "{ this is no JSON", {});
    expect(answer.status).toBe(401);
    const stalled = await new Promise<IncomingMessage>((resolve, reject) => {
      const upload = request(`${gateway.url}/posthorn.v1.EventService/PublishEvents`, {
        method: "POST",
        headers: { "Content-Type": "application/json", "Content-Length": 1000 },
      });
      upload.on("response", resolve).on("error", reject).flushHeaders();
    });
    expect(stalled.statusCode).toBe(401);
    stalled.destroy();
  });
});

describe("the operator key", () => {
  test("may be one of two while it is rotated", async () => {
    for (const key of [operatorKey, nextOperatorKey]) {
      const answer = await gateway.call(
        "WebhookService/ListWebhooks",
        {},
        { authorization: `bearer ${key}` },
      );
      expect(answer.status).toBe(200);
    }
  });

  test("works in tenant default, or the one that Posthorn-Tenant names", async () => {
    await gateway.call("WebhookService/CreateWebhook", aWebhook(), asTenant("acme"));
    const listed = async (headers?: Record<string, string>) =>
      (await gateway.call("WebhookService/ListWebhooks", {}, headers)).body.webhooks.length;
    expect([await listed(), await listed(asTenant("default")), await listed(asTenant("acme"))]).toEqual([
      0, 0, 1,
    ]);
  });

  test("is told when there is no such tenant", async () => {
    const answer = await gateway.call("WebhookService/ListWebhooks", {}, asTenant("nobody"));
    expect(answer.status).toBe(404);
    expect(answer.body.message).toBe("there is no tenant of the name that Posthorn-Tenant gives");
  });
});

function digestOf(key: string): Buffer {
  return hash("sha256", key, "buffer");
}
