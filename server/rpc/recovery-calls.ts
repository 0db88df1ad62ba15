/** The calls of DeliveryService that send many deliveries again. */

import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import type {
  DeliveryService,
  RecoverySchema,
  StartRecoveryRequest,
} from "../../gen/posthorn/v1/delivery_service_pb.ts";
import type { Clock } from "../clock.ts";
import type { DeliveryState } from "../domain/delivery.ts";
import { isUuid } from "../domain/ids.ts";
import {
  type Recovery,
  type RecoveryScope,
  ratePerSecondDefault,
  statesDefault,
} from "../domain/recovery.ts";
import type { Access } from "../store/access.ts";
import type { Database } from "../store/orm.ts";
import { cancelRecovery, getRecovery, listRecoveries } from "../store/recoveries.ts";
import { callerOf } from "./auth.ts";
import { toDate } from "./convert.ts";
import { cutPage, pageSizeOf, readPageToken } from "./paging.ts";

/** What a recovery is asked to be about; `until` null = up to now. */
export type RecoveryAsked = Omit<RecoveryScope, "until"> & { until: Date | null };

export interface RecoveryCallParts {
  database: Database;
  clock: Clock;
  /** Throws GatewayError. */
  startRecovery(access: Access, asked: RecoveryAsked): Promise<Recovery>;
}

type RecoveryCalls = Pick<
  ServiceImpl<typeof DeliveryService>,
  "startRecovery" | "getRecovery" | "listRecoveries" | "cancelRecovery"
>;

export function createRecoveryCalls(parts: RecoveryCallParts): RecoveryCalls {
  const { database, clock } = parts;
  return {
    async startRecovery(request, context) {
      const recovery = await parts.startRecovery(callerOf(context), toRecoveryAsked(request));
      return { recovery: fromRecovery(recovery) };
    },

    async getRecovery(request, context) {
      const recovery = await getRecovery(database, callerOf(context), idOf(request));
      return { recovery: fromRecovery(recovery) };
    },

    async listRecoveries(request, context) {
      const caller = callerOf(context);
      const list = ["recoveries", caller.tenantId, caller.clientId];
      const beforeId = readPageToken(request.pageToken, list, isUuid);
      const size = pageSizeOf(request.pageSize);
      const found = await listRecoveries(database, caller, { limit: size + 1, beforeId });
      const { page, nextPageToken } = cutPage(found, size, list);
      return { recoveries: page.map(fromRecovery), nextPageToken };
    },

    async cancelRecovery(request, context) {
      const recovery = await cancelRecovery(database, callerOf(context), idOf(request), clock.now());
      return { recovery: fromRecovery(recovery) };
    },
  };
}

function toRecoveryAsked(request: StartRecoveryRequest): RecoveryAsked {
  const states = request.states.length > 0 ? (request.states as DeliveryState[]) : statesDefault;
  return {
    webhookId: request.webhookId ?? null,
    states: request.missed ? [] : states,
    eventTypes: request.eventTypes,
    since: toDate(request.since),
    until: toDate(request.until),
    ratePerSecond: request.ratePerSecond ?? ratePerSecondDefault,
  };
}

function fromRecovery(recovery: Recovery): MessageInitShape<typeof RecoverySchema> {
  const { doneCount, deliveredCount, failedCount, otherCount } = recovery;
  return {
    id: recovery.id,
    webhookId: recovery.webhookId ?? undefined,
    missed: recovery.states.length === 0,
    states: [...recovery.states],
    eventTypes: [...recovery.eventTypes],
    since: recovery.since ? timestampFromDate(recovery.since) : undefined,
    until: timestampFromDate(recovery.until),
    ratePerSecond: recovery.ratePerSecond,
    state: recovery.state,
    // What was counted at the start may turn out to be more.
    total: recovery.totalCount === null ? undefined : Math.max(recovery.totalCount, doneCount),
    done: doneCount,
    underWay: doneCount - deliveredCount - failedCount - otherCount,
    delivered: deliveredCount,
    failed: failedCount,
    startedAt: timestampFromDate(recovery.startedAt),
    finishedAt: recovery.finishedAt ? timestampFromDate(recovery.finishedAt) : undefined,
  };
}

/** The rules of the request say that it is there and a UUID; ids are kept in lower case. */
function idOf(request: { id?: string | undefined }): string {
  return (request.id ?? "").toLowerCase();
}
