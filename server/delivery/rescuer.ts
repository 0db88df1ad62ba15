/**
 * Frees deliveries whose lease ran out: their process died, or the thread that had them. The attempt is logged as
 * `lost`, and the delivery is due again at once. Leases of deliveries that this process still has in hand (the
 * database was away, say) are renewed instead.
 */

import type { Logger } from "pino";
import type { Clock } from "../clock.ts";
import { settleLost } from "../domain/delivery.ts";
import type { BrokenLease, HeldDelivery } from "../domain/delivery-claim.ts";
import type { DeliveryQueue } from "../domain/delivery-queue.ts";

export interface Rescuer {
  /** Rescues, at once, deliveries whose thread died here; what cannot be rescued now waits for its lease to end. */
  rescue(held: readonly HeldDelivery[]): void;
  close(): Promise<void>;
}

export interface RescuerParts {
  queue: Pick<DeliveryQueue, "listBroken" | "listHeld" | "extend" | "lose">;
  isHolding(delivery: HeldDelivery): boolean;
  /** Something became due. */
  wakeDispatcher(): void;
  /** Tenants that ask to be told of deliveries that fail. */
  failureToldTenants(): readonly number[];
  clock: Clock;
  log: Logger;
}

const batchMax = 500;

export function createRescuer(
  parts: RescuerParts,
  settings: { rescueIntervalMs: number; leaseMs: number },
): Rescuer {
  const { queue, clock, log } = parts;
  const stop = new AbortController();
  const running = watch();

  async function watch(): Promise<void> {
    while (!stop.signal.aborted) {
      try {
        while ((await rescueExpired()) === batchMax && !stop.signal.aborted);
      } catch (error) {
        log.warn({ err: error }, "leases that ran out could not be freed");
      }
      await clock.sleep(settings.rescueIntervalMs, stop.signal);
    }
  }

  async function rescueExpired(): Promise<number> {
    const now = clock.now();
    const expired = await queue.listBroken(now, batchMax);
    const { own, broken } = Object.groupBy(expired, (lease) => (parts.isHolding(lease) ? "own" : "broken"));
    if (own) await queue.extend(own, new Date(now.getTime() + settings.leaseMs));
    if (broken) await lose(broken, now);
    return expired.length;
  }

  async function lose(leases: readonly BrokenLease[], now: Date): Promise<void> {
    if (leases.length === 0) return;
    const count = await queue.lose(
      leases.map((lease) => ({
        lease,
        settlement: settleLost(lease.isResend, lease.lostInARow + 1, now),
        startedAt: new Date(lease.leasedUntil.getTime() - settings.leaseMs),
      })),
      parts.failureToldTenants(),
      now,
    );
    if (count === 0) return;
    log.warn({ count }, "attempts were lost; their deliveries are due again");
    parts.wakeDispatcher();
  }

  return {
    rescue(held) {
      if (held.length === 0) return;
      queue
        .listHeld(held)
        .then((leases) => lose(leases, clock.now()))
        .catch((error: unknown) => log.warn({ err: error }, "lost attempts wait for their leases to end"));
    },
    async close() {
      stop.abort();
      await running;
    },
  };
}
