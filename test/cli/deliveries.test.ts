import { createInterface } from "node:readline";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startDatabaseProxy } from "../helpers/database-proxy.ts";
import { operatorKey, startTestGateway, type TestGateway } from "../helpers/gateway.ts";
import { type Receiver, startReceiver } from "../helpers/receiver.ts";
import { waitFor } from "../helpers/wait.ts";
import { anInboundBody, aTextMessage } from "../helpers/whatsapp-bodies.ts";
import { openPosthorn, type Posthorn } from "./posthorn.ts";

let gateway: TestGateway;
let receiver: Receiver;
let posthorn: Posthorn;
let webhook: { id: number; signature_secret: string };
let status = 200;

beforeAll(async () => {
  gateway = await startTestGateway({ env: { POSTHORN_RETRY_SECONDS: "none" } });
  receiver = await startReceiver({ answer: () => ({ status, body: "taken\u001b[31m" }) });
  posthorn = await openPosthorn(() => gateway.url());
  webhook = await gateway.createWebhook({ webhooks: receiver.url, active_signature: true });
});
afterAll(async () => {
  await posthorn?.close();
  await receiver?.close();
  await gateway?.close();
});

/** Makes one delivery that ends with the answer's status; gives its id. */
async function deliver(messageId: string, answerStatus: number): Promise<string> {
  status = answerStatus;
  const before = (await gateway.deliveries()).length;
  expect(await gateway.postBody(anInboundBody(aTextMessage({ id: messageId })))).toBe(200);
  const all = await gateway.waitForStates(before + 1, ["delivered", "failed"]);
  return all.at(-1)!.id;
}

describe("deliveries", () => {
  test("none say so", async () => {
    const { code, stdout } = await posthorn.run(["deliveries", "list"]);
    expect([code, stdout]).toEqual([0, "none\n"]);
    expect((await posthorn.run(["deliveries", "list", "--json"])).json).toEqual([]);
  });

  test("are listed newest first, and narrowed by every filter", async () => {
    const good = await deliver("wamid.good", 200);
    const bad = await deliver("wamid.bad", 500);
    const ids = async (...args: string[]) => {
      const { code, json } = await posthorn.run(["deliveries", "list", "--json", ...args]);
      expect(code).toBe(0);
      return json.map((each: { id: string }) => each.id);
    };
    expect(await ids()).toEqual([bad, good]);
    expect(await ids("--state", "failed,pending")).toEqual([bad]);
    expect(await ids("--webhook", String(webhook.id), "--limit", "1")).toEqual([bad]);
    expect(await ids("--event-type", "message.reaction")).toEqual([]);
    expect(await ids("--since", "1h")).toEqual([bad, good]);
    expect(await ids("--until", "1h")).toEqual([]);
    const table = await posthorn.run(["deliveries", "list", "--limit", "1"]);
    expect(table.stdout).toMatch(
      new RegExp(`failed +1 +${webhook.id} +message\\.received +${bad} +attempts_exhausted`),
    );
    expect(table.stderr).toContain("There are more");
  });

  test("show their attempts and the body sent, without the secret, and without what would colour the screen", async () => {
    const id = await deliver("wamid.shown", 200);
    const { code, stdout, stderr } = await posthorn.run(["deliveries", "show", id]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^state +delivered$/m);
    expect(stdout).toMatch(/^1 +20\S+ +\d+ +succeeded +200 +- +taken\\u001b\[31m$/m);
    expect(stdout).toContain('"id":"wamid.shown"');
    expect(stdout + stderr).not.toContain("\u001b");
    expect(stdout + stderr).not.toContain(webhook.signature_secret);
    const { json } = await posthorn.run(["deliveries", "show", id, "--json"]);
    expect(json).toMatchObject({
      delivery: { id, state: "delivered" },
      attempts: [{ number: 1, outcome: "succeeded" }],
    });
    expect(Buffer.from(json.body, "base64").toString()).toContain("wamid.shown");
  });

  test("that failed are sent again", async () => {
    const id = await deliver("wamid.again", 503);
    status = 200;
    const { code, json } = await posthorn.run(["deliveries", "retry", id, "--json"]);
    expect(code).toBe(0);
    expect(json.id).toBe(id);
    await waitFor(
      "delivered delivery",
      async () => (await gateway.deliveries()).find((each) => each.id === id)?.state,
      (state) => state === "delivered",
    );
  });

  test.each([
    [["deliveries", "show", "0199c0de-0000-7000-8000-000000000001"], 3, /does not exist/],
    [["deliveries", "show", "no-id"], 2, /^posthorn: id: must be a valid UUID/],
    [["deliveries", "retry", "0199c0de-0000-7000-8000-000000000001"], 3, /does not exist/],
    [["deliveries", "list", "--webhook", "999"], 3, /webhook/],
    [["deliveries", "list", "--state", "lost"], 2, /^posthorn: states\[0\]: /],
    [["deliveries", "list", "--since", "yesterday"], 2, /--since.*2026-03-05T12:00:00Z, 30m, 6h or 7d/],
    [["deliveries", "list", "--limit", "0"], 2, /--limit.*at least 1/],
  ])("%s fails in one line", async (args, expected, message) => {
    const { code, stdout, stderr } = await posthorn.run(args as string[]);
    expect(code).toBe(expected);
    expect(stdout).toBe("");
    expect(stderr).toMatch(message as RegExp);
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
  });

  test("are followed by tail as their attempts end, and only from then on", async () => {
    const known = await deliver("wamid.known", 200);
    const child = posthorn.start(["deliveries", "tail", "--json"]);
    const lines: { delivery: { id: string; state: string }; attempt: { number: number } }[] = [];
    const notes: string[] = [];
    createInterface({ input: child.stdout! }).on("line", (line) => lines.push(JSON.parse(line)));
    createInterface({ input: child.stderr! }).on("line", (line) => notes.push(line));
    try {
      await waitFor(
        "word that it follows",
        () => notes,
        (seen) => seen.length > 0,
      );
      const id = await deliver("wamid.followed", 200);
      await waitFor(
        "line of the attempt",
        () => lines,
        (seen) => seen.length > 0,
      );
      expect(lines.at(-1)).toMatchObject({
        delivery: { id, state: "delivered", attempt_count: 1 },
        attempt: { number: 1, outcome: "succeeded", response_status: 200 },
      });
      expect(lines.some(({ delivery }) => delivery.id === known)).toBe(false);
    } finally {
      child.kill("SIGKILL");
    }
  });

  test("are followed on without a gap when the connection broke in the middle", async () => {
    const proxy = await startDatabaseProxy(gateway.url());
    const child = posthorn.start(["deliveries", "tail", "--json"], { env: { POSTHORN_URL: proxy.url } });
    const ids: string[] = [];
    const notes: string[] = [];
    createInterface({ input: child.stdout! }).on("line", (line) => ids.push(JSON.parse(line).delivery.id));
    createInterface({ input: child.stderr! }).on("line", (line) => notes.push(line));
    const untilSeen = (id: string) =>
      waitFor(
        `line of ${id}`,
        () => ({ ids, notes, exitCode: child.exitCode }),
        (seen) => seen.ids.includes(id),
      );
    try {
      await waitFor(
        "word that it follows",
        () => notes,
        (seen) => seen.length > 0,
      );
      const before = await deliver("wamid.before", 200);
      await untilSeen(before);
      proxy.cut();
      const missed = await deliver("wamid.missed", 200);
      proxy.mend();
      await untilSeen(missed);
      const after = await deliver("wamid.after", 200);
      await untilSeen(after);
      expect(ids.slice(ids.indexOf(before))).toEqual([before, missed, after]);
    } finally {
      child.kill("SIGKILL");
      await proxy.close();
    }
  });

  test("are followed for people too, and what waiting does not mend ends it", async () => {
    const { code, stderr } = await posthorn.run(["deliveries", "tail", "--webhook", "999"]);
    expect(code).toBe(3);
    expect(stderr).toMatch(/^posthorn: .*webhook/);
  });

  test("are counted by stats", async () => {
    const { code, json } = await posthorn.run([
      "deliveries",
      "stats",
      "--webhook",
      String(webhook.id),
      "--json",
    ]);
    expect(code).toBe(0);
    const all = await gateway.deliveries();
    const delivered = all.filter(({ state }) => state === "delivered").length;
    expect(json.deliveries_by_state).toMatchObject({ delivered, failed: all.length - delivered, pending: 0 });
    expect(json.success_rate).toBeCloseTo(delivered / all.length);
    expect(json.attempt_duration.p50_ms).toBeLessThanOrEqual(json.attempt_duration.p99_ms);
    const past = await posthorn.run(["deliveries", "stats", "--until", "2d"]);
    expect(past.stdout).toMatch(/^deliveries_by_state +.*"delivered":0/m);
    expect(past.stdout).not.toMatch(/success_rate/);
  });

  test("are nobody's business without the scope, and no key is printed", async () => {
    const made = await posthorn.run([
      "keys",
      "create",
      "--name",
      "reader",
      "--scope",
      "webhooks:read",
      "--json",
    ]);
    const env = { POSTHORN_KEY: made.json.key };
    const { code, stdout, stderr } = await posthorn.run(["deliveries", "list"], { env });
    expect(code).toBe(4);
    expect(stderr).toBe("posthorn: the key lacks the scope deliveries:read\n");
    expect(stdout + stderr).not.toContain(made.json.key);
    expect(stdout + stderr).not.toContain(operatorKey);
  });
});
