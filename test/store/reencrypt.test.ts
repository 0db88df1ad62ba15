import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { changeConfiguration } from "../../server/store/configuration.ts";
import { reencryptSecrets, sealedColumns } from "../../server/store/reencrypt.ts";
import { createSealer, keyId } from "../../server/store/sealer.ts";
import { waitFor } from "../helpers/wait.ts";
import { openStore, type Store } from "./open-store.ts";

const oldKey = new Uint8Array(32).fill(1);
const newKey = new Uint8Array(32).fill(2);
const foreignKey = new Uint8Array(32).fill(3);

let store: Store;
beforeAll(async () => {
  store = await openStore();
});
afterAll(() => store.close());
beforeEach(async () => {
  await store.pool.query("TRUNCATE webhook, client CASCADE");
});

/** A webhook with a secret and headers, sealed with `key`; gives its id. */
async function addSignedWebhook(key: Uint8Array, text = "secret"): Promise<number> {
  const sealer = createSealer([key]);
  const id = await store.addWebhook();
  await store.pool.query(
    "INSERT INTO webhook_secret (webhook_id, secret_sealed, created_at) VALUES ($1, $2, now())",
    [id, sealer.seal(`${text} ${id}`, "webhook_secret")],
  );
  await store.pool.query("UPDATE webhook SET is_signed = true, headers_sealed = $2 WHERE id = $1", [
    id,
    sealer.seal(JSON.stringify({ "X-Key": `${text} ${id}` }), "webhook_headers"),
  ]);
  return id;
}

async function readBlobs(table: string, column: string): Promise<Buffer[]> {
  const { rows } = await store.pool.query(`SELECT ${column} AS blob FROM ${table} ORDER BY id`);
  return rows.map((row) => row.blob);
}

async function readVersion(): Promise<string> {
  return (await store.pool.query("SELECT version FROM configuration")).rows[0].version;
}

test("every sealed column of the schema is among those that are sealed anew", async () => {
  const { rows } = await store.pool.query(
    `SELECT table_name || '.' || column_name AS name FROM information_schema.columns
     WHERE table_schema = 'public' AND column_name LIKE '%sealed' ORDER BY 1`,
  );
  expect(sealedColumns.map(({ table, column }) => `${table}.${column}`).sort()).toEqual(
    rows.map((row) => row.name),
  );
});

describe("sealing anew", () => {
  test("makes all secrets readable with the new key alone, and tells that the old one may go", async () => {
    const id = await addSignedWebhook(oldKey);
    const { clientId } = await store.addClient("partner");
    const sealer = createSealer([oldKey]);
    await store.pool.query(
      "UPDATE client SET access_token_sealed = $2, app_secret_sealed = $3 WHERE id = $1",
      [
        clientId,
        sealer.seal("the token", "client_access_token"),
        sealer.seal("the app secret", "client_app_secret"),
      ],
    );

    const report = await reencryptSecrets(store.database, [newKey, oldKey]);

    expect(report.columns).toEqual([
      { name: "webhook_secret.secret_sealed", resealedCount: 1, unopenedCount: 0 },
      { name: "webhook.headers_sealed", resealedCount: 1, unopenedCount: 0 },
      { name: "client.access_token_sealed", resealedCount: 1, unopenedCount: 0 },
      { name: "client.app_secret_sealed", resealedCount: 1, unopenedCount: 0 },
    ]);
    expect(report.keys).toEqual([
      { keyId: keyId(newKey).toString("hex"), place: 1, secretCount: 4 },
      { keyId: keyId(oldKey).toString("hex"), place: 2, secretCount: 0 },
    ]);
    const { open } = createSealer([newKey]);
    const [secret] = await readBlobs("webhook_secret", "secret_sealed");
    const [headers] = await readBlobs("webhook", "headers_sealed");
    const [token] = await readBlobs("client", "access_token_sealed");
    const [appSecret] = await readBlobs("client", "app_secret_sealed");
    expect(open(secret!, "webhook_secret")).toBe(`secret ${id}`);
    expect(open(headers!, "webhook_headers")).toBe(`{"X-Key":"secret ${id}"}`);
    expect(open(token!, "client_access_token")).toBe("the token");
    expect(open(appSecret!, "client_app_secret")).toBe("the app secret");
  });

  test("goes through more rows than fit into a batch", async () => {
    const ids = [];
    for (let count = 0; count < 230; count++) ids.push(await addSignedWebhook(oldKey));
    const { columns } = await reencryptSecrets(store.database, [newKey, oldKey]);
    expect(columns.slice(0, 2).map((one) => one.resealedCount)).toEqual([230, 230]);
    const { open } = createSealer([newKey]);
    const secrets = (await readBlobs("webhook_secret", "secret_sealed")).map((blob) =>
      open(blob, "webhook_secret"),
    );
    expect(secrets).toEqual(ids.map((id) => `secret ${id}`));
  });

  test("changes nothing when it is repeated, not even the version of the configuration", async () => {
    await addSignedWebhook(oldKey);
    await reencryptSecrets(store.database, [newKey, oldKey]);
    const before = [await readBlobs("webhook_secret", "secret_sealed"), await readVersion()];
    const { columns } = await reencryptSecrets(store.database, [newKey, oldKey]);
    expect(columns.map((one) => one.resealedCount)).toEqual([0, 0, 0, 0]);
    expect([await readBlobs("webhook_secret", "secret_sealed"), await readVersion()]).toEqual(before);
  });

  test("leaves what no given key opens as it is, counts it, and goes on with the others", async () => {
    await addSignedWebhook(foreignKey);
    await addSignedWebhook(oldKey);
    const [foreign] = await readBlobs("webhook_secret", "secret_sealed");
    const report = await reencryptSecrets(store.database, [newKey, oldKey]);
    expect(report.columns[0]).toEqual({
      name: "webhook_secret.secret_sealed",
      resealedCount: 1,
      unopenedCount: 1,
    });
    expect(report.keys).toEqual([
      { keyId: keyId(newKey).toString("hex"), place: 1, secretCount: 2 },
      { keyId: keyId(oldKey).toString("hex"), place: 2, secretCount: 0 },
      { keyId: keyId(foreignKey).toString("hex"), place: null, secretCount: 2 },
    ]);
    expect((await readBlobs("webhook_secret", "secret_sealed"))[0]).toEqual(foreign);
  });

  test("leaves a blob that was altered, and counts its key as still needed", async () => {
    await addSignedWebhook(oldKey);
    await store.pool.query("UPDATE webhook_secret SET secret_sealed = secret_sealed || '\\x00'::bytea");
    const report = await reencryptSecrets(store.database, [newKey, oldKey]);
    expect(report.columns[0]).toMatchObject({ resealedCount: 0, unopenedCount: 1 });
    expect(report.keys[1]).toMatchObject({ place: 2, secretCount: 1 });
  });

  test("waits for a change that a gateway is making, and loses none of it", async () => {
    const id = await addSignedWebhook(oldKey, "before");
    const written = Promise.withResolvers<void>();
    const committing = Promise.withResolvers<void>();
    const change = changeConfiguration(store.database, async (em) => {
      const headers = createSealer([oldKey]).seal("after", "webhook_headers");
      await em.execute("UPDATE webhook SET headers_sealed = ? WHERE id = ?", [headers, id]);
      written.resolve();
      await committing.promise;
    });
    await written.promise;
    const reencryption = reencryptSecrets(store.database, [newKey, oldKey]);
    try {
      await waitFor(
        "statement that waits for the change",
        () =>
          store.pool.query(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
          ),
        ({ rows }) => rows.length > 0,
      );
    } finally {
      committing.resolve();
    }
    await Promise.all([change, reencryption]);
    const [headers] = await readBlobs("webhook", "headers_sealed");
    expect(createSealer([newKey]).open(headers!, "webhook_headers")).toBe("after");
  });
});
