import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type GraphAnswer, graphError, openTestGraph, type TestGraph } from "../helpers/graph.ts";
import { type Answer, asTenant, fieldsAtFault, openRpcGateway, type RpcGateway } from "./gateway.ts";

const token = "EAA-token-of-the-bakery";
let graph: TestGraph;
let gateway: RpcGateway;
let key: Record<string, string>;
beforeAll(async () => {
  graph = await openTestGraph();
  gateway = await openRpcGateway({
    mode: "production",
    tenants: ["acme"],
    graphUrl: graph.url,
    graphTimeoutMs: 300,
    autoClients: false,
  });
  key = (await gateway.createKey({}, "acme")).headers;
  for (const id of ["9001", "9002", "9003", "9004"]) graph.addNumber(id, token);
  graph.addNumber("9900", "EAA-token-of-somebody-else");
});
afterEach(() => {
  graph.answerWith(null);
  graph.requests.length = 0;
});
afterAll(async () => {
  await gateway.close();
  await graph.close();
});

let counter = 0;
const numbers = (...ids: string[]) => ids.map((id) => ({ phone_number_id: id }));
const create = (fields: Record<string, unknown>, headers = key) =>
  gateway.call("ClientService/CreateClient", { client_ref: `proved-${++counter}`, ...fields }, headers);
const update = (fields: Record<string, unknown>) => gateway.call("ClientService/UpdateClient", fields, key);

function expectRefusal(answer: Answer, code: string, field?: string): void {
  expect(answer.body.code).toBe(code);
  if (field !== undefined) expect(fieldsAtFault(answer)).toEqual([field]);
  expect(answer.text).not.toContain(token);
  expect(JSON.stringify(gateway.logged)).not.toContain(token);
}

describe("in production a tenant's key", () => {
  test("adds a number that Graph shows to the access token, and learns how it is dialled", async () => {
    const answer = await create({ phone_numbers: numbers("9001"), access_token: token });
    expect(answer.body.client.phone_numbers).toEqual([
      { phone_number_id: "9001", display_phone_number: "+15557770100" },
    ]);
    expect(graph.requests).toMatchObject([
      { method: "GET", version: "v23.0", path: "/9001", accessToken: token },
    ]);
  });

  test.each<[string, Record<string, unknown>, string, string?]>([
    ["no token", { phone_numbers: numbers("9002") }, "invalid_argument", "access_token"],
    [
      "a token that Graph refuses",
      { phone_numbers: numbers("9002"), access_token: "EAA-wrong" },
      "invalid_argument",
      "access_token",
    ],
    [
      "a number of somebody else",
      { phone_numbers: numbers("9002", "9900"), access_token: token },
      "invalid_argument",
      "phone_numbers[1].phone_number_id",
    ],
    [
      "a number that does not exist",
      { phone_numbers: numbers("12345"), access_token: token },
      "invalid_argument",
      "phone_numbers[0].phone_number_id",
    ],
  ])("is refused with %s, and nothing is stored", async (_, fields, code, field) => {
    const clientRef = `refused-${++counter}`;
    expectRefusal(await create({ client_ref: clientRef, ...fields }), code, field);
    const found = await gateway.call("ClientService/GetClient", { client_ref: clientRef }, key);
    expect(found.status).toBe(404);
  });

  test.each<[string, GraphAnswer, string, string?]>([
    [
      "another id",
      { status: 200, body: { id: "9999" } },
      "invalid_argument",
      "phone_numbers[0].phone_number_id",
    ],
    ["no id", { status: 200, body: {} }, "invalid_argument", "phone_numbers[0].phone_number_id"],
    ["401", graphError(401, 190, `bad token ${token}`), "invalid_argument", "access_token"],
    [
      "400 for a token that ended",
      graphError(400, 190, `Session has expired ${token}`),
      "invalid_argument",
      "access_token",
    ],
    ["403", graphError(403, 10, "no permission"), "invalid_argument", "access_token"],
    ["404", graphError(404, 803, "does not exist"), "invalid_argument", "phone_numbers[0].phone_number_id"],
    ["400 for too many calls", graphError(400, 4, "Application request limit reached"), "unavailable"],
    ["429", graphError(429, 80007, "rate limit"), "unavailable"],
    ["500", graphError(500, 1, "unknown"), "unavailable"],
    ["text that is no JSON", { status: 200, body: "<html>" }, "unavailable"],
    [
      "more than an answer may hold",
      { status: 200, body: { id: "9002", padding: "x".repeat(100_000) } },
      "unavailable",
    ],
    ["nothing within its time", "hang", "unavailable"],
    ["a broken connection", "reset", "unavailable"],
  ])("is refused when Graph answers %s", async (_, graphAnswer, code, field) => {
    graph.answerWith(graphAnswer);
    expectRefusal(await create({ phone_numbers: numbers("9002"), access_token: token }), code, field);
  });

  test("is not taken elsewhere: a redirect is not followed", async () => {
    const elsewhere = await openTestGraph();
    elsewhere.addNumber("9002", token);
    graph.answerWith({ status: 302, headers: { Location: `${elsewhere.url}/v23.0/9002` } });
    expectRefusal(await create({ phone_numbers: numbers("9002"), access_token: token }), "unavailable");
    expect(elsewhere.requests).toEqual([]);
    await elsewhere.close();
  });

  test("proves what is new with the stored token or the one given, and nothing else again", async () => {
    const clientRef = "growing";
    expect((await create({ client_ref: clientRef, access_token: token })).status).toBe(200);
    expect((await update({ client_ref: clientRef, phone_numbers: numbers("9002") })).status).toBe(200);
    graph.requests.length = 0;
    expect((await update({ client_ref: clientRef, phone_numbers: numbers("9002", "9003") })).status).toBe(
      200,
    );
    expect(graph.requests.map((request) => request.path)).toEqual(["/9003"]);
    const stolen = await update({ client_ref: clientRef, phone_numbers: numbers("9002", "9003", "9900") });
    expectRefusal(stolen, "invalid_argument", "phone_numbers[2].phone_number_id");
    const wrong = await update({
      client_ref: clientRef,
      phone_numbers: numbers("9002", "9004"),
      access_token: "EAA-x",
    });
    expectRefusal(wrong, "invalid_argument", "access_token");
    const cleared = await update({
      client_ref: clientRef,
      phone_numbers: numbers("9004"),
      update_mask: "accessToken",
    });
    expectRefusal(cleared, "invalid_argument", "access_token");
  });

  test("learns that a number is taken only after it has proved it", async () => {
    await create({ phone_numbers: numbers("9900") }, asTenant("default"));
    expectRefusal(await create({ phone_numbers: numbers("9900"), access_token: token }), "invalid_argument");
    const proved = await create({
      phone_numbers: numbers("9900"),
      access_token: "EAA-token-of-somebody-else",
    });
    expect(proved.body.code).toBe("already_exists");
  });
});

test("the operator's key proves nothing, and neither does a tenant's outside production", async () => {
  graph.answerWith("reset");
  expect((await create({ phone_numbers: numbers("9050") }, asTenant("acme"))).status).toBe(200);
  const development = await openRpcGateway({ graphUrl: graph.url });
  try {
    const { headers } = await development.createKey();
    const fields = { client_ref: "dev", phone_numbers: numbers("9051") };
    expect((await development.call("ClientService/CreateClient", fields, headers)).status).toBe(200);
  } finally {
    await development.close();
  }
  expect(graph.requests).toEqual([]);
});

test("Graph that is away makes the call unavailable", async () => {
  const away = await openRpcGateway({ mode: "production" });
  try {
    const { headers } = await away.createKey();
    const fields = { client_ref: "away", phone_numbers: numbers("9060"), access_token: token };
    const answer = await away.call("ClientService/CreateClient", fields, headers);
    expect([answer.status, answer.body.code]).toEqual([503, "unavailable"]);
    expect(answer.text).not.toContain(token);
  } finally {
    await away.close();
  }
});
