import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { makeCertificate } from "../helpers/certificate.ts";
import { startTestGateway, type TestGateway } from "../helpers/gateway.ts";
import { openTestGraph, type TestGraph } from "../helpers/graph.ts";

const token = "EAA-token-of-a-tenant";
let directory: string;
let graph: TestGraph;
const env = () => ({
  NODE_ENV: "production",
  POSTHORN_PUBLIC_URL: "https://gateway.example.com",
  WHATSAPP_GRAPH_URL: `${graph.url}/graph`,
  WHATSAPP_GRAPH_VERSION: "v24.0",
});
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "posthorn-proof-"));
  const certificate = makeCertificate();
  await writeFile(join(directory, "ca.pem"), certificate.cert);
  graph = await openTestGraph(certificate);
});
afterAll(async () => {
  await graph.close();
  await rm(directory, { recursive: true });
});

/** CreateClient with a key of tenant `default`. */
async function createClient(gateway: TestGateway, phoneNumberId: string) {
  const made = await gateway.call("ApiKeyService/CreateApiKey", {
    name: "tenant",
    scopes: ["clients:write"],
  });
  const answer = await fetch(`${gateway.url()}/posthorn.v1.ClientService/CreateClient`, {
    method: "POST",
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${made.body.key}` },
    body: JSON.stringify({
      client_ref: `client-${phoneNumberId}`,
      phone_numbers: [{ phone_number_id: phoneNumberId }],
      access_token: token,
    }),
  });
  return { status: answer.status, body: (await answer.json()) as { code?: string } };
}

test("the gateway asks the configured Graph API, by its version, over a connection that it has verified", async () => {
  graph.answerWith((request) =>
    request.path === "/v24.0/4242" && request.accessToken === token
      ? { status: 200, body: { id: "4242" } }
      : { status: 404 },
  );
  const gateway = await startTestGateway({ env: { ...env(), POSTHORN_CA_FILE: join(directory, "ca.pem") } });
  try {
    expect((await createClient(gateway, "4242")).status).toBe(200);
    expect((await createClient(gateway, "4243")).body.code).toBe("invalid_argument");
    expect(JSON.stringify(gateway.logged)).not.toContain(token);
  } finally {
    await gateway.close();
  }
});

test("a Graph API whose certificate nobody vouches for gets no token", async () => {
  graph.requests.length = 0;
  const gateway = await startTestGateway({ env: env() });
  try {
    expect(await createClient(gateway, "4244")).toMatchObject({ status: 503, body: { code: "unavailable" } });
    expect(graph.requests).toEqual([]);
  } finally {
    await gateway.close();
  }
});
