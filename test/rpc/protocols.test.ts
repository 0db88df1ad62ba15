import { connect as connectHttp2 } from "node:http2";
import { ViolationsSchema } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { WebhookService } from "../../gen/posthorn/v1/webhook_service_pb.ts";
import { aWebhook, openRpcGateway, operatorKey, type RpcGateway } from "./gateway.ts";

let gateway: RpcGateway;
beforeAll(async () => {
  gateway = await openRpcGateway();
});
afterAll(async () => {
  await gateway.close();
});

const withKey: Interceptor = (next) => (request) => {
  request.header.set("Authorization", `Bearer ${operatorKey}`);
  return next(request);
};

const protocols = [
  {
    name: "Connect over HTTP/1.1",
    transport: (interceptors = [withKey]) =>
      createConnectTransport({ baseUrl: gateway.url, httpVersion: "1.1", interceptors, useHttpGet: true }),
  },
  {
    name: "Connect with JSON over h2c",
    transport: (interceptors = [withKey]) =>
      createConnectTransport({
        baseUrl: gateway.http2Url,
        httpVersion: "2",
        interceptors,
        useBinaryFormat: false,
      }),
  },
  {
    name: "gRPC over h2c",
    transport: (interceptors = [withKey]) => createGrpcTransport({ baseUrl: gateway.http2Url, interceptors }),
  },
  {
    name: "gRPC-Web over HTTP/1.1",
    transport: (interceptors = [withKey]) =>
      createGrpcWebTransport({ baseUrl: gateway.url, httpVersion: "1.1", interceptors }),
  },
  {
    name: "gRPC-Web over h2c",
    transport: (interceptors = [withKey]) =>
      createGrpcWebTransport({ baseUrl: gateway.http2Url, httpVersion: "2", interceptors }),
  },
];

describe.each(protocols)("$name", ({ name, transport }) => {
  test("creates, gives, lists, changes and deletes a webhook", async () => {
    const client = createClient(WebhookService, transport());
    const webhooks = `https://example.com/${encodeURIComponent(name)}`;
    const created = await client.createWebhook({
      webhooks,
      status: false,
      incoming: true,
      scheduleActivity: false,
      waitingDuration: 0,
      activeSignature: true,
      transformerOptions: { history_size: 4 },
    });
    expect(created).toMatchObject({ webhooks, status: false, transformerOptions: { history_size: 4 } });
    expect(created.createdAt).toBe(gateway.clock.at.getTime());
    expect(created.signatureSecret).toMatch(/^whsec_/);
    const { webhook } = await client.getWebhook({ id: created.id });
    expect(webhook).toMatchObject({ id: created.id, activeSignature: true });
    expect((await client.listWebhooks({})).webhooks.map((one) => one.id)).toContain(created.id);
    const { webhook: changed } = await client.updateWebhook({
      id: created.id,
      status: true,
      updateMask: { paths: ["transformer_options"] },
    });
    expect(changed).toMatchObject({ status: true });
    expect(changed?.transformerOptions).toBeUndefined();
    await client.deleteWebhook({ id: created.id });
    await expect(client.getWebhook({ id: created.id })).rejects.toMatchObject({ code: Code.NotFound });
  });

  test("tells code, message and field of an error", async () => {
    const client = createClient(WebhookService, transport());
    const error = await client
      .createWebhook({ webhooks: "" })
      .catch((reason: unknown) => ConnectError.from(reason));
    expect(error).toMatchObject({ code: Code.InvalidArgument });
    const [violations] = (error as ConnectError).findDetails(ViolationsSchema);
    expect(violations?.violations[0]?.field?.elements[0]?.fieldName).toBe("webhooks");
  });

  test("refuses a stranger", async () => {
    const client = createClient(WebhookService, transport([]));
    await expect(client.listWebhooks({})).rejects.toMatchObject({ code: Code.Unauthenticated });
  });
});

describe("JSON", () => {
  test("is read in both spellings and written in snake_case", async () => {
    const { webhooks, status, incoming } = aWebhook();
    const camelCase = {
      webhooks,
      status,
      incoming,
      scheduleActivity: true,
      waitingDuration: 15,
      activeSignature: false,
    };
    const { body } = await gateway.call("WebhookService/CreateWebhook", camelCase);
    expect(body).toMatchObject({ schedule_activity: true, waiting_duration: 15, active_signature: false });
    expect(body).not.toHaveProperty("scheduleActivity");
  });

  test("with a field that does not exist is refused by name", async () => {
    const answer = await gateway.call(
      "WebhookService/CreateWebhook",
      aWebhook({ webhook_url: "https://x.example" }),
    );
    expect(answer.status).toBe(400);
    expect(answer.body.code).toBe("invalid_argument");
    expect(answer.body.message).toContain('"webhook_url" is unknown');
  });

  test.each([
    ["a text for a switch", { status: "yes" }, "status"],
    ["a fraction of a second", { waiting_duration: 0.5 }, "waiting_duration"],
    ["a negative number", { waiting_duration: -1 }, "waiting_duration"],
    ["a list for a text", { webhooks: [] }, "webhooks"],
  ])("of the wrong type is refused with the field: %s", async (_, changes, field) => {
    const answer = await gateway.call("WebhookService/CreateWebhook", aWebhook(changes));
    expect(answer.status).toBe(400);
    expect(answer.body.code).toBe("invalid_argument");
    expect(answer.body.message).toContain(`CreateWebhookRequest.${field}`);
  });

  test("that is none is refused", async () => {
    const answer = await gateway.call("WebhookService/CreateWebhook", "{ no");
    expect(answer.body.code).toBe("invalid_argument");
  });
});

describe("GET", () => {
  test("answers reads, and no cache may keep or share the answers", async () => {
    const found = await gateway.get("WebhookService/ListWebhooks", {});
    const missing = await gateway.get("WebhookService/GetWebhook", { id: 999_999 });
    const refused = await gateway.get("WebhookService/GetWebhook", { id: 1 }, {});
    expect([found.status, missing.status, refused.status]).toEqual([200, 404, 401]);
    for (const { headers } of [found, missing, refused]) {
      expect(headers.get("Cache-Control")).toBe("private, no-store");
      expect(headers.get("Vary")).toBe("Authorization");
    }
  });

  test("changes nothing", async () => {
    const answer = await gateway.get(
      "WebhookService/CreateWebhook",
      aWebhook({ webhooks: "https://get.example/" }),
    );
    expect(answer.status).toBe(405);
    expect(JSON.stringify((await gateway.get("WebhookService/ListWebhooks", {})).body)).not.toContain(
      "get.example",
    );
  });
});

describe("limits", () => {
  test("a request above 4 MiB is refused", async () => {
    const bodies = ["x".repeat(4 * 1024 * 1024)];
    const answer = await gateway.call("EventService/PublishEvents", { bodies });
    expect(answer.status).toBe(429);
    expect(answer.body.code).toBe("resource_exhausted");
  });

  test("a time-out above 30 s is refused", async () => {
    const answer = await gateway.call(
      "WebhookService/ListWebhooks",
      {},
      {
        Authorization: `Bearer ${operatorKey}`,
        "Connect-Timeout-Ms": "30001",
      },
    );
    expect(answer.body.code).toBe("invalid_argument");
  });

  test("an unknown call is not found, over HTTP/2 too", async () => {
    expect((await gateway.call("WebhookService/Nothing", {})).status).toBe(404);
    const session = connectHttp2(gateway.http2Url);
    const status = await new Promise((resolve, reject) => {
      session.on("error", reject);
      const stream = session.request({ ":method": "POST", ":path": "/posthorn.v1.WebhookService/Nothing" });
      stream.on("response", (headers) => resolve(headers[":status"])).on("error", reject);
      stream.end();
    });
    session.close();
    expect(status).toBe(404);
  });
});
