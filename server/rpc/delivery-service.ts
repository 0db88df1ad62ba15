import type { ServiceImpl } from "@connectrpc/connect";
import type { DeliveryService } from "../../gen/posthorn/v1/delivery_service_pb.ts";
import type { Clock } from "../clock.ts";
import { isUuid } from "../domain/ids.ts";
import type { Owner } from "../store/access.ts";
import { getDelivery, listDeliveries } from "../store/delivery-log.ts";
import type { Database } from "../store/orm.ts";
import { callerOf } from "./auth.ts";
import { fromAttempt, fromDelivery, toDeliveryFilter } from "./convert.ts";
import { cutPage, pageSizeOf, readPageToken } from "./paging.ts";

export interface DeliveryServiceParts {
  database: Database;
  clock: Clock;
  /**
   * Makes a delivery due again.
   *
   * @throws GatewayError `not_found` or `wrong_state`
   */
  retryDelivery(owner: Owner, deliveryId: string, now: Date): Promise<void>;
  /** Says that something may be due now. */
  wakeDispatcher(): void;
}

export function createDeliveryService(parts: DeliveryServiceParts): ServiceImpl<typeof DeliveryService> {
  const { database, clock } = parts;
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
  };
}

/** The rules of the request say that it is there and a UUID; ids are kept in lower case. */
function idOf(request: { id?: string | undefined }): string {
  return (request.id ?? "").toLowerCase();
}
