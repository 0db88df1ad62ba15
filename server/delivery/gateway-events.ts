/**
 * Makes events of what the gateway has to tell about itself. Notices are there from the moment on that what they tell of
 * is committed (`store/gateway-notices.ts`), so a crash loses none; one that is told of again is a duplicate.
 */

import type { Logger } from "pino";
import type { Clock } from "../clock.ts";
import type { IncomingEvent } from "../domain/event.ts";
import { makeDeliveryFailed, makeWebhookDisabled } from "../domain/gateway-event.ts";
import { claimNotices, deleteNotices, type Notice } from "../store/gateway-notices.ts";
import type { Database } from "../store/orm.ts";
import type { Listeners } from "./listeners.ts";

export interface GatewayEvents {
  /** There may be something to tell. */
  wake(): void;
  /** Settles when what is under way has ended. */
  close(): Promise<void>;
}

export interface GatewayEventsParts {
  database: Database;
  listeners: Pick<Listeners, "hasListener">;
  /** `delivery/publish.ts`. */
  publish(events: readonly IncomingEvent[], scope: { tenantId: null }): Promise<unknown>;
  clock: Clock;
  log: Logger;
}

export interface GatewayEventsSettings {
  /** How often notices that another process left are looked for. */
  pollMs: number;
  /** How long a claim on a notice holds. */
  leaseMs: number;
}

const batchMax = 100;

export function createGatewayEvents(
  parts: GatewayEventsParts,
  settings: GatewayEventsSettings,
): GatewayEvents {
  const { database, listeners, clock, log } = parts;
  let timer: NodeJS.Timeout | undefined;
  let running: Promise<void> | null = null;
  let isWoken = false;
  let isClosed = false;
  wake();

  function wake(): void {
    if (isClosed) return;
    isWoken = true;
    clearTimeout(timer);
    running ??= tellAll()
      .catch((error: unknown) => log.warn({ err: error }, "events about the gateway could not be published"))
      .finally(() => {
        running = null;
        if (!isClosed) timer = setTimeout(wake, isWoken ? 0 : settings.pollMs);
      });
  }

  async function tellAll(): Promise<void> {
    for (;;) {
      isWoken = false;
      const now = clock.now();
      const notices = await claimNotices(
        database.pool,
        batchMax,
        now,
        new Date(now.getTime() + settings.leaseMs),
      );
      if (notices.length === 0 || isClosed) return;
      // Whoever asked for them may be gone by now.
      const events = notices.filter(isAskedFor).map(makeEvent);
      if (events.length > 0) await parts.publish(events, { tenantId: null });
      await deleteNotices(
        database.pool,
        notices.map(({ id }) => id),
      );
    }
  }

  function isAskedFor({ type, about }: Notice): boolean {
    return listeners.hasListener(about.tenantId, type);
  }

  return {
    wake,
    async close() {
      isClosed = true;
      clearTimeout(timer);
      await running;
    },
  };
}

function makeEvent(notice: Notice): IncomingEvent {
  const about = { ...notice.about, identity: notice.id };
  return notice.type === "posthorn.delivery.failed"
    ? makeDeliveryFailed(about, notice.delivery)
    : makeWebhookDisabled(about, notice.disabling);
}
