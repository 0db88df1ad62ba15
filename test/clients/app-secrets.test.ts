import { createHmac } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { appSecret as operatorSecret, startTestGateway, type TestGateway } from "../helpers/gateway.ts";
import { queryRows } from "../helpers/query-rows.ts";
import { anEnvelope, aTextMessage, toBytes } from "../helpers/whatsapp-bodies.ts";

const ownSecret = "app-secret-of-the-own-app";
const otherSecret = "app-secret-of-another-app";

let counter = 0;

/** A message to a number, in a change of its own. */
function messageTo(phoneNumberId: string, id = `wamid.secret-${++counter}`) {
  return {
    field: "messages",
    value: { metadata: { phone_number_id: phoneNumberId }, messages: [aTextMessage({ id })] },
  };
}

async function post(gateway: TestGateway, body: unknown, secret: string | null): Promise<number> {
  const bytes = toBytes(body);
  const signature = secret === null ? null : createHmac("sha256", secret).update(bytes).digest("hex");
  const answer = await fetch(`${gateway.url()}/whatsapp/webhook`, {
    method: "POST",
    headers: signature === null ? {} : { "X-Hub-Signature-256": `sha256=${signature}` },
    body: bytes as Uint8Array<ArrayBuffer>,
  });
  await answer.arrayBuffer();
  return answer.status;
}

async function addClients(gateway: TestGateway): Promise<void> {
  for (const client of [
    {
      client_ref: "own",
      phone_numbers: [{ phone_number_id: "81" }],
      waba_ids: ["w-81"],
      app_secret: ownSecret,
    },
    { client_ref: "sibling", phone_numbers: [{ phone_number_id: "82" }], app_secret: ownSecret },
    { client_ref: "other", phone_numbers: [{ phone_number_id: "83" }], app_secret: otherSecret },
    { client_ref: "plain", phone_numbers: [{ phone_number_id: "84" }], waba_ids: ["w-84"] },
  ]) {
    expect((await gateway.call("ClientService/CreateClient", client)).status).toBe(200);
  }
}

/** Numbers (or types, where there is none) of the events that a body left behind. */
async function storedOf(gateway: TestGateway, send: () => Promise<number>): Promise<[number, string[]]> {
  const rows = queryRows(gateway.databaseUrl);
  const [last] = await rows("SELECT coalesce(max(id::text), '') AS id FROM event");
  const status = await send();
  const found = await rows(
    "SELECT coalesce(phone_number_id, type) AS what FROM event WHERE id::text > $1 ORDER BY 1",
    [last.id],
  );
  return [status, found.map((row) => row.what)];
}

const account = (id: string) =>
  anEnvelope([{ field: "account_update", value: { event: `E${++counter}` } }], { id, time: 1772712000 });

describe("with secrets of the operator and of clients", () => {
  let gateway: TestGateway;
  beforeAll(async () => {
    gateway = await startTestGateway();
    await addClients(gateway);
  });
  afterAll(() => gateway.close());

  test.each<[string, () => unknown, string | null, number, string[]]>([
    [
      "its own secret's items for a client that has one",
      () => anEnvelope([messageTo("81")]),
      ownSecret,
      200,
      ["81"],
    ],
    ["its own secret's account events", () => account("w-81"), ownSecret, 200, ["whatsapp.account_update"]],
    [
      "items of two clients that share a secret",
      () => anEnvelope([messageTo("81"), messageTo("82")]),
      ownSecret,
      200,
      ["81", "82"],
    ],
    [
      "the operator's items for a client without one",
      () => anEnvelope([messageTo("84")]),
      operatorSecret,
      200,
      ["84"],
    ],
    [
      "the operator's account events",
      () => account("w-84"),
      operatorSecret,
      200,
      ["whatsapp.account_update"],
    ],
    [
      "nothing of the operator's for a client with one",
      () => anEnvelope([messageTo("81")]),
      operatorSecret,
      401,
      [],
    ],
    ["no account events of the operator's either", () => account("w-81"), operatorSecret, 401, []],
    ["nothing of one client's for a client without", () => anEnvelope([messageTo("84")]), ownSecret, 401, []],
    ["nothing of another client's", () => anEnvelope([messageTo("81")]), otherSecret, 401, []],
    [
      "only the operator's part of a mixed body",
      () => anEnvelope([messageTo("81"), messageTo("84")]),
      operatorSecret,
      200,
      ["84"],
    ],
    [
      "only its part of a mixed body for a client's",
      () => anEnvelope([messageTo("81"), messageTo("84"), messageTo("83")]),
      ownSecret,
      200,
      ["81"],
    ],
    [
      "no unknown number of a client's",
      () => anEnvelope([messageTo("81"), messageTo("8999")]),
      ownSecret,
      200,
      ["81"],
    ],
    ["no unknown account of a client's", () => account("w-nobody's"), ownSecret, 401, []],
    [
      "nothing of a secret that nobody has",
      () => anEnvelope([messageTo("81")]),
      "unknown-secret-entirely",
      401,
      [],
    ],
    ["nothing unsigned", () => anEnvelope([messageTo("84")]), null, 401, []],
  ])("takes %s", async (_, body, secret, status, stored) => {
    const made = body();
    expect(await storedOf(gateway, () => post(gateway, made, secret))).toEqual([status, stored]);
  });

  test("makes no client for a number that a client's app names", async () => {
    await post(gateway, anEnvelope([messageTo("81"), messageTo("8998")]), ownSecret);
    expect((await gateway.call("ClientService/GetClient", { client_ref: "8998" })).status).toBe(404);
  });

  test("says in the log that it dropped events, and no secret", async () => {
    const lines = gateway.logged.filter((line) => String(line.msg).includes("app secret"));
    expect(lines).not.toHaveLength(0);
    expect(lines[0]).toMatchObject({ eventCount: expect.any(Number), phoneNumberIds: expect.any(Array) });
    for (const secret of [ownSecret, otherSecret])
      expect(JSON.stringify(gateway.logged)).not.toContain(secret);
  });

  test("follows a change of the secret at once", async () => {
    const update = (fields: object) =>
      gateway.call("ClientService/UpdateClient", { client_ref: "other", ...fields });
    const send = (secret: string) => post(gateway, anEnvelope([messageTo("83")]), secret);
    await update({ app_secret: "app-secret-of-the-next-app" });
    expect([
      await send("app-secret-of-the-next-app"),
      await send(otherSecret),
      await send(operatorSecret),
    ]).toEqual([200, 401, 401]);
    await update({ update_mask: "appSecret" });
    expect([await send(operatorSecret), await send("app-secret-of-the-next-app")]).toEqual([200, 401]);
  });

  test("follows a change that another process made", async () => {
    const second = await startTestGateway({ databaseUrl: gateway.databaseUrl });
    try {
      await second.call("ClientService/CreateClient", {
        client_ref: "elsewhere",
        phone_numbers: [{ phone_number_id: "85" }],
      });
      expect(await post(gateway, anEnvelope([messageTo("85")]), operatorSecret)).toBe(200);
      await second.call("ClientService/UpdateClient", {
        client_ref: "elsewhere",
        app_secret: "set-by-the-other-process",
      });
      expect(await post(gateway, anEnvelope([messageTo("85")]), operatorSecret)).toBe(401);
    } finally {
      await second.close();
    }
  });
});

describe("without a secret of the operator", () => {
  const production = {
    NODE_ENV: "production",
    WHATSAPP_APP_SECRET: "",
    POSTHORN_PUBLIC_URL: "https://gateway.example.com",
  };

  test("production works for the clients that have one, and refuses the rest", async () => {
    const gateway = await startTestGateway({ env: production });
    try {
      expect(await post(gateway, anEnvelope([messageTo("81")]), ownSecret)).toBe(403);
      await addClients(gateway);
      expect(
        await storedOf(gateway, () =>
          post(gateway, anEnvelope([messageTo("81"), messageTo("84")]), ownSecret),
        ),
      ).toEqual([200, ["81"]]);
      expect(await post(gateway, anEnvelope([messageTo("81")]), null)).toBe(401);
      expect(await post(gateway, anEnvelope([messageTo("84")]), ownSecret)).toBe(401);
      expect(await post(gateway, anEnvelope([messageTo("84")]), "")).toBe(401);
    } finally {
      await gateway.close();
    }
  });

  test("development takes from anybody what is of clients without one", async () => {
    const gateway = await startTestGateway({ env: { WHATSAPP_APP_SECRET: "" } });
    try {
      await addClients(gateway);
      expect(await post(gateway, anEnvelope([messageTo("84")]), null)).toBe(200);
      expect(await post(gateway, anEnvelope([messageTo("81")]), null)).toBe(401);
      expect(await post(gateway, anEnvelope([messageTo("81")]), ownSecret)).toBe(200);
    } finally {
      await gateway.close();
    }
  });
});
