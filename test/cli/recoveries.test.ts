import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestGateway, type TestGateway } from "../helpers/gateway.ts";
import { type Receiver, startReceiver } from "../helpers/receiver.ts";
import { waitFor } from "../helpers/wait.ts";
import { aChange, anEnvelope, aTextMessage } from "../helpers/whatsapp-bodies.ts";
import { openPosthorn, type Posthorn } from "./posthorn.ts";

let gateway: TestGateway;
let receiver: Receiver;
let posthorn: Posthorn;
let webhookId: number;
let status = 500;

beforeAll(async () => {
  gateway = await startTestGateway({ env: { POSTHORN_RETRY_SECONDS: "none" } });
  receiver = await startReceiver({ answer: () => ({ status }) });
  posthorn = await openPosthorn(() => gateway.url());
  webhookId = (await gateway.createWebhook({ webhooks: receiver.url })).id;
});
afterAll(async () => {
  await posthorn?.close();
  await receiver?.close();
  await gateway?.close();
});

async function post(from: number, to: number): Promise<void> {
  const messages = Array.from({ length: to - from }, (_, index) =>
    aTextMessage({ id: `wamid.${from + index}` }),
  );
  expect(await gateway.postBody(anEnvelope([aChange({ messages })]))).toBe(200);
}

describe("recoveries", () => {
  test("none say so", async () => {
    expect((await posthorn.run(["recoveries", "list"])).stdout).toBe("none\n");
  });

  test("are started, shown and listed", async () => {
    await post(0, 5);
    await gateway.waitForStates(5, ["failed"]);
    status = 200;
    const started = await posthorn.run([
      ...["recoveries", "start", "--webhook", String(webhookId), "--state", "failed"],
      ...["--event-type", "message.*", "--since", "1h", "--rate", "500", "--json"],
    ]);
    expect(started.json).toMatchObject({
      webhook_id: webhookId,
      missed: false,
      states: ["failed"],
      event_types: ["message.*"],
      rate_per_second: 500,
      total: 5,
    });
    await waitFor(
      "recovery that is done",
      async () => (await posthorn.run(["recoveries", "show", started.json.id, "--json"])).json,
      ({ state }) => state === "done",
    );
    const { stdout } = await posthorn.run(["recoveries", "list"]);
    expect(stdout).toMatch(new RegExp(`done +5 +5 +5 +0 +${webhookId} +${started.json.id}$`, "m"));
    const shown = await posthorn.run(["recoveries", "show", started.json.id]);
    expect(shown.stdout).toMatch(/^delivered +5$/m);
  });

  test("bring what was missed, and are canceled", async () => {
    await gateway.updateWebhook(webhookId, { status: false });
    await post(5, 65);
    await gateway.updateWebhook(webhookId, { status: true });
    const started = await posthorn.run(["recoveries", "start", "--missed", "--rate", "1", "--json"]);
    expect(started.json).toMatchObject({ missed: true, states: [], total: 60 });
    const canceled = await posthorn.run(["recoveries", "cancel", started.json.id, "--json"]);
    expect(canceled.code).toBe(0);
    expect(canceled.json).toMatchObject({ id: started.json.id, state: "canceled" });
    expect(canceled.json.done).toBeLessThan(60);
  });

  test.each([
    [["show", "0199c0de-0000-7000-8000-000000000001"], 3, /recovery .* does not exist/],
    [["cancel", "0199c0de-0000-7000-8000-000000000001"], 3, /recovery .* does not exist/],
    [["start", "--webhook", "999"], 3, /webhook 999 does not exist/],
    [["start", "--state", "skipped"], 2, /states\[0\]/],
    [["start", "--state", "failed", "--missed"], 2, /states: must be empty with missed/],
    [["start", "--rate", "2000"], 2, /rate_per_second/],
  ])("%s fails in one line", async (args, expected, message) => {
    const { code, stdout, stderr } = await posthorn.run(["recoveries", ...(args as string[])]);
    expect([code, stdout]).toEqual([expected, ""]);
    expect(stderr).toMatch(message as RegExp);
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
  });
});
