import { hash } from "node:crypto";
import { type IncomingMessage, request } from "node:http";
import { type DescMethod, getOption } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { scope as scopeOption } from "../../gen/posthorn/v1/scope_pb.ts";
import { type AuthParts, createGate, requirementOf, scopes } from "../../server/rpc/auth.ts";
import {
  asTenant,
  aWebhook,
  nextOperatorKey,
  openRpcGateway,
  operatorKey,
  type RpcGateway,
} from "./gateway.ts";
import { servedMethods } from "./served-methods.ts";

let gateway: RpcGateway;
beforeAll(async () => {
  gateway = await openRpcGateway({ tenants: ["acme"] });
});
afterAll(async () => {
  await gateway.close();
});

describe("scopes", () => {
  test("every rpc declares the scope that the contract gives it, or takes the operator key alone", () => {
    const declared = servedMethods().map((method) => [
      `${method.parent.name}.${method.name}`,
      requirementOf(method),
    ]);
    expect(Object.fromEntries(declared)).toMatchObject({
      "WebhookService.GetWebhook": "webhooks:read",
      "WebhookService.ListWebhooks": "webhooks:read",
      "WebhookService.CreateWebhook": "webhooks:write",
      "WebhookService.UpdateWebhook": "webhooks:write",
      "WebhookService.DeleteWebhook": "webhooks:write",
      "WebhookService.RotateWebhookSecret": "webhooks:write",
      "WebhookService.TestWebhook": "webhooks:write",
      "DeliveryService.ListDeliveries": "deliveries:read",
      "DeliveryService.GetDelivery": "deliveries:read",
      "DeliveryService.RetryDelivery": "deliveries:write",
      "EventService.PublishEvents": "events:write",
      "ApiKeyService.CreateApiKey": "operator",
      "ApiKeyService.ListApiKeys": "operator",
      "ApiKeyService.RevokeApiKey": "operator",
      "TenantService.CreateTenant": "operator",
      "TenantService.GetTenant": "operator",
      "TenantService.ListTenants": "operator",
      "TenantService.DeleteTenant": "operator",
      "AuditService.ListAuditEntries": "operator",
    });
    for (const [, requirement] of declared) expect([...scopes, "operator"]).toContain(requirement);
  });

  test.each(servedMethods().map((method) => ({ name: method.name, method })))(
    "$name is free of side effects exactly if it reads",
    ({ method }) => {
      const isRead = method.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS;
      const scope = getOption(method, scopeOption);
      expect(scope === "operator" ? /^(Get|List)/.test(method.name) : scope.endsWith(":read")).toBe(isRead);
    },
  );

  test("an rpc that declares none is refused to the operator too", async () => {
    const method = { ...servedMethods()[0]!, proto: { options: undefined } } as unknown as DescMethod;
    const admit = createGate({ operatorKeyDigests: [digestOf(operatorKey)] } as unknown as AuthParts);
    const requestHeader = new Headers({ Authorization: `Bearer ${operatorKey}` });
    const context = { method, requestHeader, responseHeader: new Headers(), values: new Map() };
    await expect(admit(context as never)).rejects.toThrow("declares no scope");
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
