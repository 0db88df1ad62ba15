/** GetDeliveryStats: its range, and its figures in the words of the proto. */

import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type {
  GetDeliveryStatsRequest,
  GetDeliveryStatsResponseSchema,
  PercentilesSchema,
} from "../../gen/posthorn/v1/delivery_service_pb.ts";
import { GatewayError } from "../domain/errors.ts";
import type { DeliveryStats, Percentiles, StatsRange } from "../store/delivery-stats.ts";
import { toDate } from "./convert.ts";

const dayMs = 24 * 3_600_000;
const rangeMaxMs = 31 * dayMs;

/** @throws GatewayError `invalid_input` if the range is too long, or ends before it begins */
export function toStatsRange(request: GetDeliveryStatsRequest, now: Date): StatsRange {
  const until = toDate(request.until) ?? now;
  const since = toDate(request.since) ?? new Date(until.getTime() - dayMs);
  const rangeMs = until.getTime() - since.getTime();
  const field = "since";
  if (rangeMs <= 0) throw new GatewayError("invalid_input", "since: must be in the past", { field });
  if (rangeMs > rangeMaxMs) {
    throw new GatewayError("invalid_input", "since: must be at most 31 days before until", { field });
  }
  return { webhookId: request.webhookId ?? null, since, until };
}

export function fromStats(
  stats: DeliveryStats,
  range: StatsRange,
): MessageInitShape<typeof GetDeliveryStatsResponseSchema> {
  const { delivered, failed } = stats.deliveriesByState;
  return {
    since: timestampFromDate(range.since),
    until: timestampFromDate(range.until),
    deliveriesByState: stats.deliveriesByState,
    attemptsByOutcome: stats.attemptsByOutcome,
    failuresByKind: stats.failuresByKind as Record<string, number>,
    successRate: delivered + failed === 0 ? undefined : delivered / (delivered + failed),
    attemptDuration: fromPercentiles(stats.attemptDuration),
    deliveryLatency: fromPercentiles(stats.deliveryLatency),
  };
}

function fromPercentiles(
  percentiles: Percentiles | null,
): MessageInitShape<typeof PercentilesSchema> | undefined {
  if (percentiles === null) return undefined;
  return { p50Ms: percentiles.p50, p90Ms: percentiles.p90, p99Ms: percentiles.p99 };
}
