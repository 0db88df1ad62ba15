import pino from "pino";
import { afterAll, beforeAll, expect, test } from "vitest";
import { changeConfiguration, emptyDirectory, refreshDirectory } from "../../server/store/configuration.ts";
import { openDirectory } from "../../server/store/directory.ts";
import { createSealer } from "../../server/store/sealer.ts";
import { queryRows } from "../helpers/query-rows.ts";
import { waitFor } from "../helpers/wait.ts";
import { openStore, type Store } from "./open-store.ts";

const sealer = createSealer([new Uint8Array(32).fill(7)]);
const log = pino({ level: "silent" });

let store: Store;
beforeAll(async () => {
  store = await openStore();
});
afterAll(() => store.close());

/** Changes a webhook as a service does: under the lock, with the new version on its row. */
async function change(webhookId: number, set: string): Promise<void> {
  await changeConfiguration(store.database, (em, version) =>
    em.execute(`UPDATE webhook SET ${set}, version = ? WHERE id = ?`, [version, webhookId]),
  );
}

test("holds what is configured, follows changes, and forgets what is deleted", async () => {
  const webhookId = await store.addWebhook();
  const directory = await openDirectory(store.database, store.url, sealer, log);
  try {
    expect(directory.current.tenantIds).toEqual(new Map([["default", 1]]));
    expect(directory.current.webhooks.get(webhookId)).toMatchObject({
      isEnabled: true,
      maxInFlight: 64,
      secrets: [],
    });
    const { phoneNumberId, clientId } = await store.addClient("followed");
    await change(webhookId, "max_in_flight = 3");
    await directory.refresh();
    expect(directory.current.numbers.get(phoneNumberId)?.client).toMatchObject({
      id: clientId,
      clientRef: "followed",
    });
    expect(directory.current.webhooksByTenant.get(1)?.map(({ maxInFlight }) => maxInFlight)).toEqual([3]);
    await change(webhookId, "is_enabled = false, deleted_at = now()");
    await directory.refresh();
    expect(directory.current.webhooks.has(webhookId)).toBe(false);
    expect(directory.current.webhooksByTenant.get(1)).toEqual([]);
  } finally {
    await directory.close();
  }
});

test("hears at once of a change that another process announces, and again after its connection broke", async () => {
  const webhookId = await store.addWebhook();
  const [first, second] = await Promise.all(
    [1, 2].map(() => openDirectory(store.database, store.url, sealer, log)),
  );
  try {
    let heardCount = 0;
    second!.onChange(() => {
      heardCount += 1;
    });
    const seen = () => second!.current.webhooks.get(webhookId)?.maxInFlight;
    await change(webhookId, "max_in_flight = 5");
    await first!.announce();
    await waitFor("news of the change", seen, (value) => value === 5, 1_000);
    expect(heardCount).toBe(1);
    // Nothing new, nothing heard.
    await first!.announce();
    await second!.refresh();
    expect(heardCount).toBe(1);

    await queryRows(store.url)(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'posthorn-listen'",
    );
    await change(webhookId, "max_in_flight = 6");
    await waitFor("the change after a new connection", seen, (value) => value === 6, 4_000);
  } finally {
    await Promise.all([first!.close(), second!.close()]);
  }
});

test("is never taken back by an older look that comes to its end later", async () => {
  const webhookId = await store.addWebhook();
  const directory = emptyDirectory();
  const [slow, fast] = [await store.pool.connect(), await store.pool.connect()];
  const blocker = await store.pool.connect();
  try {
    await refreshDirectory(fast, directory, sealer);
    // The older look has read its version and webhooks, and hangs at the last statement.
    await blocker.query("BEGIN");
    await blocker.query("LOCK TABLE webhook_secret IN ACCESS EXCLUSIVE MODE");
    const older = refreshDirectory(slow, directory, sealer);
    await waitFor(
      "the older look to hang",
      async () =>
        (
          await queryRows(store.url)(
            "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
          )
        ).length,
      (count) => count === 1,
    );
    await changeConfiguration(store.database, (em, version) =>
      em.execute("UPDATE webhook SET is_paused = true, version = ? WHERE id = ?", [version, webhookId]),
    );
    const { version } = (await queryRows(store.url)("SELECT version FROM configuration"))[0];
    const newer = refreshDirectory(fast, directory, sealer);
    await blocker.query("ROLLBACK");
    await newer;
    await older;
    expect(directory.version).toBe(BigInt(version));
    expect(directory.webhooks.get(webhookId)?.isPaused).toBe(true);
  } finally {
    for (const client of [slow, fast, blocker]) client.release();
  }
});

test("a secret that no master key opens holds its own webhook, and is told once; the others go on", async () => {
  const [lockedId, healthyId] = [await store.addWebhook(), await store.addWebhook()];
  const foreign = createSealer([new Uint8Array(32).fill(9)]).seal("whsec_of_another_key", "webhook_secret");
  await changeConfiguration(store.database, (em, version) =>
    em
      .execute("INSERT INTO webhook_secret (webhook_id, secret_sealed, created_at) VALUES (?, ?, now())", [
        lockedId,
        foreign,
      ])
      .then(() => em.execute("UPDATE webhook SET version = ? WHERE id = ?", [version, lockedId])),
  );
  const lines: string[] = [];
  const loud = pino({ level: "error" }, { write: (line: string) => lines.push(line) });
  const directory = await openDirectory(store.database, store.url, sealer, loud);
  try {
    expect(directory.current.webhooks.get(lockedId)?.fault).toContain("POSTHORN_MASTER_KEY");
    expect(directory.current.webhooks.get(healthyId)?.fault).toBeNull();
    await directory.refresh();
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain(`webhook ${lockedId} is held`);
    expect(lines[0]).not.toContain("whsec_");
  } finally {
    await directory.close();
  }
});

test("a change returns when every process has seen it, and does not wait for one that is silent", async () => {
  const webhookId = await store.addWebhook();
  const [first, second] = await Promise.all(
    [1, 2].map(() => openDirectory(store.database, store.url, sealer, log)),
  );
  try {
    for (let round = 1; round <= 20; round++) {
      await change(webhookId, `max_in_flight = ${round}`);
      await first!.announce();
      expect(second!.current.webhooks.get(webhookId)?.maxInFlight).toBe(round);
    }
    const waits = async (aliveMs: number) => {
      await queryRows(store.url)(
        "INSERT INTO gateway_process VALUES (gen_random_uuid(), 0, clock_timestamp() + $1 * interval '1 millisecond')",
        [aliveMs],
      );
      const startedAtMs = performance.now();
      await change(webhookId, "max_in_flight = 21");
      await first!.announce();
      return performance.now() - startedAtMs;
    };
    expect(await waits(400)).toBeGreaterThan(300);
    expect(await waits(-1_000)).toBeLessThan(300);
  } finally {
    await Promise.all([first!.close(), second!.close()]);
  }
});

test("a change does not wait longer because publishing showed it to the other process first", async () => {
  const webhookId = await store.addWebhook();
  const [first, second] = await Promise.all(
    [1, 2].map(() => openDirectory(store.database, store.url, sealer, log)),
  );
  let isPublishing = true;
  const publishing = (async () => {
    while (isPublishing) await second!.refresh();
  })();
  try {
    const waits: number[] = [];
    for (let round = 1; round <= 15; round++) {
      await change(webhookId, `max_in_flight = ${round}`);
      const startedAtMs = performance.now();
      await first!.announce();
      waits.push(performance.now() - startedAtMs);
      expect(second!.current.webhooks.get(webhookId)?.maxInFlight).toBe(round);
    }
    // The other process compares versions by itself every 500 ms: a change must not have to wait for that.
    expect(waits.sort((one, other) => one - other)[7]).toBeLessThan(200);
  } finally {
    isPublishing = false;
    await publishing;
    await Promise.all([first!.close(), second!.close()]);
  }
}, 20_000);
