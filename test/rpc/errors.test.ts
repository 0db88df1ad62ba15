import { type AddressInfo, createServer } from "node:net";
import { Code } from "@connectrpc/connect";
import pg from "pg";
import pino from "pino";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CreateWebhookRequestSchema } from "../../gen/posthorn/v1/webhook_service_pb.ts";
import { GatewayError, type GatewayErrorKind } from "../../server/domain/errors.ts";
import { toConnectError } from "../../server/rpc/errors.ts";
import { aWebhook, openRpcGateway, type RpcGateway } from "./gateway.ts";

let gateway: RpcGateway;
beforeAll(async () => {
  gateway = await openRpcGateway();
});
afterAll(async () => {
  await gateway.close();
});

const codes: Record<GatewayErrorKind, Code> = {
  invalid_input: Code.InvalidArgument,
  not_found: Code.NotFound,
  already_exists: Code.AlreadyExists,
  wrong_state: Code.FailedPrecondition,
  unauthenticated: Code.Unauthenticated,
  forbidden: Code.PermissionDenied,
  over_limit: Code.ResourceExhausted,
  unavailable: Code.Unavailable,
  unclear: Code.Unknown,
};

describe("an error", () => {
  test.each(Object.entries(codes))(
    "of kind %s has its code, and its message goes to the caller",
    (kind, code) => {
      const error = new GatewayError(kind as GatewayErrorKind, "said", { cause: new Error("not said") });
      const connectError = toConnectError(error, CreateWebhookRequestSchema, pino({ enabled: false }));
      expect(connectError).toMatchObject({ code, rawMessage: "said" });
      expect(JSON.stringify(connectError)).not.toContain("not said");
    },
  );

  test("at a field that the request does not have is told by its message alone", () => {
    const error = new GatewayError("invalid_input", "elsewhere[0]: is wrong", { field: "elsewhere[0]" });
    const connectError = toConnectError(error, CreateWebhookRequestSchema, pino({ enabled: false }));
    expect(connectError).toMatchObject({
      code: Code.InvalidArgument,
      rawMessage: error.message,
      details: [],
    });
  });

  test.each([
    ["refuses connections", failToConnect],
    ["ends the connection", failByShutdown],
    ["breaks off in the middle", failByReset],
  ])("of a database that %s is unavailable: safe to try again", async (_, fail) => {
    const error = await fail();
    expect(error).toBeInstanceOf(Error);
    const connectError = toConnectError(error, CreateWebhookRequestSchema, pino({ enabled: false }));
    expect(connectError).toMatchObject({
      code: Code.Unavailable,
      rawMessage: "the database is not available, try again",
    });
  });

  test("of ours is told to nobody and logged once", async () => {
    await gateway.database.em().execute("ALTER TABLE webhook RENAME TO webhook_away");
    try {
      const linesBefore = gateway.logged.length;
      const answer = await gateway.call("WebhookService/CreateWebhook", aWebhook());
      expect(answer.status).toBe(500);
      expect(answer.body).toEqual({
        code: "internal",
        message: "something went wrong in the gateway; its log says what",
      });
      const lines = gateway.logged.slice(linesBefore).filter((line) => line.msg === "a call failed");
      expect(lines).toHaveLength(1);
      expect(lines[0]).toMatchObject({ level: 50, rpc: "CreateWebhook" });
      expect(JSON.stringify(lines[0])).toContain("webhook");
    } finally {
      await gateway.database.em().execute("ALTER TABLE webhook_away RENAME TO webhook");
    }
  });
});

function failWith(client: pg.Client, act: () => Promise<unknown>): Promise<unknown> {
  client.on("error", () => undefined);
  return act().then(
    () => null,
    (error: unknown) => error,
  );
}

/** A port that was ours a moment ago, so nobody listens there. */
async function failToConnect(): Promise<unknown> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  const client = new pg.Client({ host: "127.0.0.1", port });
  return await failWith(client, () => client.connect());
}

async function failByShutdown(): Promise<unknown> {
  const client = new pg.Client({ connectionString: gateway.databaseUrl });
  await client.connect();
  return await failWith(client, () => client.query("SELECT pg_terminate_backend(pg_backend_pid())"));
}

/** Something that takes the connection and drops it without a word. */
async function failByReset(): Promise<unknown> {
  const server = createServer((socket) => socket.once("data", () => socket.destroy()));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const client = new pg.Client({ host: "127.0.0.1", port: (server.address() as AddressInfo).port });
  const error = await failWith(client, () => client.connect());
  await new Promise((resolve) => server.close(resolve));
  return error;
}
