import type { ServiceImpl } from "@connectrpc/connect";
import { EventService } from "../../gen/posthorn/v1/event_service_pb.ts";
import { GatewayError } from "../domain/errors.ts";
import type { IncomingEvent } from "../domain/event.ts";
import { type Caller, callerOf } from "./auth.ts";
import { type IdempotencyParts, runOnce } from "./idempotency.ts";

export interface EventServiceParts extends IdempotencyParts {
  /** Splits one WhatsApp body into events; `whatsapp/envelope.ts`. */
  splitBody(
    rawBody: Uint8Array,
    receivedAt: Date,
  ): { events: IncomingEvent[]; paths: string[]; faults: string[] };
  publisher: EventPublisher;
}

export interface EventPublisher {
  /**
   * Settles when all events are durable, with one answer an event in the same order.
   *
   * @param scope.tenantId  only numbers and accounts of this tenant; null = anybody's
   * @param scope.clientId  only those of this client of the tenant; null = of any
   * @param scope.pathOf    where an event stands in the request, for the message that refuses it
   * @throws GatewayError `unavailable`, or `forbidden` when an event is outside the scope; nothing is stored then
   */
  publish(
    events: readonly IncomingEvent[],
    scope: { tenantId: number | null; clientId: number | null; pathOf?: (index: number) => string },
  ): Promise<{ eventId: string | null; isDuplicate: boolean; deliveryCount: number }[]>;
}

export function createEventService(parts: EventServiceParts): ServiceImpl<typeof EventService> {
  return {
    async publishEvents(request, context) {
      const caller = callerOf(context);
      const method = EventService.method.publishEvents;
      return await runOnce(parts, caller, method, request, () => publish(request.bodies, caller));
    },
  };

  async function publish(bodies: readonly string[], caller: Caller) {
    const receivedAt = parts.clock.now();
    const found = bodies.flatMap((body, bodyIndex) => splitOne(body, bodyIndex, receivedAt));
    const published = await parts.publisher.publish(
      found.map(({ event }) => event),
      {
        tenantId: caller.isOperator ? null : caller.tenantId,
        clientId: caller.clientId,
        pathOf: (index) => found[index]!.path,
      },
    );
    return {
      events: found.map(({ event, bodyIndex }, index) => ({
        bodyIndex,
        type: event.type,
        eventId: published[index]?.eventId ?? undefined,
        isDuplicate: published[index]?.isDuplicate ?? false,
        deliveryCount: published[index]?.deliveryCount ?? 0,
      })),
    };
  }

  /** Here a caller waits who can mend the body, so one fault in it refuses it, and nothing of the call is stored. */
  function splitOne(body: string, bodyIndex: number, receivedAt: Date) {
    const { events, paths, faults } = parts.splitBody(Buffer.from(body, "utf8"), receivedAt);
    const field = `bodies[${bodyIndex}]`;
    if (faults.length === 0 && events.length > 0) {
      // Paths of a shortened body begin with `body`.
      return events.map((event, index) => ({
        event,
        bodyIndex,
        path: `${field}.${paths[index]}`.replace("].body", "]"),
      }));
    }
    throw new GatewayError("invalid_input", `${field}: ${faults.join("; ") || "holds no event"}`, { field });
  }
}
