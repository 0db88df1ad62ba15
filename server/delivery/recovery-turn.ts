/**
 * One turn of a recovery, and one count of what has ended, each in a transaction that locks the recovery's row. A turn of
 * missed events writes what publishing would have written, under the lock that publishing takes: no webhook changes while
 * it looks.
 */

import type pg from "pg";
import type { Clock } from "../clock.ts";
import type { NewDelivery } from "../domain/delivery-claim.ts";
import type { DeliveryQueue } from "../domain/delivery-queue.ts";
import type { IdSource } from "../domain/ids.ts";
import { isTurnDue, nextTurnAt, turnSize } from "../domain/recovery.ts";
import { lockConfigurationShared, readConfigurationVersion } from "../store/configuration.ts";
import type { DirectoryKeeper } from "../store/directory.ts";
import { holdEvents, noteLate } from "../store/missed-events.ts";
import type { Database } from "../store/orm.ts";
import type { Partitions } from "../store/partitions.ts";
import { commitPublishing } from "../store/publishing.ts";
import {
  askAgain,
  lockRecovery,
  type OpenRecovery,
  type Settled,
  type SettledUpTo,
  saveTurn,
  settleTaken,
  type Taken,
} from "../store/recovery-turns.ts";
import { emptyPlan } from "./plan.ts";
import { type Look, lookAhead, type WalkParts } from "./recovery-walk.ts";

export interface TurnParts {
  queue: Pick<DeliveryQueue<pg.ClientBase>, "enqueue">;
  database: Database;
  directory: DirectoryKeeper;
  partitions: Partitions;
  walk: WalkParts;
  wakeDispatcher(): void;
  ids: IdSource;
  clock: Clock;
}

export interface Turns {
  /** Takes up what is next; does nothing if the recovery is canceled, walked through, or another process's by now. */
  take(recovery: OpenRecovery): Promise<{ recovery: OpenRecovery; isMore: boolean }>;
  /** Counts what has ended of the taken deliveries that come after `after`; null if it is another process's by now. */
  settle(recoveryId: string, after: SettledUpTo): Promise<Settled | null>;
}

export function createTurns(
  parts: TurnParts,
  holderId: string,
  settings: { lookRowsMax: number; settleRowsMax: number },
): Turns {
  const { database, directory, walk, clock } = parts;

  async function settle(recoveryId: string, after: SettledUpTo): Promise<Settled | null> {
    return await transacting(async (client) => {
      const recovery = await lockRecovery(client, recoveryId, holderId);
      const settled =
        recovery && (await settleTaken(client, recovery, after, settings.settleRowsMax, clock.now()));
      await client.query("COMMIT");
      return settled;
    });
  }

  async function take(before: OpenRecovery): Promise<{ recovery: OpenRecovery; isMore: boolean }> {
    const now = clock.now();
    if (before.states.length === 0) {
      await parts.partitions.ensureDay(now);
      await parts.partitions.ensureDay(new Date(now.getTime() + 60_000));
    }
    const outcome = await transacting(async (client) => {
      // The lock that keeps changes of webhooks out is taken first, as everywhere.
      if (before.states.length === 0 && !(await isUpToDate(client))) {
        await client.query("ROLLBACK");
        return "stale";
      }
      const recovery = await lockRecovery(client, before.id, holderId);
      if (recovery?.state !== "running" || recovery.isWalked || !isTurnDue(recovery.nextAt, now)) {
        await client.query("ROLLBACK");
        return null;
      }
      return await turn(client, recovery, now);
    });
    if (outcome === "stale") {
      await directory.refresh();
      return { recovery: before, isMore: true };
    }
    // Canceled, walked or another's: the next claim brings the row as it is.
    if (outcome === null) return { recovery: { ...before, isWalked: true }, isMore: false };
    if (outcome.takenCount > 0) parts.wakeDispatcher();
    const { position, nextAt } = outcome;
    return {
      recovery: { ...before, position: position ?? before.position, isWalked: position === null, nextAt },
      isMore: position !== null && nextAt <= now,
    };
  }

  /** False if this process does not know the webhooks as they are. */
  async function isUpToDate(client: pg.ClientBase): Promise<boolean> {
    await client.query(lockConfigurationShared);
    const found = await client.query<{ version: string }>(readConfigurationVersion);
    return BigInt(found.rows[0]!.version) === directory.current.version;
  }

  async function turn(client: pg.ClientBase, recovery: OpenRecovery, now: Date) {
    const { id, ratePerSecond } = recovery;
    const look = await lookAhead(
      client,
      walk,
      recovery,
      recovery.position,
      turnSize(ratePerSecond),
      settings.lookRowsMax,
    );
    const isMissed = recovery.states.length === 0;
    const deliveries = isMissed ? await makeMissed(client, recovery, look) : [];
    const taken: readonly Taken[] = isMissed
      ? deliveries.map((one) => ({ deliveryId: one.id, attemptNumber: 0 }))
      : await again(client, recovery, look, now);
    const { webhookId, matches, position } = look;
    const nextAt =
      matches.length > 0 ? nextTurnAt(recovery.nextAt, now, matches.length, ratePerSecond) : recovery.nextAt;
    await saveTurn(client, id, {
      webhookId,
      taken,
      leftAloneCount: matches.length - taken.length,
      position,
      nextAt,
    });
    await commitPublishing(client, { ...emptyPlan(), deliveries }, now, parts.queue.enqueue);
    return { takenCount: taken.length, position, nextAt };
  }

  function again(client: pg.ClientBase, recovery: OpenRecovery, look: Look, now: Date): Promise<Taken[]> {
    const { states, startedAt } = recovery;
    const deliveryIds = look.matches.map(({ id }) => id);
    return askAgain(client, { webhookId: look.webhookId, deliveryIds, states, startedAt }, now);
  }

  /** The rows that publishing would have written, for events that are still whole and that nobody else is making. */
  async function makeMissed(
    client: pg.ClientBase,
    { tenantId }: OpenRecovery,
    { webhookId, matches }: Look,
  ): Promise<NewDelivery[]> {
    if (matches.length === 0) return [];
    const heldIds = await holdEvents(
      client,
      tenantId,
      matches.map(({ id }) => id),
    );
    const whole = matches.filter(({ id }) => heldIds.has(id));
    const ownIds = await noteLate(
      client,
      whole.map(({ id: eventId }) => ({ eventId, webhookId })),
    );
    return whole
      .filter(({ id }) => ownIds.has(id))
      .map(({ id: eventId, eventType }) => ({
        id: parts.ids.next(),
        webhookId,
        tenantId,
        eventId,
        eventType,
        leasedUntil: null,
      }));
  }

  /** Runs a change that ends its transaction itself. */
  async function transacting<T>(change: (client: pg.ClientBase) => Promise<T>): Promise<T> {
    const client = await database.pool.connect();
    try {
      await client.query("BEGIN");
      const result = await change(client);
      client.release();
      return result;
    } catch (error) {
      await client.query("ROLLBACK").then(
        () => client.release(),
        () => client.release(true),
      );
      throw error;
    }
  }

  return { take, settle };
}
