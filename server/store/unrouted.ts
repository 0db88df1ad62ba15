/**
 * Events that are nobody's (tenant 0): how many there are, and the statements that give them to a tenant. They keep in
 * `details.unrouted` what routing needs and no other event has to remember.
 */

import type pg from "pg";
import { GatewayError } from "../domain/errors.ts";
import type { ImportedThread, IncomingEvent } from "../domain/event.ts";
import { instantArray, plainArray, textArray } from "./array-literals.ts";
import { lockConfigurationShared, readConfigurationVersion } from "./configuration.ts";
import { lockTimelessKeys, placedMsOf, timelessWindowMs } from "./dedup-keys.ts";
import type { StoredDetails } from "./events.ts";
import type { Database } from "./orm.ts";
import type { NewEvent } from "./publishing.ts";

/** Events of one number, or of one account that name no number, that may have an owner now. */
export interface RoutingTask {
  id: string;
  phoneNumberId: string | null;
  wabaId: string | null;
}

export interface UnroutedEvent {
  eventId: string;
  receivedAt: Date;
  event: IncomingEvent;
}

const taskCountMax = 100;

/** Oldest first; `[]` if there is nothing to route. */
export async function listRoutingTasks(pool: pg.Pool): Promise<RoutingTask[]> {
  const found = await pool.query({
    name: "list-routing-tasks",
    text: `SELECT id, phone_number_id, waba_id FROM routing_task ORDER BY id LIMIT ${taskCountMax}`,
    values: [],
  });
  return found.rows.map((row) => ({
    id: row.id,
    phoneNumberId: row.phone_number_id,
    wabaId: row.waba_id,
  }));
}

/**
 * Begins the transaction of one batch: takes the shared configuration lock and the task.
 *
 * @returns the configuration's version; null if another process has the task in hand, or it is done
 */
export async function openRouting(client: pg.ClientBase, task: RoutingTask): Promise<bigint | null> {
  const [, , version, taken] = await Promise.all([
    client.query("BEGIN"),
    client.query(lockConfigurationShared),
    client.query<{ version: string }>(readConfigurationVersion),
    client.query("SELECT FROM routing_task WHERE id = $1 FOR UPDATE SKIP LOCKED", [task.id]),
  ]);
  return taken.rowCount === 0 ? null : BigInt(version.rows[0]!.version);
}

/** The first `limit` events of the task, oldest first, locked. */
export async function readUnrouted(
  client: pg.ClientBase,
  task: RoutingTask,
  limit: number,
): Promise<UnroutedEvent[]> {
  const where =
    task.phoneNumberId === null ? "phone_number_id IS NULL AND waba_id = $1" : "phone_number_id = $1";
  const found = await client.query(
    `SELECT id, type, phone_number_id, waba_id, occurred_at, received_at, details, item FROM event
     WHERE tenant_id = 0 AND ${where} ORDER BY id LIMIT $2 FOR UPDATE`,
    [task.phoneNumberId ?? task.wabaId, limit],
  );
  return found.rows.map(toUnrouted);
}

/**
 * Takes the duplicate keys of the events for a tenant, as if it had got them when they were received.
 *
 * @returns positions of the events that the tenant has not got meanwhile
 */
export async function takeKeysLate(
  client: pg.ClientBase,
  events: readonly UnroutedEvent[],
  tenantId: number,
): Promise<Set<number>> {
  const placed = events.map(({ event, receivedAt }) => placedMsOf(event.dedup.placedAt, receivedAt));
  const timeless = events.filter(({ event }) => event.dedup.placedAt === null);
  await lockTimelessKeys(
    client,
    timeless.map(({ event }) => event.dedup.hash),
  );
  const taken = await client.query<{ hash: string; placed_ms: number }>({
    name: "take-keys-late",
    text: `INSERT INTO dedup_key (placed_at, hash, tenant_id, received_at)
      SELECT to_timestamp(u.placed_ms / 1000), u.hash, $1, to_timestamp(u.received_ms / 1000)
      FROM unnest($2::float8[], $3::uuid[], $4::float8[], $5::boolean[])
        AS u(placed_ms, hash, received_ms, is_timeless)
      WHERE NOT (u.is_timeless AND EXISTS (
        SELECT FROM dedup_key k
        WHERE k.placed_at = to_timestamp((u.placed_ms + $6) / 1000) AND k.hash = u.hash AND k.tenant_id = $1
          AND k.received_at < to_timestamp((u.received_ms + $6) / 1000)))
      ORDER BY 1, 2
      ON CONFLICT DO NOTHING
      RETURNING hash, (extract(epoch FROM placed_at) * 1000)::float8 AS placed_ms`,
    values: [
      tenantId,
      plainArray(placed),
      plainArray(events.map(({ event }) => event.dedup.hash)),
      instantArray(events.map(({ receivedAt }) => receivedAt)),
      plainArray(events.map(({ event }) => (event.dedup.placedAt === null ? "true" : "false"))),
      timelessWindowMs,
    ],
  });
  const names = new Set(taken.rows.map((row) => `${row.hash.replaceAll("-", "")} ${row.placed_ms}`));
  const fresh = new Set<number>();
  for (const [index, { event }] of events.entries()) {
    // Of two with the same key in one batch the first counts.
    if (names.delete(`${event.dedup.hash} ${placed[index]}`)) fresh.add(index);
  }
  return fresh;
}

/** Gives events of nobody to the tenants that the rows name; they stay in their partition. */
export function moveEvents(client: pg.ClientBase, rows: readonly NewEvent[], now: Date): Promise<unknown> {
  return client.query({
    name: "move-events",
    text: `UPDATE event e SET tenant_id = u.tenant_id, client_id = u.client_id,
        conversation_id = u.conversation_id, sequence = u.sequence, details = u.details, routed_at = $7
      FROM unnest($1::uuid[], $2::int[], $3::int[], $4::bigint[], $5::bigint[], $6::text[])
        AS u(id, tenant_id, client_id, conversation_id, sequence, details)
      WHERE e.tenant_id = 0 AND e.id = u.id`,
    values: [
      plainArray(rows.map((row) => row.id)),
      plainArray(rows.map((row) => row.tenantId)),
      plainArray(rows.map((row) => row.clientId)),
      plainArray(rows.map((row) => row.conversationId)),
      plainArray(rows.map((row) => row.sequence)),
      textArray(rows.map((row) => row.details)),
      now,
    ],
  });
}

/** Deletes events of nobody: repeats of what their tenant has got meanwhile. */
export async function dropUnrouted(client: pg.ClientBase, eventIds: readonly string[]): Promise<void> {
  if (eventIds.length === 0) return;
  await client.query({
    name: "drop-unrouted",
    text: "DELETE FROM event WHERE tenant_id = 0 AND id = ANY($1::uuid[])",
    values: [plainArray(eventIds)],
  });
}

/** Ends the task in the transaction that routes the last of its events. */
export async function endTask(client: pg.ClientBase, task: RoutingTask): Promise<void> {
  await client.query("DELETE FROM routing_task WHERE id = $1", [task.id]);
}

export interface UnroutedCount {
  phoneNumberId: string | null;
  wabaId: string | null;
  eventCount: number;
  firstReceivedAt: Date;
  lastReceivedAt: Date;
}

const countTimeoutMs = 10_000;

/**
 * Counts the events of nobody by number, or by account where they name no number; last seen first.
 *
 * @param page.limit  how many numbers and accounts at most
 * @param page.skip   how many come before the page
 * @throws GatewayError `over_limit` if counting takes too long
 */
export async function countUnrouted(
  database: Database,
  page: { limit: number; skip: number },
): Promise<UnroutedCount[]> {
  try {
    return await database.em().transactional(async (em) => {
      await em.execute(`SET LOCAL statement_timeout = ${countTimeoutMs}; SET LOCAL jit = off`);
      const rows = await em.execute<CountRow[]>(
        `SELECT phone_number_id, CASE WHEN phone_number_id IS NULL THEN waba_id END AS waba_id, count(*)::int AS count,
           (extract(epoch FROM min(received_at)) * 1000)::float8 AS first_ms,
           (extract(epoch FROM max(received_at)) * 1000)::float8 AS last_ms
         FROM event WHERE tenant_id = 0 GROUP BY 1, 2
         ORDER BY max(received_at) DESC, 1, 2 LIMIT ? OFFSET ?`,
        [page.limit, page.skip],
      );
      return rows.map((row) => ({
        phoneNumberId: row.phone_number_id,
        wabaId: row.waba_id,
        eventCount: row.count,
        firstReceivedAt: new Date(row.first_ms),
        lastReceivedAt: new Date(row.last_ms),
      }));
    });
  } catch (error) {
    if ((error as { code?: unknown }).code !== "57014") throw error;
    throw new GatewayError("over_limit", "counting the unrouted events took too long, try again later", {
      cause: error,
    });
  }
}

interface CountRow {
  phone_number_id: string | null;
  waba_id: string | null;
  count: number;
  first_ms: number;
  last_ms: number;
}

// biome-ignore lint/suspicious/noExplicitAny: a row of the statement above
function toUnrouted(row: any): UnroutedEvent {
  const details = JSON.parse(row.details) as StoredDetails;
  const { entry, revision, identityChanges, imported, dedup } = details.unrouted!;
  return {
    eventId: row.id,
    receivedAt: row.received_at,
    event: {
      type: row.type,
      phoneNumberId: row.phone_number_id,
      businessPhone: details.businessPhone,
      wabaId: row.waba_id,
      occurredAt: row.occurred_at,
      item: row.item.toString("utf8"),
      user: details.user,
      entry,
      revision,
      ...(identityChanges && { identityChanges }),
      ...(imported && { imported: imported.map(toThread) }),
      dedup: { hash: dedup.hash, placedAt: dedup.placedMs === null ? null : new Date(dedup.placedMs) },
    },
  };
}

/** Instants are texts in JSON. */
function toThread({ user, messages }: ImportedThread): ImportedThread {
  return { user, messages: messages.map((message) => ({ ...message, sentAt: new Date(message.sentAt) })) };
}
