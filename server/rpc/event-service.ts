import type { ServiceImpl } from "@connectrpc/connect";
import type { EventService } from "../../gen/posthorn/v1/event_service_pb.ts";
import type { Clock } from "../clock.ts";
import { GatewayError } from "../domain/errors.ts";
import type { IncomingEvent } from "../domain/event.ts";
import { callerOf } from "./auth.ts";

export interface EventServiceParts {
  clock: Clock;
  /** Splits one WhatsApp body into events; `whatsapp/envelope.ts`. */
  splitBody(rawBody: Uint8Array, receivedAt: Date): { events: IncomingEvent[]; faults: string[] };
  publisher: EventPublisher;
}

export interface EventPublisher {
  /**
   * Settles when all events are durable, with one answer an event in the same order.
   *
   * @param scope.tenantId  only numbers and accounts of this tenant; null = anybody's
   * @throws GatewayError `unavailable`, or `forbidden` when an event is outside the scope; nothing is stored then
   */
  publish(
    events: readonly IncomingEvent[],
    scope: { tenantId: number | null },
  ): Promise<{ eventId: string | null; isDuplicate: boolean; deliveryCount: number }[]>;
}

export function createEventService(parts: EventServiceParts): ServiceImpl<typeof EventService> {
  return {
    async publishEvents(request, context) {
      const caller = callerOf(context);
      const receivedAt = parts.clock.now();
      const found = request.bodies.flatMap((body, bodyIndex) =>
        splitOne(body, bodyIndex, receivedAt).map((event) => ({ event, bodyIndex })),
      );
      const published = await parts.publisher.publish(
        found.map(({ event }) => event),
        { tenantId: caller.isOperator ? null : caller.tenantId },
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
    },
  };

  /** Here a caller waits who can mend the body, so one fault in it refuses it, and nothing of the call is stored. */
  function splitOne(body: string, bodyIndex: number, receivedAt: Date): IncomingEvent[] {
    const { events, faults } = parts.splitBody(Buffer.from(body, "utf8"), receivedAt);
    if (faults.length === 0 && events.length > 0) return events;
    const field = `bodies[${bodyIndex}]`;
    throw new GatewayError("invalid_input", `${field}: ${faults.join("; ") || "holds no event"}`, { field });
  }
}
