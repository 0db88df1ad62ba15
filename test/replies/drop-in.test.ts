import { beforeEach, describe, expect, test } from "vitest";
import { operatorKey } from "../helpers/gateway.ts";
import { type GraphAnswer, graphError } from "../helpers/graph.ts";
import { customer } from "../helpers/whatsapp-bodies.ts";
import { clientRef, openReplies, type RepliesSetup } from "./open-replies.ts";

let setup: RepliesSetup;
beforeEach(async () => {
  setup = await openReplies();
  return () => setup.close();
});

async function post(path: string, body: unknown, key = operatorKey) {
  const response = await fetch(`${setup.gateway.url()}${path}`, {
    method: "POST",
    headers: { Authorization: `Bearer ${key}`, "Content-Type": "application/json" },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });
  return { status: response.status, body: await response.json() };
}

const aText = (changes: object = {}) => ({
  client_ref: clientRef,
  to: `+${customer.phone}`,
  type: "text",
  text: { body: "Hello" },
  ...changes,
});

test("POST /v1/messages/send sends and answers as documented, whatever else stands in the body", async () => {
  const answer = await post("/v1/messages/send", aText({ something: "else" }));
  const [send] = setup.graph.messages.sends;
  expect(answer).toEqual({ status: 200, body: { success: true, message_id: send!.wamid } });
  expect(send!.body).toMatchObject({ to: `+${customer.phone}`, type: "text", text: { body: "Hello" } });
});

test.each([["en_US"], [{ code: "en_US" }]])(
  "POST /v1/messages/send-template sends a template in language %j",
  async (language) => {
    const template = { name: "order_ready", language, components: [{ type: "body", parameters: [] }] };
    const answer = await post("/v1/messages/send-template", {
      client_ref: clientRef,
      to: customer.phone,
      template,
    });
    expect(answer.body).toEqual({ success: true, message_id: setup.graph.messages.sends[0]!.wamid });
    expect(setup.graph.messages.sends[0]!.body.template).toEqual({
      ...template,
      language: { code: "en_US" },
    });
  },
);

describe("an error has its documented code, a message and the status", () => {
  test.for([
    ["an unknown client", aText({ client_ref: "nobody" }), null, 404, "CLIENT_NOT_FOUND"],
    ["a bad recipient", aText({ to: "asdf" }), null, 400, "INVALID_PHONE"],
    ["no recipient", aText({ to: undefined }), null, 400, "INVALID_PHONE"],
    ["a recipient that is no text", aText({ to: 15558880200 }), null, 400, "INVALID_PHONE"],
    ["a recipient that WhatsApp refuses", aText(), graphError(400, 131030, "x"), 400, "INVALID_PHONE"],
    ["no JSON", "{", null, 400, "VALIDATION_ERROR"],
    ["an unknown type", aText({ type: "poem" }), null, 400, "VALIDATION_ERROR"],
    ["a type without its member", aText({ type: "image" }), null, 400, "VALIDATION_ERROR"],
    ["an empty text", aText({ text: { body: "" } }), null, 400, "VALIDATION_ERROR"],
    ["a text of the wrong kind", aText({ text: { body: 7 } }), null, 400, "VALIDATION_ERROR"],
    ["a template that is not there", aText(), graphError(404, 132001, "x"), 400, "TEMPLATE_NOT_FOUND"],
    ["an undeliverable message", aText(), graphError(400, 131026, "x"), 400, "MESSAGE_FAILED"],
    ["a wrong template", aText(), graphError(400, 132012, "x"), 400, "MESSAGE_FAILED"],
    ["an unclear outcome", aText(), "reset", 500, "MESSAGE_FAILED"],
    ["too many messages", aText(), graphError(400, 130429, "x"), 429, "RATE_LIMITED"],
  ] as [string, object | string, GraphAnswer | null, number, string][])(
    "%s",
    async ([, body, answer, status, code]) => {
      if (answer) setup.graph.messages.answerSends(answer);
      const refused = await post("/v1/messages/send", body);
      expect(refused).toEqual({
        status,
        body: { error: { code, message: expect.stringMatching(/./), status } },
      });
    },
  );

  test("a wrong key, and one without the scope", async () => {
    const wrong = await post("/v1/messages/send", aText(), "phk_wrong");
    expect(wrong).toMatchObject({ status: 401, body: { error: { code: "INVALID_API_KEY", status: 401 } } });
    const { body } = await setup.gateway.call("ApiKeyService/CreateApiKey", {
      name: "reader",
      scopes: ["contacts:read"],
    });
    const poor = await post("/v1/messages/send", aText(), body.key);
    expect(poor).toMatchObject({ status: 403, body: { error: { code: "INSUFFICIENT_SCOPE", status: 403 } } });
  });

  test("a key that calls too often", async () => {
    const { body } = await setup.gateway.call("ApiKeyService/CreateApiKey", {
      name: "hasty",
      scopes: ["messages:send"],
      rate_limit_per_minute: 1,
    });
    expect((await post("/v1/messages/send", aText(), body.key)).status).toBe(200);
    const limited = await post("/v1/messages/send", aText(), body.key);
    expect(limited).toMatchObject({ status: 429, body: { error: { code: "RATE_LIMITED", status: 429 } } });
  });
});
