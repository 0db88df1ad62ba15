/** Walks over every rpc that the router serves: what no key, a wrong one or one without the scope gets. */

import { randomBytes } from "node:crypto";
import { type DescMethod, getOption } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { scope as scopeOption } from "../../gen/posthorn/v1/scope_pb.ts";
import { scopes } from "../../server/rpc/auth.ts";
import { type Answer, type CreatedKey, openRpcGateway, type RpcGateway } from "./gateway.ts";
import { servedMethods } from "./served-methods.ts";

const methods = servedMethods().map((method) => ({ name: `${method.parent.name}/${method.name}`, method }));

let gateway: RpcGateway;
let revoked: CreatedKey;
let expired: CreatedKey;
let orphaned: CreatedKey;
/** By scope: keys that have every scope but this one. */
const lacking = new Map<string, CreatedKey>();
beforeAll(async () => {
  gateway = await openRpcGateway({ tenants: ["acme"] });
  revoked = await gateway.createKey();
  await gateway.call("ApiKeyService/RevokeApiKey", { id: revoked.id });
  orphaned = await gateway.createKey({}, "acme");
  await gateway.call("TenantService/DeleteTenant", { name: "acme" });
  for (const scope of [...scopes, "operator"]) {
    lacking.set(scope, await gateway.createKey({ scopes: scopes.filter((other) => other !== scope) }));
  }
  const soon = new Date(gateway.clock.at.getTime() + 1);
  expired = await gateway.createKey({ expires_at: soon.toISOString() });
  gateway.clock.at = soon;
});
afterAll(async () => {
  await gateway.close();
});

/** Connect by POST, by GET where the rpc has it, and gRPC; code and text of each answer. Streams by a client's calls. */
async function callAll(method: DescMethod, headers: Record<string, string>) {
  const path = `${method.parent.name}/${method.name}`;
  const told = (answer: Answer) => ({ code: answer.body.code as string, text: answer.text });
  const answers: { code: string; text: string }[] = [];
  const withHeaders: Interceptor = (next) => (request) => {
    for (const [name, value] of Object.entries(headers)) request.header.set(name, value);
    return next(request);
  };
  const interceptors = [withHeaders];
  const transports = [createGrpcTransport({ baseUrl: gateway.http2Url, interceptors })];
  if (method.methodKind !== "unary") {
    transports.push(createConnectTransport({ baseUrl: gateway.url, httpVersion: "1.1", interceptors }));
  } else {
    answers.push(told(await gateway.call(path, {}, headers)));
    if (method.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS) {
      answers.push(told(await gateway.get(path, {}, headers)));
    }
  }
  for (const transport of transports) {
    const client = createClient(method.parent, transport) as unknown as Record<
      string,
      (request: object) => unknown
    >;
    const error = ConnectError.from(await settle(client[method.localName]!({})));
    const code = Code[error.code].replace(
      /[A-Z]/g,
      (letter, at) => (at > 0 ? "_" : "") + letter.toLowerCase(),
    );
    answers.push({ code, text: error.message });
  }
  return answers;
}

/** The error that a call or a stream ends in. */
async function settle(call: unknown): Promise<unknown> {
  try {
    if (typeof call === "object" && call !== null && Symbol.asyncIterator in call) {
      for await (const _ of call as AsyncIterable<unknown>) break;
    } else await call;
  } catch (error) {
    return error;
  }
  return new Error("it was not refused");
}

describe.each(methods)("$name", ({ method }) => {
  const strangers: [string, () => Record<string, string>][] = [
    ["no key", () => ({})],
    ["an unknown key", () => ({ Authorization: `Bearer phk_${randomBytes(32).toString("base64url")}` })],
    ["a revoked key", () => revoked.headers],
    ["an expired key", () => expired.headers],
    ["a key of a deleted tenant", () => orphaned.headers],
  ];
  test.each(strangers)("is refused to %s, which is not told why", async (what, headers) => {
    const message =
      what === "no key"
        ? "send a key in the header Authorization: Bearer <key>"
        : "the key is unknown, revoked or expired";
    for (const { code, text } of await callAll(method, headers())) {
      expect(code).toBe("unauthenticated");
      expect(text).toContain(message);
      expect(text).not.toContain("phk_");
    }
  });

  test("is refused to a key that has every scope but the one it needs, which the message names", async () => {
    const scope = getOption(method, scopeOption);
    const named = scope === "operator" ? "operator key only" : `lacks the scope ${scope}`;
    for (const { code, text } of await callAll(method, lacking.get(scope)!.headers)) {
      expect(code).toBe("permission_denied");
      expect(text).toContain(named);
    }
  });

  test("is refused to a tenant's key that names a tenant, its own included", async () => {
    const { headers } = lacking.get("operator")!;
    for (const tenant of ["default", "nobody"]) {
      for (const { code } of await callAll(method, { ...headers, "Posthorn-Tenant": tenant })) {
        expect(code).toBe("permission_denied");
      }
    }
  });
});
