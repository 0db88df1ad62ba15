import pino from "pino";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { createFailureWatch, type FailureWatch } from "../../server/delivery/failure-watch.ts";
import type { AttemptReport } from "../../server/domain/attempt-report.ts";
import { createSealer } from "../../server/store/sealer.ts";
import { updateWebhook } from "../../server/store/webhooks.ts";
import { manualClock } from "../helpers/manual-clock.ts";
import { openStore, type Store, storeNow } from "../store/open-store.ts";

const dayMs = 86_400_000;
const minuteMs = 60_000;
const settings = { afterMs: 5 * dayMs, failedCountMin: 20, flushMs: 5_000, confirmMs: 15_000 };
const inDays = (days: number) => new Date(storeNow.getTime() + days * dayMs);

let store: Store;
beforeAll(async () => {
  store = await openStore();
});
afterEach(async () => {
  for (const watch of open.splice(0)) await watch.close();
});
afterAll(() => store.close());

const open: FailureWatch[] = [];

/** A process: what it notes, and its word to the others when the test says so. */
function startProcess(overrides: Partial<typeof settings> = {}) {
  const clock = manualClock(storeNow);
  const calls: string[] = [];
  const watch = createFailureWatch(
    {
      database: store.database,
      announce: async () => {
        calls.push("announced");
      },
      onDisabled: () => calls.push("told"),
      clock,
      log: pino({ level: "silent" }),
    },
    { ...settings, ...overrides },
  );
  open.push(watch);
  return {
    calls,
    clock,
    note: (webhookId: number, kind: AttemptReport["kind"], at: Date) =>
      watch.note([aReport(webhookId, kind, at)]),
    flush: watch.flush,
    close: watch.close,
    /** Two looks as far apart as they have to be, and some days later than everything noted. */
    async look() {
      clock.set(inDays(40));
      await watch.flush();
      clock.set(new Date(inDays(40).getTime() + settings.confirmMs));
      await watch.flush();
    },
  };
}

function aReport(webhookId: number, kind: AttemptReport["kind"], at: Date): { report: AttemptReport } {
  const reported = { deliveryId: "", webhookId, attemptNumber: 1, startedAtMs: at.getTime(), durationMs: 0 };
  const response = { status: 204, headers: {}, body: new Uint8Array() };
  switch (kind) {
    case "succeeded":
      return { report: { ...reported, kind, payload: null, response } };
    case "failed":
      return {
        report: {
          ...reported,
          kind,
          payload: null,
          errorKind: "timeout",
          errorMessage: "no answer",
          response: null,
        },
      };
    case "skipped":
      return { report: { ...reported, kind } };
    case "transformer_error":
      return { report: { ...reported, kind, message: "it threw" } };
  }
}

async function read(webhookId: number) {
  const found = await store.pool.query("SELECT * FROM webhook WHERE id = $1", [webhookId]);
  return found.rows[0];
}
const isOn = async (webhookId: number) => (await read(webhookId)).is_enabled as boolean;

/** `count` failures, the first now, the last `days` later, one flush each day. */
async function failFor(one: ReturnType<typeof startProcess>, webhookId: number, count: number, days: number) {
  for (let index = 0; index < count; index++) {
    one.note(webhookId, "failed", new Date(storeNow.getTime() + (index * days * dayMs) / (count - 1)));
    if (index % 4 === 0) await one.flush();
  }
}

describe("a webhook is turned off", () => {
  test("after 20 failed attempts, the first and the last five days apart, with its reason", async () => {
    const webhookId = await store.addWebhook();
    const deliveryId = await store.addDelivery({ webhookId });
    const one = startProcess();
    await failFor(one, webhookId, 20, 5);
    await one.look();
    const row = await read(webhookId);
    expect(row.is_enabled).toBe(false);
    expect(row.disabled_at).toEqual(new Date(inDays(40).getTime() + settings.confirmMs));
    expect(row.disabled_reason).toContain(
      `none of its 20 attempts from ${storeNow.toISOString()} to ${inDays(5).toISOString()} succeeded`,
    );
    expect(await store.readDelivery(deliveryId)).toMatchObject({
      state: "canceled",
      reason: "webhook_disabled",
    });
    expect(one.calls).toEqual(["announced", "told"]);
    const audit = await store.pool.query(
      "SELECT actor, action, changes FROM audit_entry WHERE subject_id = $1",
      [String(webhookId)],
    );
    expect(audit.rows).toEqual([
      {
        actor: "gateway",
        action: "webhook.disabled",
        changes: { status: false, disabled_reason: row.disabled_reason },
      },
    ]);
    const notices = await store.pool.query("SELECT type, details FROM gateway_notice WHERE webhook_id = $1", [
      webhookId,
    ]);
    expect(notices.rows).toEqual([
      { type: "posthorn.webhook.disabled", details: expect.objectContaining({ failedCount: 20 }) },
    ]);
  });

  test.for([
    ["19 attempts", 19, 6],
    ["a moment less than five days", 500, 5 - minuteMs / dayMs],
  ] as const)("not for %s", async ([, count, days]) => {
    const webhookId = await store.addWebhook();
    const one = startProcess();
    await failFor(one, webhookId, count, days);
    await one.look();
    expect(await isOn(webhookId)).toBe(true);
    // What was missing comes: it is not that nothing is ever turned off.
    one.note(webhookId, "failed", inDays(7));
    await one.look();
    expect(await isOn(webhookId)).toBe(false);
  });

  test("by what several processes saw together, and by one of them", async () => {
    const webhookId = await store.addWebhook();
    const [one, other] = [startProcess(), startProcess()];
    await failFor(one, webhookId, 10, 2);
    await one.close();
    const successor = startProcess();
    other.note(webhookId, "failed", inDays(6));
    for (let index = 0; index < 9; index++) successor.note(webhookId, "failed", inDays(3));
    await Promise.all([other.flush(), successor.flush()]);
    await Promise.all([other.look(), successor.look()]);
    expect(await isOn(webhookId)).toBe(false);
    expect([...other.calls, ...successor.calls].sort()).toEqual(["announced", "told"]);
  });

  test("never, if the setting is 0; what was counted before it counts no more when it is on again", async () => {
    const webhookId = await store.addWebhook();
    const before = startProcess();
    await failFor(before, webhookId, 19, 4);
    await before.close();
    const off = startProcess({ afterMs: 0 });
    await failFor(off, webhookId, 30, 30);
    await off.look();
    await off.close();
    const after = startProcess();
    after.note(webhookId, "failed", inDays(30));
    await after.look();
    expect(await isOn(webhookId)).toBe(true);
  });
});

describe("the count starts anew", () => {
  test("with a success, whichever process had it", async () => {
    const webhookId = await store.addWebhook();
    const [one, other] = [startProcess(), startProcess()];
    await failFor(one, webhookId, 19, 4.9);
    await one.flush();
    other.note(webhookId, "succeeded", inDays(4.95));
    await other.flush();
    for (let index = 0; index < 30; index++) one.note(webhookId, "failed", inDays(5 + index / 10));
    await one.look();
    expect(await isOn(webhookId)).toBe(true);
    one.note(webhookId, "failed", inDays(10.1));
    await one.look();
    expect(await isOn(webhookId)).toBe(false);
  });

  test("with a success between failures that were not told of yet", async () => {
    const webhookId = await store.addWebhook();
    const one = startProcess();
    for (let index = 0; index < 30; index++) one.note(webhookId, "failed", inDays(index / 10));
    one.note(webhookId, "succeeded", inDays(3));
    for (let index = 0; index < 30; index++) one.note(webhookId, "failed", inDays(3 + index / 10));
    await one.look();
    expect(await isOn(webhookId)).toBe(true);
  });

  test("even by a success that another process tells of when the failures seem to be enough", async () => {
    const webhookId = await store.addWebhook();
    const [one, other] = [startProcess(), startProcess()];
    await failFor(one, webhookId, 20, 5);
    other.note(webhookId, "succeeded", inDays(5));
    one.clock.set(inDays(5));
    await one.flush();
    await other.flush();
    await one.look();
    expect(await isOn(webhookId)).toBe(true);
  });

  test("when it is turned on again, after the gateway or its owner turned it off", async () => {
    const webhookId = await store.addWebhook();
    const one = startProcess();
    const change = (isEnabled: boolean) =>
      updateWebhook(
        store.database,
        createSealer([new Uint8Array(32)]),
        { tenantId: 1, clientId: null, actor: "operator" },
        webhookId,
        { apply: (before) => ({ ...before, isEnabled }) },
        storeNow,
      );
    await failFor(one, webhookId, 19, 4.9);
    await one.flush();
    await change(false);
    await change(true);
    one.note(webhookId, "failed", inDays(6));
    await one.look();
    expect(await isOn(webhookId)).toBe(true);
    for (let index = 0; index < 20; index++) one.note(webhookId, "failed", inDays(11));
    await one.look();
    expect(await isOn(webhookId)).toBe(false);
    expect(await change(true)).toMatchObject({ isEnabled: true, disabledReason: null, disabledAt: null });
    one.note(webhookId, "failed", inDays(12));
    await one.look();
    expect(await isOn(webhookId)).toBe(true);
  });
});

test("a failure counts once, whatever fails after it was told", async () => {
  const webhookId = await store.addWebhook();
  const one = startProcess();
  await store.pool.query("DELETE FROM failure_streak");
  // The look at what was told is refused, and only that.
  await store.pool.query(
    `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
       IF EXISTS (SELECT FROM failure_streak) THEN RAISE EXCEPTION 'refused'; END IF; RETURN NULL; END $$`,
  );
  await store.pool.query(
    "CREATE TRIGGER refuse BEFORE DELETE ON failure_streak FOR EACH STATEMENT EXECUTE FUNCTION refuse()",
  );
  one.note(webhookId, "failed", inDays(0));
  await one.flush();
  await store.pool.query("DROP FUNCTION refuse CASCADE");
  one.note(webhookId, "failed", inDays(1));
  await one.flush();
  const { rows } = await store.pool.query("SELECT failed_count FROM failure_streak WHERE webhook_id = $1", [
    webhookId,
  ]);
  expect(rows).toEqual([{ failed_count: 2 }]);
});

test("attempts that made no request do not count", async () => {
  const webhookId = await store.addWebhook();
  const one = startProcess();
  await failFor(one, webhookId, 19, 5);
  for (const kind of ["skipped", "transformer_error"] as const) one.note(webhookId, kind, inDays(6));
  await one.look();
  expect(await isOn(webhookId)).toBe(true);
});

test("a success costs no row, and a failing webhook has one", async () => {
  const [good, bad] = [await store.addWebhook(), await store.addWebhook()];
  const one = startProcess();
  one.note(good, "succeeded", storeNow);
  one.note(bad, "failed", storeNow);
  one.note(bad, "failed", inDays(1));
  await one.flush();
  const rows = await store.pool.query("SELECT * FROM failure_streak WHERE webhook_id = ANY($1)", [
    [good, bad],
  ]);
  expect(rows.rows).toEqual([
    { webhook_id: bad, failed_count: 2, first_failed_at: storeNow, last_failed_at: inDays(1) },
  ]);
});
