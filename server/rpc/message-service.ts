import type { ServiceImpl } from "@connectrpc/connect";
import { MessageService } from "../../gen/posthorn/v1/message_service_pb.ts";
import type { Clock } from "../clock.ts";
import { isUuid } from "../domain/ids.ts";
import type { OutgoingContent, Recipient } from "../domain/outgoing.ts";
import type { Owner } from "../store/access.ts";
import type { Database } from "../store/orm.ts";
import { cancelScheduled, listScheduled } from "../store/outgoing-list.ts";
import { callerOf } from "./auth.ts";
import { type IdempotencyParts, runOnce } from "./idempotency.ts";
import { fromScheduled, toContent, toRecipient, toScheduledFilter } from "./message-convert.ts";
import { cutPage, pageSizeOf, readPageToken } from "./paging.ts";

export interface MessageServiceParts extends IdempotencyParts {
  database: Database;
  clock: Clock;
  /** `replies/`. */
  messages: {
    /** Settles when WhatsApp has taken the message; throws GatewayError. */
    send(
      owner: Owner,
      call: {
        clientRef: string | null;
        phoneNumberId: string | null;
        to: Recipient;
        content: OutgoingContent;
        callbackData: string | null;
        idempotencyKey: string | null;
      },
    ): Promise<{ id: string; wamid: string }>;
    markRead(
      owner: Owner,
      call: { clientRef: string | null; phoneNumberId: string | null; wamid: string; isTyping: boolean },
    ): Promise<void>;
    /** Says that a scheduled message may be due now. */
    wake(): void;
  };
}

export function createMessageService(parts: MessageServiceParts): ServiceImpl<typeof MessageService> {
  const { database, clock } = parts;
  return {
    async sendMessage(request, context) {
      const caller = callerOf(context);
      const method = MessageService.method.sendMessage;
      return await runOnce(parts, caller, method, request, async () => {
        // The message keeps the key, too: a call that ended without an answer must not be made again.
        const { id, wamid } = await parts.messages.send(caller, {
          clientRef: request.clientRef ?? null,
          phoneNumberId: request.phoneNumberId ?? null,
          to: toRecipient(request.to ?? ""),
          content: toContent(request),
          callbackData: request.callbackData ?? null,
          idempotencyKey: request.idempotencyKey ?? null,
        });
        return { id, messageId: wamid };
      });
    },

    async markRead(request, context) {
      await parts.messages.markRead(callerOf(context), {
        clientRef: request.clientRef ?? null,
        phoneNumberId: request.phoneNumberId ?? null,
        wamid: request.messageId ?? "",
        isTyping: request.typingIndicator,
      });
      return {};
    },

    async cancelScheduledMessage(request, context) {
      const id = (request.id ?? "").toLowerCase();
      const message = await cancelScheduled(database.pool, callerOf(context), id, clock.now());
      parts.messages.wake();
      return { message: fromScheduled(message) };
    },

    async listScheduledMessages(request, context) {
      const caller = callerOf(context);
      const filter = toScheduledFilter(request);
      const list = [
        "scheduled_messages",
        caller.tenantId,
        caller.clientId,
        { ...filter, states: [...filter.states].sort() },
      ];
      const beforeId = readPageToken(request.pageToken, list, isUuid);
      const size = pageSizeOf(request.pageSize);
      const found = await listScheduled(database.pool, caller, filter, { limit: size + 1, beforeId });
      const { page, nextPageToken } = cutPage(found, size, list);
      return { messages: page.map(fromScheduled), nextPageToken };
    },
  };
}
