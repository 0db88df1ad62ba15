import type { ChildProcess } from "node:child_process";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import net from "node:net";
import { Webhook } from "standardwebhooks";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import intelli from "../../plugins/intelli/transformer.ts";
import { type Receiver, startReceiver } from "../helpers/receiver.ts";
import { business } from "../helpers/whatsapp-bodies.ts";
import { aTransformerInput, aUser, bodyOf } from "../plugins/builders.ts";
import { makeBody, makeRequests } from "./bodies.ts";
import { nextReply, startChild, stopChild } from "./children.ts";
import type { RelayOrder, RelayReply } from "./relay.ts";
import { writePayload } from "./relay-payload.ts";

const secrets = [
  "whsec_Zmlyc3Qtc2VjcmV0LW9mLTMyLWJ5dGVzLWxlbmd0aCE=",
  "whsec_c2Vjb25kLXNlY3JldC1vZi0zMi1ieXRlcy1sZW5ndGg=",
];
const phoneNumberId = "620000000000199";

let relay: ChildProcess;
let receiver: Receiver;
let port: number;

beforeEach(async () => {
  receiver = await startReceiver({ answer: { delayMs: 50 } });
  relay = startChild("relay.ts");
  const listening = nextReply<RelayReply, "listening">(relay, "listening");
  const endpoints = secrets.map((secret, index) => ({ url: `${receiver.url}/${index}`, secret }));
  relay.send({
    kind: "start",
    routes: [{ phoneNumberId, clientRef: "bench", endpoints }],
  } satisfies RelayOrder);
  port = (await listening).port;
});

afterEach(async () => {
  await stopChild(relay);
  await receiver.close();
});

describe("the relay that the gateway is compared with", () => {
  test("makes the very bytes that the gateway makes of the same body", () => {
    const { value } = JSON.parse(makeBody(phoneNumberId, 7, "1772712000").toString()).entry[0].changes[0];
    const item = value.messages[0];
    const user = aUser({ phone: item.from, waId: item.from, profileName: value.contacts[0].profile.name });
    const event = {
      occurredAt: new Date("2026-03-05T12:00:00Z"),
      businessPhone: business.phone,
      clientRef: "bench",
      user,
    };
    expect(writePayload(value, "bench")).toBe(bodyOf(intelli, aTransformerInput({ item, event })));
  });

  test("sends to every endpoint, under the gateway's headers, signed with the endpoint's secret", async () => {
    await post(1);
    await receiver.waitForRequests(2);
    expect(receiver.requests.map(({ path }) => path).sort()).toEqual(["/hook/0", "/hook/1"]);
    for (const { path, headers, body } of receiver.requests) {
      const secret = secrets[Number(path.at(-1))]!;
      const text = body.toString();
      expect(headers).toMatchObject({
        "content-type": "application/json",
        "user-agent": expect.any(String),
        "webhook-id": expect.stringMatching(/^[0-9a-f-]{36}$/),
        "x-intelli-signature": `sha256=${createHmac("sha256", secret).update(body).digest("hex")}`,
      });
      expect(new Webhook(secret).verify(text, headers as Record<string, string>)).toEqual(JSON.parse(text));
    }
  });

  test("waits for the answer on each of its connections: all of them are far fewer than the requests", async () => {
    await post(150);
    await receiver.waitForRequests(300, 15_000);
    expect(receiver.connectionCount()).toBeLessThanOrEqual(64);
  });

  test("refuses a body that was not signed with the app secret", async () => {
    const answer = await fetch(`http://127.0.0.1:${port}/whatsapp/webhook`, {
      method: "POST",
      headers: { "x-hub-signature-256": `sha256=${"0".repeat(64)}` },
      body: makeBody(phoneNumberId, 1, "1772712000"),
    });
    expect(answer.status).toBe(401);
  });
});

async function post(count: number): Promise<void> {
  const socket = net.connect(port, "127.0.0.1");
  await once(socket, "connect");
  socket.write(Buffer.concat(makeRequests(`127.0.0.1:${port}`, { phoneNumberId, first: 0, count })));
  let answers = "";
  for await (const chunk of socket) {
    answers += chunk;
    if (answers.split("HTTP/1.1 200 OK").length - 1 === count) break;
  }
  socket.destroy();
}
