import type { ServiceImpl } from "@connectrpc/connect";
import type { DeliveryService } from "../../gen/posthorn/v1/delivery_service_pb.ts";
import type { Clock } from "../clock.ts";
import type { WatchAsked, WatchEntry } from "../delivery/watches.ts";
import { GatewayError } from "../domain/errors.ts";
import { isUuid } from "../domain/ids.ts";
import type { Owner } from "../store/access.ts";
import { getDelivery, listDeliveries } from "../store/delivery-log.ts";
import { countDeliveries } from "../store/delivery-stats.ts";
import type { Database } from "../store/orm.ts";
import { type AuthParts, callerOf, isStillAdmitted } from "./auth.ts";
import { fromAttempt, fromDelivery, toDeliveryFilter } from "./convert.ts";
import { cutOffOf } from "./cut-off.ts";
import { cutPage, pageSizeOf, readPageToken } from "./paging.ts";
import { createRecoveryCalls, type RecoveryCallParts } from "./recovery-calls.ts";
import { fromStats, toStatsRange } from "./stats-call.ts";

export interface DeliveryServiceParts extends RecoveryCallParts, Pick<AuthParts, "directory"> {
  database: Database;
  clock: Clock;
  /** Streams attempts as they end; throws GatewayError. */
  watchAttempts(asked: WatchAsked): AsyncIterable<WatchEntry>;
  /**
   * Makes a delivery due again.
   *
   * @throws GatewayError `not_found` or `wrong_state`
   */
  retryDelivery(owner: Owner, deliveryId: string, now: Date): Promise<void>;
  /** Says that something may be due now. */
  wakeDispatcher(): void;
}

/** Counts at once: each may read for seconds, and the connections are few. */
const countingMax = 2;

export function createDeliveryService(parts: DeliveryServiceParts): ServiceImpl<typeof DeliveryService> {
  const { database, clock } = parts;
  let countingCount = 0;
  return {
    async listDeliveries(request, context) {
      const caller = callerOf(context);
      const filter = toDeliveryFilter(request);
      const list = [
        "deliveries",
        caller.tenantId,
        caller.clientId,
        { ...filter, states: [...filter.states].sort() },
      ];
      const beforeId = readPageToken(request.pageToken, list, isUuid);
      const size = pageSizeOf(request.pageSize);
      const found = await listDeliveries(database, caller, filter, { limit: size + 1, beforeId });
      const { page, nextPageToken } = cutPage(found, size, list);
      return { deliveries: page.map(fromDelivery), nextPageToken };
    },

    async getDelivery(request, context) {
      const caller = callerOf(context);
      const { delivery, attempts, payload } = await getDelivery(database, caller, idOf(request));
      return {
        delivery: fromDelivery(delivery),
        attempts: attempts.map(fromAttempt),
        contentType: payload?.contentType,
        body: payload ? new Uint8Array(payload.body) : undefined,
      };
    },

    async retryDelivery(request, context) {
      const caller = callerOf(context);
      await parts.retryDelivery(caller, idOf(request), clock.now());
      parts.wakeDispatcher();
      const { delivery } = await getDelivery(database, caller, idOf(request));
      return { delivery: fromDelivery(delivery) };
    },

    async getDeliveryStats(request, context) {
      const range = toStatsRange(request, clock.now());
      if (countingCount >= countingMax) {
        throw new GatewayError("over_limit", "others are being counted for: try again in a moment", {
          retryAfterSeconds: 2,
        });
      }
      countingCount += 1;
      try {
        return fromStats(await countDeliveries(database, callerOf(context), range), range);
      } finally {
        countingCount -= 1;
      }
    },

    async *watchDeliveries(request, context) {
      const caller = callerOf(context);
      const entries = parts.watchAttempts({
        callerName: caller.actor,
        owner: caller,
        filter: toDeliveryFilter(request),
        resumeToken: request.resumeToken,
        isWelcome: () => isStillAdmitted(caller, parts),
        signal: context.signal,
        cutOff: cutOffOf(context),
      });
      for await (const { watched, resumeToken } of entries) {
        yield {
          ...(watched && {
            delivery: fromDelivery(watched.delivery),
            attempt: fromAttempt(watched.attempt),
          }),
          resumeToken,
        };
      }
    },

    ...createRecoveryCalls(parts),
  };
}

/** The rules of the request say that it is there and a UUID; ids are kept in lower case. */
function idOf(request: { id?: string | undefined }): string {
  return (request.id ?? "").toLowerCase();
}
