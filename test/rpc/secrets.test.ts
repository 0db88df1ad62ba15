/** Keys and secrets lie nowhere in clear: not in the database, not in the log, not in an answer beside the first. */

import { afterAll, beforeAll, expect, test } from "vitest";
import { type QueryRows, queryRows } from "../helpers/query-rows.ts";
import { aWebhook, nextOperatorKey, openRpcGateway, type RpcGateway } from "./gateway.ts";

const accessToken = "EAAaccess-token-of-a-client-to-hide";
const appSecret = "app-secret-of-a-client-to-hide";
const headerValue = "header-value-to-hide";
const ownSecret = "an own signing secret to hide";

let gateway: RpcGateway;
let query: QueryRows;
beforeAll(async () => {
  gateway = await openRpcGateway();
  query = queryRows(gateway.databaseUrl);
});
afterAll(async () => {
  await gateway.close();
});

/** Every column of every row of every table, as text; bytes as hex and as the text that they may be. */
async function dumpDatabase(): Promise<string> {
  const columns = await query(
    `SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public'`,
  );
  let dump = "";
  for (const { table_name, column_name, data_type } of columns) {
    const column = `"${column_name}"`;
    const text =
      data_type === "bytea"
        ? `encode(${column}, 'hex') || ' ' || encode(${column}, 'escape')`
        : `${column}::text`;
    const [row] = await query(`SELECT string_agg(${text}, ' ') AS text FROM "${table_name}"`);
    dump += `${table_name}.${column_name}: ${row.text}\n`;
  }
  return dump;
}

/** The forms that a secret might lie in. */
function formsOf(secret: string): string[] {
  const tail = secret.replace(/^(whsec_|phk_)/, "");
  return [tail, Buffer.from(tail).toString("hex"), Buffer.from(tail).toString("base64").slice(0, 24)];
}

test("no key, secret, token or header value is in a dump of the database, in the log or in a later answer", async () => {
  const answers: string[] = [];
  const call = async (method: string, request: unknown, headers?: Record<string, string>) => {
    const answer = await gateway.call(method, request, headers);
    answers.push(answer.text);
    return answer;
  };
  const shown: string[] = [];
  /** For calls whose answer holds a secret, this once. */
  const showing = async (method: string, request: unknown, field: string) => {
    const answer = await gateway.call(method, request);
    expect(answer.status, answer.text).toBe(200);
    shown.push(answer.body[field]);
    answers.push(answer.text.replace(answer.body[field], ""));
    return answer.body;
  };
  const scopes = ["webhooks:read", "webhooks:write", "clients:read", "deliveries:read"];
  const { key, api_key } = await showing("ApiKeyService/CreateApiKey", { name: "one", scopes }, "key");
  const headers = { Authorization: `Bearer ${key}` };
  const request = aWebhook({
    active_signature: true,
    headers: { "X-Secret": headerValue },
    idempotency_key: "secrets-test",
  });
  const { id } = await showing("WebhookService/CreateWebhook", request, "signature_secret");
  await call("WebhookService/CreateWebhook", request);
  const own = aWebhook({
    webhooks: "https://example.com/own",
    active_signature: true,
    signature_secret: ownSecret,
  });
  await showing("WebhookService/CreateWebhook", own, "signature_secret");
  await showing("WebhookService/RotateWebhookSecret", { id }, "signature_secret");
  await call("ClientService/CreateClient", {
    client_ref: "with-secrets",
    phone_numbers: [{ phone_number_id: "620000000000777" }],
    access_token: accessToken,
    app_secret: appSecret,
  });
  await call("ClientService/GetClient", { client_ref: "with-secrets" }, headers);
  await call("ClientService/ListClients", {}, headers);
  await call("WebhookService/GetWebhook", { id }, headers);
  await call("WebhookService/ListWebhooks", {}, headers);
  await call("WebhookService/UpdateWebhook", { id, headers: { "X-Secret": headerValue } }, headers);
  await call("ApiKeyService/ListApiKeys", {}, { Authorization: `Bearer ${nextOperatorKey}` });
  await call("AuditService/ListAuditEntries", { page_size: 500 });
  await call("WebhookService/CreateWebhook", own);
  await call("WebhookService/CreateWebhook", { ...own, headers: { Host: headerValue } });
  await call("ClientService/UpdateClient", { client_ref: "nobody", access_token: accessToken });
  // What is no JSON, right beside a secret.
  await call("WebhookService/CreateWebhook", `{"signature_secret":"${ownSecret}"x}`);
  await call("WebhookService/CreateWebhook", `{"signature_secret":"${ownSecret}`);
  await call("WebhookService/CreateWebhook", `${ownSecret}`);
  // Secrets of the wrong type.
  await call("WebhookService/CreateWebhook", { ...own, headers: headerValue });
  await call("WebhookService/CreateWebhook", { ...own, headers: { "X-Secret": [headerValue] } });
  await call("WebhookService/CreateWebhook", { ...own, signature_secret: { secret: ownSecret } });
  await call("WebhookService/CreateWebhook", JSON.stringify(ownSecret));
  await call("ApiKeyService/RevokeApiKey", { id: api_key.id });
  await call("WebhookService/ListWebhooks", {}, headers);
  await call("WebhookService/ListWebhooks", {}, { Authorization: `Bearer ${key}x` });

  const places = {
    "the database": await dumpDatabase(),
    "the log": JSON.stringify(gateway.logged),
    "the answers": answers.join("\n"),
  };
  // A dump that misses things would prove nothing.
  expect(places["the database"]).toContain("https://example.com/own");
  expect(places["the database"]).toContain("with-secrets");
  expect(shown).toHaveLength(4);
  for (const secret of [...shown, ownSecret, accessToken, appSecret, headerValue, nextOperatorKey]) {
    for (const form of formsOf(secret)) {
      for (const [place, text] of Object.entries(places)) {
        expect(text.includes(form), `${place} holds ${secret}`).toBe(false);
      }
    }
  }
});
