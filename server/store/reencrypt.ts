/**
 * Seals everything anew with the first master key, so that an older one can be given up. A batch is a transaction under
 * the configuration lock: no change of a webhook or client can come between reading a blob and writing it back. What a
 * secret says stays the same, so no row is stamped and no gateway reads one again.
 */

import type { EntityManager } from "@mikro-orm/postgresql";
import { changeConfiguration, sealedFor } from "./configuration.ts";
import type { Database } from "./orm.ts";
import { createSealer, keyId, keyIdPlace, type Sealer } from "./sealer.ts";

interface SealedColumn {
  table: string;
  column: string;
  purpose: string;
}

/** Every column that holds sealed blobs. */
export const sealedColumns: readonly SealedColumn[] = [
  { table: "webhook_secret", column: "secret_sealed", purpose: sealedFor.webhookSecret },
  { table: "webhook", column: "headers_sealed", purpose: sealedFor.webhookHeaders },
  { table: "client", column: "access_token_sealed", purpose: sealedFor.accessToken },
  { table: "client", column: "app_secret_sealed", purpose: sealedFor.appSecret },
];

export interface ReencryptionReport {
  columns: {
    /** `table.column` */
    name: string;
    /** Sealed anew by this call. */
    resealedCount: number;
    /** Left as they are: no given key opens them. */
    unopenedCount: number;
  }[];
  /** The given keys in their order, then others that seal something. */
  keys: {
    /** 8 hex digits; tells keys apart and nothing about them. */
    keyId: string;
    /** Place among the given keys, from 1; null = not given. */
    place: number | null;
    /** What it seals now, after the call. */
    secretCount: number;
  }[];
}

/** So few that publishers, who wait for the lock, do not notice. */
const batchRows = 100;

/**
 * May run beside gateways and be repeated; cut off, it leaves whole batches behind.
 *
 * @param masterKeys  32 bytes each; the first seals, all open
 */
export async function reencryptSecrets(
  database: Database,
  masterKeys: readonly Uint8Array[],
): Promise<ReencryptionReport> {
  const sealer = createSealer(masterKeys);
  const ids = masterKeys.map((key) => keyId(key));
  const columns = [];
  for (const column of sealedColumns) {
    columns.push({
      name: `${column.table}.${column.column}`,
      ...(await reseal(database, column, sealer, ids[0]!)),
    });
  }
  return { columns, keys: await countByKey(database.em(), ids) };
}

async function reseal(database: Database, sealed: SealedColumn, sealer: Sealer, firstKeyId: Buffer) {
  let resealedCount = 0;
  let unopenedCount = 0;
  let lastId = 0;
  for (;;) {
    // A look without the lock: when nothing is left, nobody is held up.
    const due = await findOthers(database.em(), sealed, firstKeyId, lastId);
    const last = due.at(-1);
    if (last === undefined) return { resealedCount, unopenedCount };
    await changeConfiguration(database, async (em) => {
      for (const { id, blob } of await findOthers(em, sealed, firstKeyId, lastId, last.id)) {
        const text = openOrNull(sealer, blob, sealed.purpose);
        if (text === null) {
          unopenedCount++;
          continue;
        }
        const statement = `UPDATE ${sealed.table} SET ${sealed.column} = ? WHERE id = ?`;
        await em.execute(statement, [sealer.seal(text, sealed.purpose), id]);
        resealedCount++;
      }
    });
    lastId = last.id;
  }
}

/** A batch of what another key than the first one seals, in the order of ids. */
async function findOthers(
  em: EntityManager,
  { table, column }: SealedColumn,
  firstKeyId: Buffer,
  afterId: number,
  untilId: number = 2_147_483_647,
): Promise<{ id: number; blob: Buffer }[]> {
  return await em.execute(
    `SELECT id, ${column} AS blob FROM ${table}
     WHERE ${column} IS NOT NULL AND ${keyIdOf(column)} <> ? AND id > ? AND id <= ? ORDER BY id LIMIT ${batchRows}`,
    [firstKeyId.toString("hex"), afterId, untilId],
  );
}

async function countByKey(em: EntityManager, ids: readonly Buffer[]): Promise<ReencryptionReport["keys"]> {
  const all = sealedColumns
    .map(
      ({ table, column }) => `SELECT ${keyIdOf(column)} AS key_id FROM ${table} WHERE ${column} IS NOT NULL`,
    )
    .join(" UNION ALL ");
  const rows = await em.execute<{ key_id: string; count: number }[]>(
    `SELECT key_id, count(*)::int AS count FROM (${all}) AS sealed GROUP BY key_id ORDER BY key_id`,
  );
  const counts = new Map(rows.map((row) => [row.key_id, row.count]));
  const given = ids.map((id) => id.toString("hex"));
  return [
    ...given.map((id, index) => ({ keyId: id, place: index + 1, secretCount: counts.get(id) ?? 0 })),
    ...[...counts]
      .filter(([id]) => !given.includes(id))
      .map(([id, count]) => ({ keyId: id, place: null, secretCount: count })),
  ];
}

function keyIdOf(column: string): string {
  return `encode(substring(${column} FROM ${keyIdPlace.from} FOR ${keyIdPlace.length}), 'hex')`;
}

/** Null if no given key opens it, or it was altered. */
function openOrNull(sealer: Sealer, blob: Uint8Array, purpose: string): string | null {
  try {
    return sealer.open(blob, purpose);
  } catch {
    return null;
  }
}
