/** Recoveries as their owners see them: started, listed, canceled. What they do is in `recovery-turns.ts`. */

import type { EntityManager } from "@mikro-orm/postgresql";
import type { DeliveryState } from "../domain/delivery.ts";
import { GatewayError } from "../domain/errors.ts";
import { isUuid } from "../domain/ids.ts";
import type { Recovery, RecoveryScope, RecoveryState } from "../domain/recovery.ts";
import type { Access, Owner } from "./access.ts";
import { plainArray, textArray } from "./array-literals.ts";
import { noteAudit } from "./audit.ts";
import type { Database } from "./orm.ts";

/** Recoveries of one tenant that run at once. */
const runningMax = 20;

/** Serialises those who start a recovery, so that the limit holds; with the tenant as the second number. */
const startLockKey = 7_305_009;

/**
 * Stores a recovery; whoever looks for work takes it from there.
 *
 * @param totalCount  null = not counted yet
 * @throws GatewayError `not_found` if the webhook is not the owner's, `wrong_state` if it is off or gone, `over_limit` if
 *         too many are running
 */
export async function startRecovery(
  database: Database,
  access: Access,
  id: string,
  scope: RecoveryScope,
  totalCount: number | null,
  now: Date,
): Promise<Recovery> {
  return await database.em().transactional(async (fork) => {
    const em = fork as EntityManager;
    await em.execute("SELECT pg_advisory_xact_lock(?, ?)", [startLockKey, access.tenantId]);
    await refuseUnlessFree(em, access);
    const [row] = await em.execute<RecoveryRow[]>(
      `INSERT INTO recovery (id, tenant_id, client_id, webhook_id, is_missed, states, event_types, since_at, until_at,
         rate_per_second, state, total_count, next_at, started_at)
       VALUES (?, ?, ?, ?, ?, ?::text[], ?::text[], ?, ?, ?, 'running', ?, ?, ?) RETURNING ${columns}`,
      [
        id,
        access.tenantId,
        access.clientId,
        scope.webhookId,
        scope.states.length === 0,
        plainArray(scope.states),
        textArray(scope.eventTypes),
        scope.since,
        scope.until,
        scope.ratePerSecond,
        totalCount,
        now,
        now,
      ],
    );
    const recovery = toRecovery(row!);
    await noteAudit(
      em,
      {
        tenantId: access.tenantId,
        actor: access.actor,
        action: "recovery.started",
        subjectId: id,
        changes: {
          ...(scope.webhookId !== null && { webhook_id: scope.webhookId }),
          ...(scope.states.length === 0 ? { missed: true } : { states: scope.states }),
          ...(scope.eventTypes.length > 0 && { event_types: scope.eventTypes }),
          ...(scope.since && { since: scope.since }),
          until: scope.until,
          rate_per_second: scope.ratePerSecond,
        },
      },
      now,
    );
    return recovery;
  });
}

async function refuseUnlessFree(em: EntityManager, { tenantId }: Owner): Promise<void> {
  const [running] = await em.execute<[{ count: number }]>(
    "SELECT count(*)::int AS count FROM recovery WHERE tenant_id = ? AND state = 'running'",
    [tenantId],
  );
  if (running.count < runningMax) return;
  throw new GatewayError(
    "over_limit",
    `${runningMax} recoveries are running: wait until one is done, or cancel one`,
  );
}

/**
 * Makes sure that a webhook can be sent something.
 *
 * @throws GatewayError `not_found` if it is not the owner's, `wrong_state` if it is off or gone
 */
export async function expectSendable(database: Database, owner: Owner, webhookId: number): Promise<void> {
  const rows = await database.em().execute<{ is_enabled: boolean; is_deleted: boolean }[]>(
    `SELECT is_enabled, deleted_at IS NOT NULL AS is_deleted FROM webhook
     WHERE id = ? AND tenant_id = ? AND (?::int IS NULL OR client_id = ?)`,
    [webhookId, owner.tenantId, owner.clientId, owner.clientId],
  );
  const field = "webhook_id";
  const webhook = rows[0];
  if (!webhook) throw new GatewayError("not_found", `webhook ${webhookId} does not exist`, { field });
  if (webhook.is_deleted) {
    throw new GatewayError("wrong_state", "the webhook is deleted: it can get nothing any more", { field });
  }
  if (!webhook.is_enabled) {
    throw new GatewayError("wrong_state", "the webhook is off: turn it on first (status: true)", { field });
  }
}

/** @throws GatewayError `not_found` */
export async function getRecovery(database: Database, owner: Owner, id: string): Promise<Recovery> {
  const rows = isUuid(id)
    ? await database
        .em()
        .execute<RecoveryRow[]>(`SELECT ${columns} FROM recovery WHERE id = ? AND ${ownedText}`, [
          id,
          ...ownedValues(owner),
        ])
    : [];
  if (!rows[0]) throw new GatewayError("not_found", `recovery ${id} does not exist`, { field: "id" });
  return toRecovery(rows[0]);
}

/**
 * Recoveries of an owner, newest first; `[]` if there are none.
 *
 * @param page.beforeId  only those older than this one; null = from the newest
 */
export async function listRecoveries(
  database: Database,
  owner: Owner,
  page: { limit: number; beforeId: string | null },
): Promise<Recovery[]> {
  const rows = await database.em().execute<RecoveryRow[]>(
    `SELECT ${columns} FROM recovery WHERE ${ownedText} AND (?::uuid IS NULL OR id < ?::uuid)
     ORDER BY id DESC LIMIT ?`,
    [...ownedValues(owner), page.beforeId, page.beforeId, page.limit],
  );
  return rows.map(toRecovery);
}

/**
 * Ends a recovery: its row is locked while a turn takes up deliveries, so that no turn comes after this. One that is
 * canceled stays as it is.
 *
 * @throws GatewayError `not_found`, or `wrong_state` if it is done
 */
export async function cancelRecovery(
  database: Database,
  access: Access,
  id: string,
  now: Date,
): Promise<Recovery> {
  const before = await getRecovery(database, access, id);
  if (before.state === "canceled") return before;
  return await database.em().transactional(async (fork) => {
    const em = fork as EntityManager;
    const [row] = await em.execute<RecoveryRow[]>(
      `UPDATE recovery SET state = 'canceled', finished_at = ? WHERE id = ? AND state = 'running' RETURNING ${columns}`,
      [now, id],
    );
    if (row) {
      const { tenantId, actor } = access;
      await noteAudit(em, { tenantId, actor, action: "recovery.canceled", subjectId: id, changes: {} }, now);
      return toRecovery(row);
    }
    const after = await getRecovery(database, access, id);
    if (after.state === "canceled") return after;
    throw new GatewayError("wrong_state", "this recovery is done: there is nothing left to cancel", {
      field: "id",
    });
  });
}

const ownedText = "tenant_id = ? AND (?::int IS NULL OR client_id = ?)";

function ownedValues({ tenantId, clientId }: Owner) {
  return [tenantId, clientId, clientId];
}

/** Instants as Unix milliseconds: the ORM's connections give them as text otherwise. */
const columns = `id, webhook_id, array_to_json(states)::text AS states, array_to_json(event_types)::text AS event_types,
  extract(epoch FROM since_at)::float8 * 1000 AS since_ms, extract(epoch FROM until_at)::float8 * 1000 AS until_ms,
  rate_per_second, state, total_count, done_count, delivered_count, failed_count, other_count,
  extract(epoch FROM started_at)::float8 * 1000 AS started_ms, extract(epoch FROM finished_at)::float8 * 1000 AS finished_ms`;

interface RecoveryRow {
  id: string;
  webhook_id: number | null;
  states: string;
  event_types: string;
  since_ms: number | null;
  until_ms: number;
  rate_per_second: number;
  state: RecoveryState;
  total_count: number | null;
  done_count: number;
  delivered_count: number;
  failed_count: number;
  other_count: number;
  started_ms: number;
  finished_ms: number | null;
}

function toRecovery(row: RecoveryRow): Recovery {
  return {
    id: row.id,
    webhookId: row.webhook_id,
    states: JSON.parse(row.states) as DeliveryState[],
    eventTypes: JSON.parse(row.event_types) as string[],
    since: toDate(row.since_ms),
    until: toDate(row.until_ms)!,
    ratePerSecond: row.rate_per_second,
    state: row.state,
    totalCount: row.total_count,
    doneCount: row.done_count,
    deliveredCount: row.delivered_count,
    failedCount: row.failed_count,
    otherCount: row.other_count,
    startedAt: toDate(row.started_ms)!,
    finishedAt: toDate(row.finished_ms),
  };
}

function toDate(unixMs: number | null): Date | null {
  return unixMs === null ? null : new Date(Math.round(unixMs));
}
