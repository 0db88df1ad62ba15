import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import type {
  ContactSchema,
  ContactService,
  ConversationMessageSchema,
  UpdateContactRequest,
} from "../../gen/posthorn/v1/contact_service_pb.ts";
import type { Clock } from "../clock.ts";
import { isUuid } from "../domain/ids.ts";
import { deleteContact } from "../store/contact-deletion.ts";
import {
  type Contact,
  type ContactChange,
  getContact,
  listContacts,
  updateContact,
} from "../store/contact-records.ts";
import { findConversation, listMessages, type ShownMessage } from "../store/conversations.ts";
import type { Database } from "../store/orm.ts";
import { callerOf } from "./auth.ts";
import { cutPage, pageSizeOf, readPageToken } from "./paging.ts";

export interface ContactServiceParts {
  database: Database;
  clock: Clock;
}

export function createContactService({
  database,
  clock,
}: ContactServiceParts): ServiceImpl<typeof ContactService> {
  return {
    async getContact(request, context) {
      return { contact: fromContact(await getContact(database, callerOf(context), request.userId ?? "")) };
    },

    async listContacts(request, context) {
      const caller = callerOf(context);
      const filter = {
        clientRef: request.clientRef ?? null,
        phone: request.phone?.replace(/\D/g, "") ?? null,
        bsuid: request.bsuid ?? null,
        label: request.label ?? null,
      };
      const list = ["contacts", caller.tenantId, caller.clientId, ...Object.values(filter)];
      const beforeId = readPageToken(request.pageToken, list, isUuid);
      const size = pageSizeOf(request.pageSize);
      const found = await listContacts(database, caller, filter, { limit: size + 1, beforeId });
      const { page, nextPageToken } = cutPage(found, size, list);
      return { contacts: page.map(fromContact), nextPageToken };
    },

    async updateContact(request, context) {
      const contact = await updateContact(
        database,
        callerOf(context),
        request.userId ?? "",
        toChange(request),
        clock.now(),
      );
      return { contact: fromContact(contact) };
    },

    async deleteContact(request, context) {
      const erased = await deleteContact(database, callerOf(context), request.userId ?? "", clock.now());
      return {
        deletedMessageCount: erased.messageCount,
        erasedEventCount: erased.eventCount,
        erasedDeliveryCount: erased.deliveryCount,
        canceledDeliveryCount: erased.canceledCount,
      };
    },

    async getConversation(request, context) {
      const { id, phoneNumberId } = await findConversation(
        database,
        callerOf(context),
        request.userId ?? "",
        request.phoneNumberId ?? null,
      );
      const list = ["conversation", id];
      const before = readPageToken(request.pageToken, list, isSequence);
      const size = pageSizeOf(request.pageSize);
      const found = await listMessages(database, id, {
        limit: size + 1,
        before: before === null ? null : Number(before),
      });
      const numbered = found.map((message) => ({ ...message, id: message.sequence }));
      const { page, nextPageToken } = cutPage(numbered, size, list);
      return { phoneNumberId, messages: page.map(fromMessage), nextPageToken };
    },
  };
}

/** What a request changes: fields that are present, and those that `update_mask` names become empty. */
function toChange(request: UpdateContactRequest): ContactChange {
  const named = new Set(request.updateMask?.paths);
  const change: ContactChange = {};
  if (request.name !== undefined || named.has("name")) change.name = request.name ?? null;
  if (request.note !== undefined || named.has("note")) change.note = request.note ?? "";
  if (request.noteAutomation !== undefined || named.has("note_automation")) {
    change.noteAutomation = request.noteAutomation ?? "";
  }
  if (request.labels.length > 0 || named.has("labels")) change.labels = request.labels;
  return change;
}

function fromContact(contact: Contact): MessageInitShape<typeof ContactSchema> {
  return {
    userId: contact.id,
    clientRef: contact.clientRef,
    phone: contact.phone === null ? undefined : `+${contact.phone}`,
    bsuid: contact.bsuid ?? undefined,
    name: contact.name ?? undefined,
    profileName: contact.profileName ?? undefined,
    note: contact.note,
    noteAutomation: contact.noteAutomation,
    labels: contact.labels,
    phoneNumberIds: contact.phoneNumberIds,
    createdAt: contact.createdAt.getTime(),
    updatedAt: timestampFromDate(contact.updatedAt),
  };
}

function fromMessage(message: ShownMessage): MessageInitShape<typeof ConversationMessageSchema> {
  return {
    sender: message.sender,
    content: message.content,
    contentType: message.contentType,
    sentAt: timestampFromDate(message.sentAt),
    messageId: message.wamid ?? undefined,
    eventId: message.eventId ?? undefined,
    status: message.status ?? undefined,
    isEdited: message.isEdited,
    isRevoked: message.isRevoked,
    isImported: message.isImported,
  };
}

/** Imported messages have numbers below 1. */
function isSequence(text: string): boolean {
  return /^-?[0-9]{1,16}$/.test(text);
}
