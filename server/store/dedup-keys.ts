/** Duplicate keys: what tells a repeat of an item from the first of it (`whatsapp/dedup.ts` makes their hashes). */

import type pg from "pg";
import { instantArray, intArray, textArray, uuidArray } from "./binary-arrays.ts";

/** A duplicate key to take; `tenantId` 0 for an event that is nobody's yet. */
export interface KeyAsked {
  hash: string;
  placedAt: Date | null;
  /** A second place; the key is fresh only if it is free at both. */
  alsoPlacedAt?: Date;
  tenantId: number;
}

/** Keys without a time of their own lie in ten-minute buckets of the receive time. */
export const timelessWindowMs = 600_000;

/** Where a duplicate key lies, in Unix milliseconds. */
export function placedMsOf(placedAt: Date | null, receivedAt: Date): number {
  return placedAt?.getTime() ?? Math.floor(receivedAt.getTime() / timelessWindowMs) * timelessWindowMs;
}

/**
 * Takes the keys that nobody took before; one that another transaction is taking is waited for.
 *
 * @returns positions of the taken ones: their items are new
 */
export async function takeKeys(
  client: pg.ClientBase,
  keys: readonly KeyAsked[],
  now: Date,
): Promise<Set<number>> {
  const fresh = new Set<number>();
  /** The first key of each hash; of those few hashes that several have, all places. */
  const firsts = new Map<string, KeyAsked>();
  const places = new Map<string, Set<string>>();
  const timed: TimedKey[] = [];
  const timeless: number[] = [];
  for (const [index, key] of keys.entries()) {
    const first = firsts.get(key.hash);
    if (first === undefined) firsts.set(key.hash, key);
    else {
      const taken = places.get(key.hash) ?? new Set(placeNames(first));
      const own = placeNames(key);
      if (own.some((name) => taken.has(name))) continue;
      for (const name of own) taken.add(name);
      places.set(key.hash, taken);
    }
    for (const placedAt of placesOf(key)) {
      if (placedAt) timed.push({ index, placedAt });
      else timeless.push(index);
    }
  }
  await Promise.all([
    timed.length > 0 && takeTimedKeys(client, keys, timed, now, fresh),
    timeless.length > 0 && takeTimelessKeys(client, keys, timeless, now, fresh),
  ]);
  return fresh;
}

/** Two keys of one hash are the same if they have one of these in common. */
function placeNames(key: KeyAsked): string[] {
  return placesOf(key).map((place) => `${key.tenantId} ${place?.getTime()}`);
}

function placesOf({ placedAt, alsoPlacedAt }: KeyAsked): (Date | null)[] {
  return placedAt && alsoPlacedAt ? [placedAt, alsoPlacedAt] : [placedAt];
}

interface TimedKey {
  index: number;
  placedAt: Date;
}

/** Sorted, so that two transactions that take the same keys never wait for each other in a circle. */
async function takeTimedKeys(
  client: pg.ClientBase,
  keys: readonly KeyAsked[],
  timed: readonly TimedKey[],
  now: Date,
  fresh: Set<number>,
): Promise<void> {
  const taken = await client.query<{ taken: TakenKey[] | null }>({
    name: "take-keys",
    // Nearly always all are new: then the answer is one row, not one a key.
    text: `WITH taken AS (
        INSERT INTO dedup_key (placed_at, hash, tenant_id, received_at)
        SELECT to_timestamp(u.placed_ms / 1000), u.hash, u.tenant_id, $4
        FROM unnest($1::float8[], $2::uuid[], $3::int[]) AS u(placed_ms, hash, tenant_id)
        ORDER BY 1, 2, 3
        ON CONFLICT DO NOTHING
        RETURNING hash, tenant_id, placed_at)
      SELECT CASE WHEN (SELECT count(*) FROM taken) < cardinality($2::uuid[]) THEN (
        SELECT coalesce(json_agg(json_build_object(
          'hash', hash, 'tenantId', tenant_id, 'placedMs', (extract(epoch FROM placed_at) * 1000)::float8)), '[]')
        FROM taken) END AS taken`,
    values: [
      instantArray(timed.map(({ placedAt }) => placedAt)),
      uuidArray(timed.map(({ index }) => keys[index]!.hash)),
      intArray(timed.map(({ index }) => keys[index]!.tenantId)),
      now,
    ],
  });
  for (const { index } of timed) fresh.add(index);
  const some = taken.rows[0]!.taken;
  if (some === null) return;
  const names = new Set(some.map(({ hash, tenantId, placedMs }) => nameOf(hash, tenantId, placedMs)));
  for (const { index, placedAt } of timed) {
    const { hash, tenantId } = keys[index]!;
    if (!names.has(nameOf(hash, tenantId, placedAt.getTime()))) fresh.delete(index);
  }
}

interface TakenKey {
  hash: string;
  tenantId: number;
  placedMs: number;
}

function nameOf(hash: string, tenantId: number, placedMs: number): string {
  return `${tenantId} ${hash.replaceAll("-", "")} ${placedMs}`;
}

/**
 * Items without any time count as repeats for ten minutes after the first. The advisory locks make two processes that
 * straddle the edge of a bucket take turns.
 */
async function takeTimelessKeys(
  client: pg.ClientBase,
  keys: readonly KeyAsked[],
  indexes: number[],
  now: Date,
  fresh: Set<number>,
): Promise<void> {
  const bucketMs = placedMsOf(null, now);
  const [, taken] = await Promise.all([
    lockTimelessKeys(
      client,
      indexes.map((index) => keys[index]!.hash),
    ),
    client.query<{ hash: string; tenant_id: number }>({
      name: "take-timeless-keys",
      text: `INSERT INTO dedup_key (placed_at, hash, tenant_id, received_at)
        SELECT to_timestamp($3::float8 / 1000), u.hash, u.tenant_id, $4
        FROM unnest($1::uuid[], $2::int[]) AS u(hash, tenant_id)
        WHERE NOT EXISTS (
          SELECT FROM dedup_key k
          WHERE k.placed_at = to_timestamp(($3::float8 - $5) / 1000) AND k.hash = u.hash
            AND k.tenant_id = u.tenant_id AND k.received_at > $4::timestamptz - $5 * interval '1 millisecond')
        ON CONFLICT DO NOTHING
        RETURNING hash, tenant_id`,
      values: [
        uuidArray(indexes.map((index) => keys[index]!.hash)),
        intArray(indexes.map((index) => keys[index]!.tenantId)),
        bucketMs,
        now,
        timelessWindowMs,
      ],
    }),
  ]);
  const names = new Set(taken.rows.map((row) => `${row.tenant_id} ${row.hash.replaceAll("-", "")}`));
  for (const index of indexes) {
    if (names.has(`${keys[index]!.tenantId} ${keys[index]!.hash}`)) fresh.add(index);
  }
}

/** Makes those who take one of these keys without a time take turns. */
export async function lockTimelessKeys(client: pg.ClientBase, hashes: readonly string[]): Promise<void> {
  await client.query({
    name: "lock-timeless-keys",
    text: `SELECT pg_advisory_xact_lock(hashtextextended(hash, 0))
      FROM (SELECT hash FROM unnest($1::text[]) AS u(hash) ORDER BY hash) AS sorted`,
    values: [textArray(hashes.toSorted())],
  });
}
