import { expect, test } from "vitest";
import { openTestDatabase } from "../helpers/database.ts";
import { spawnGateway } from "../helpers/gateway.ts";
import { startReceiver } from "../helpers/receiver.ts";
import { waitFor } from "../helpers/wait.ts";
import { anInboundBody, aTextMessage } from "../helpers/whatsapp-bodies.ts";

test("kill -9 in the middle of 2,000 events loses nothing that was acknowledged, and every repeat is the same", async () => {
  const testDatabase = await openTestDatabase();
  const gateway = await spawnGateway({ DATABASE_URL: testDatabase.url });
  // Slow enough that many requests are under way at any moment.
  const receiver = await startReceiver({ answer: { delayMs: 30 } });
  try {
    const { id: webhookId } = await gateway.createWebhook({ webhooks: receiver.url, max_in_flight: 32 });
    const waiting = Array.from({ length: 2_000 }, (_, index) => `wamid.crash-${index}`);
    const acknowledged: string[] = [];
    const lives = { dead: false };
    async function post(): Promise<void> {
      for (let id = waiting.shift(); id !== undefined && !lives.dead; id = waiting.shift()) {
        const status = await gateway.postBody(anInboundBody(aTextMessage({ id })));
        if (status === 200) acknowledged.push(id);
        else if (status !== 0) throw new Error(`answered ${status}`);
      }
    }
    const posting = Promise.all(Array.from({ length: 16 }, post));
    await receiver.waitForRequests(500, 20_000);
    lives.dead = true;
    expect(await gateway.kill("SIGKILL")).toBe(null);
    await posting;
    expect(acknowledged.length).toBeGreaterThan(400);
    expect(waiting.length).toBeGreaterThan(0);
    const sentBefore = receiver.requests.length;

    const killedAt = Date.now();
    await gateway.restart();
    await Promise.all(
      Array.from({ length: 8 }, async () => {
        for (let id = waiting.shift(); id !== undefined; id = waiting.shift()) {
          expect(await gateway.postBody(anInboundBody(aTextMessage({ id })))).toBe(200);
          acknowledged.push(id);
        }
      }),
    );
    const wamidOf = (body: Buffer) => JSON.parse(body.toString()).id as string;
    const arrived = () => new Set(receiver.requests.map((request) => wamidOf(request.body)));
    await waitFor(
      "arrival of all that was acknowledged",
      () => {
        const seen = arrived();
        return acknowledged.filter((id) => !seen.has(id)).length;
      },
      (missingCount) => missingCount === 0,
      40_000,
    );
    // Leases of the dead process are free within 30 s.
    expect(Date.now() - killedAt).toBeLessThan(32_000);

    const deliveries = await waitFor(
      "end of every delivery",
      () => gateway.deliveries({ webhook_id: webhookId }),
      (found) => found.every(({ state }) => state === "delivered"),
      // Requests that had arrived when the process died end with its leases only.
      40_000,
    );
    const bodies = new Map<string, Buffer>();
    const idsByWamid = new Map<string, Set<string>>();
    for (const { headers, body } of receiver.requests) {
      const id = String(headers["webhook-id"]);
      const wamid = wamidOf(body);
      expect(body.equals(bodies.get(id) ?? body)).toBe(true);
      bodies.set(id, body);
      idsByWamid.set(wamid, (idsByWamid.get(wamid) ?? new Set()).add(id));
    }
    expect(new Set(bodies.keys())).toEqual(new Set(deliveries.map((delivery) => delivery.id)));
    expect([...idsByWamid.values()].every((ids) => ids.size === 1)).toBe(true);

    const again = deliveries.filter((delivery) => delivery.attempt_count > 1);
    expect(again.length).toBeGreaterThan(0);
    expect(again.length).toBeLessThanOrEqual(sentBefore);
    for (const { id, attempt_count } of again) {
      const attempts = await gateway.attempts(id);
      expect(attempts.map(({ number, outcome }) => `${number} ${outcome}`)).toEqual([
        "1 lost",
        "2 succeeded",
      ]);
      expect(attempt_count).toBe(2);
    }
  } finally {
    await gateway.close();
    await receiver.close();
    await testDatabase.close();
  }
}, 90_000);

test("a lost attempt is none of the four", async () => {
  const testDatabase = await openTestDatabase();
  const gateway = await spawnGateway({
    DATABASE_URL: testDatabase.url,
    POSTHORN_RETRY_SECONDS: "0.05,0.1,0.15",
  });
  const receiver = await startReceiver({
    answer: (_, number) => (number === 1 ? { kind: "hang" } : { status: 500 }),
  });
  try {
    const { id: webhookId } = await gateway.createWebhook({ webhooks: receiver.url });
    await gateway.postBody(anInboundBody(aTextMessage({ id: "wamid.lost" })));
    await receiver.waitForRequests(1);
    await gateway.kill("SIGKILL");
    await gateway.restart();
    const [delivery] = await gateway.waitForStates(1, ["failed"], { webhook_id: webhookId }, 40_000);
    expect(delivery).toMatchObject({ reason: "attempts_exhausted", attempt_count: 5 });
    const attempts = await gateway.attempts(delivery!.id);
    expect(attempts.map(({ number, outcome }) => `${number} ${outcome}`)).toEqual([
      "1 lost",
      "2 failed",
      "3 failed",
      "4 failed",
      "5 failed",
    ]);
  } finally {
    await gateway.close();
    await receiver.close();
    await testDatabase.close();
  }
}, 60_000);
