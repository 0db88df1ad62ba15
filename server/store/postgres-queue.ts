/**
 * The queue of deliveries in PostgreSQL: rows of `delivery`, where `due_at` and `leased_until` are the queue. It may be
 * opened any number of times on one database; the rows' locks are all that the processes share.
 */

import type pg from "pg";
import type { DeliveryQueue } from "../domain/delivery-queue.ts";
import { claimDue, listDueWebhooks } from "./delivery-claims.ts";
import {
  listExpiredLeases,
  listLeases,
  loseAttempts,
  releaseLeases,
  renewLeases,
} from "./delivery-leases.ts";
import { settleAttempts } from "./delivery-settlements.ts";
import { expireClaimed } from "./expiry.ts";
import { isDataFault } from "./faults.ts";
import { insertDeliveries } from "./new-deliveries.ts";

/** A queue whose deliveries are added in transactions of this very database. */
export type PostgresQueue = DeliveryQueue<pg.ClientBase>;

export function createPostgresQueue(pool: pg.Pool): PostgresQueue {
  return {
    enqueue: insertDeliveries,
    listDue: () => listDueWebhooks(pool),
    claim: (asked, now, leasedUntil) => claimDue(pool, asked, now, leasedUntil),
    settle: (attempts, now) => settleAttempts(pool, attempts, now),
    isDataFault,
    extend: (held, leasedUntil) => renewLeases(pool, held, leasedUntil),
    release: (held, now) => releaseLeases(pool, held, now),
    expire: (claimed, toldTenantIds, now) => expireClaimed(pool, claimed, toldTenantIds, now),
    listBroken: (now, limit) => listExpiredLeases(pool, now, limit),
    listHeld: (held) => listLeases(pool, held),
    lose: (lost, toldTenantIds, now) => loseAttempts(pool, lost, now, toldTenantIds),
  };
}
