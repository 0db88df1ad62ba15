import { afterAll, beforeAll, expect, test } from "vitest";
import type { ClaimedDelivery } from "../../server/domain/delivery-claim.ts";
import { claimDue } from "../../server/store/delivery-claims.ts";
import { releaseLeases } from "../../server/store/delivery-leases.ts";
import { storePayloads } from "../../server/store/delivery-payloads.ts";
import { openStore, type Store, storeNow } from "./open-store.ts";

let store: Store;
beforeAll(async () => {
  store = await openStore();
});
afterAll(() => store.close());

const leaseEnd = new Date(storeNow.getTime() + 20_000);
const made = (claimed: ClaimedDelivery, body: string, headers: Record<string, string> = {}) => ({
  claimed,
  transformer: "mine",
  payload: { body: Buffer.from(body), contentType: "text/plain", headers, transformerVersion: "7" },
});

async function claimNew(count: number): Promise<ClaimedDelivery[]> {
  const webhookId = await store.addWebhook();
  for (let index = 0; index < count; index++) await store.addDelivery({ webhookId });
  return (await claimDue(store.pool, [{ webhookId, room: count }], storeNow, leaseEnd)).deliveries;
}

test("payloads are stored with transformer and version, and the next claim has their bytes", async () => {
  const [plain, withHeaders] = await claimNew(2);
  const rows = [made(plain!, 'ä\0"\\'), made(withHeaders!, "", { "X-Kind": 'a "quoted" \\' })];
  expect(await storePayloads(store.pool, rows)).toEqual(new Set([plain!.id, withHeaders!.id]));
  expect(await store.readDelivery(plain!.id)).toMatchObject({
    state: "delivering",
    transformer: "mine",
    transformer_version: "7",
  });
  await releaseLeases(store.pool, [plain!, withHeaders!], storeNow);
  const asked = [{ webhookId: plain!.webhookId, room: 2 }];
  const { deliveries } = await claimDue(store.pool, asked, storeNow, leaseEnd);
  const payloadOf = (id: string) => deliveries.find((one) => one.id === id)!.payload;
  expect(payloadOf(plain!.id)).toEqual({
    body: Buffer.from('ä\0"\\'),
    contentType: "text/plain",
    headers: {},
  });
  expect(payloadOf(withHeaders!.id)).toMatchObject({ headers: { "X-Kind": 'a "quoted" \\' } });
});

test("a payload that is there already is not replaced", async () => {
  const [claimed] = await claimNew(1);
  await storePayloads(store.pool, [made(claimed!, "first")]);
  expect(await storePayloads(store.pool, [made(claimed!, "second")])).toEqual(new Set());
  expect((await store.readDelivery(claimed!.id)).body.toString()).toBe("first");
});

test("nothing is stored for a lease that was given back or taken over, nor of what was erased", async () => {
  const [givenBack, takenOver, erased, kept] = await claimNew(4);
  await releaseLeases(store.pool, [givenBack!], storeNow);
  await store.pool.query("UPDATE delivery SET attempt_number = attempt_number + 1 WHERE id = $1", [
    takenOver!.id,
  ]);
  await store.pool.query("UPDATE delivery SET erased_at = now() WHERE id = $1", [erased!.id]);
  const rows = [givenBack!, takenOver!, erased!, kept!].map((claimed) => made(claimed, "body"));
  expect(await storePayloads(store.pool, rows)).toEqual(new Set([kept!.id]));
  for (const { id } of [givenBack!, takenOver!, erased!]) {
    expect((await store.readDelivery(id)).body).toBeNull();
  }
});
