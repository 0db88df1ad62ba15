import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import type {
  ClientSchema,
  ClientService,
  PhoneNumber,
  UpdateClientRequest,
} from "../../gen/posthorn/v1/client_service_pb.ts";
import type { Clock } from "../clock.ts";
import type { Client, ClientNumber } from "../domain/client.ts";
import { GatewayError } from "../domain/errors.ts";
import { deleteClient } from "../store/client-deletion.ts";
import { type ClientChange, createClient, getClient, listClients, updateClient } from "../store/clients.ts";
import type { Sealer } from "../store/sealer.ts";
import { countUnrouted } from "../store/unrouted.ts";
import { type Caller, callerOf } from "./auth.ts";
import { type ChangeParts, changing } from "./change.ts";
import { namesOf } from "./convert.ts";
import { createNumberProof, type NumberProofParts } from "./number-proof.ts";
import { cutPage, isRowId, pageSizeOf, readPageToken } from "./paging.ts";

export interface ClientServiceParts extends ChangeParts, NumberProofParts {
  sealer: Sealer;
  clock: Clock;
}

export function createClientService(parts: ClientServiceParts): ServiceImpl<typeof ClientService> {
  const { database, sealer, clock } = parts;
  const proof = createNumberProof(parts);

  return {
    async createClient(request, context) {
      const caller = callerOf(context);
      if (caller.clientId !== null) {
        throw new GatewayError("forbidden", "the key is narrowed to one client: it cannot register another");
      }
      const accessToken = request.accessToken ?? null;
      const phoneNumbers = await proof.prove(caller, toNumbers(request.phoneNumbers), () => accessToken);
      const client = {
        clientRef: request.clientRef ?? "",
        phoneNumbers,
        wabaIds: request.wabaIds,
        accessToken,
        appSecret: request.appSecret ?? null,
      };
      const created = await changing(parts, createClient(database, sealer, caller, client, clock.now()));
      return { client: fromClient(created) };
    },

    async getClient(request, context) {
      return { client: fromClient(await getClient(database, callerOf(context), request.clientRef ?? "")) };
    },

    async listClients(request, context) {
      const caller = callerOf(context);
      const list = ["clients", caller.tenantId, caller.clientId];
      const beforeId = readPageToken(request.pageToken, list, isRowId);
      const size = pageSizeOf(request.pageSize);
      const found = await listClients(database, caller, {
        limit: size + 1,
        beforeId: beforeId === null ? null : Number(beforeId),
      });
      const { page, nextPageToken } = cutPage(found, size, list);
      return { clients: page.map(fromClient), nextPageToken };
    },

    async updateClient(request, context) {
      const caller = callerOf(context);
      const clientRef = request.clientRef ?? "";
      const change = toClientChange(request);
      if (change.phoneNumbers) await proveAdded(caller, clientRef, change);
      const updated = await changing(
        parts,
        updateClient(database, sealer, caller, clientRef, change, clock.now()),
      );
      return { client: fromClient(updated) };
    },

    async deleteClient(request, context) {
      const { webhookCount, deliveryCount } = await changing(
        parts,
        deleteClient(database, callerOf(context), request.clientRef ?? "", request.force, clock.now()),
      );
      return { deletedWebhookCount: webhookCount, canceledDeliveryCount: deliveryCount };
    },

    async listUnroutedNumbers(request) {
      const list = ["unrouted"];
      const skip = Number(readPageToken(request.pageToken, list, isRowId) ?? 0);
      const size = pageSizeOf(request.pageSize);
      const found = await countUnrouted(database, { limit: size + 1, skip });
      const numbered = found.map((count, index) => ({ ...count, id: skip + index + 1 }));
      const { page, nextPageToken } = cutPage(numbered, size, list);
      return {
        unroutedNumbers: page.map((count) => ({
          phoneNumberId: count.phoneNumberId ?? undefined,
          wabaId: count.wabaId ?? undefined,
          eventCount: count.eventCount,
          firstReceivedAt: timestampFromDate(count.firstReceivedAt),
          lastReceivedAt: timestampFromDate(count.lastReceivedAt),
        })),
        nextPageToken,
      };
    },
  };

  /** Only what the client does not have yet is proved; what it has when the change is made decides. */
  async function proveAdded(caller: Caller, clientRef: string, change: ClientChange): Promise<void> {
    const { phoneNumbers: own } = await getClient(database, caller, clientRef);
    const wanted = change.phoneNumbers ?? [];
    const isOwn = (number: ClientNumber) => own.some((one) => one.phoneNumberId === number.phoneNumberId);
    change.phoneNumbers = await proof.prove(
      caller,
      wanted,
      () => (change.accessToken === undefined ? proof.storedToken(caller, clientRef) : change.accessToken),
      isOwn,
    );
    if (!proof.isAsked(caller)) return;
    const proved = new Set(wanted.filter((number) => !isOwn(number)).map((number) => number.phoneNumberId));
    change.mayAddNumbers = (added) => {
      if (added.every((id) => proved.has(id))) return;
      throw new GatewayError("unavailable", "the client's numbers have changed meanwhile, try again");
    };
  }
}

/** What a request changes: fields that are present, and those that `update_mask` names become empty. */
function toClientChange(request: UpdateClientRequest): ClientChange {
  const named = namesOf(request.updateMask);
  const change: ClientChange = {};
  if (request.phoneNumbers.length > 0 || named.has("phone_numbers")) {
    change.phoneNumbers = toNumbers(request.phoneNumbers);
  }
  if (request.wabaIds.length > 0 || named.has("waba_ids")) change.wabaIds = request.wabaIds;
  if (request.accessToken !== undefined || named.has("access_token")) {
    change.accessToken = request.accessToken ?? null;
  }
  if (request.appSecret !== undefined || named.has("app_secret")) {
    change.appSecret = request.appSecret ?? null;
  }
  return change;
}

function toNumbers(numbers: readonly PhoneNumber[]): ClientNumber[] {
  return numbers.map(({ phoneNumberId, displayPhoneNumber }) => ({
    phoneNumberId: phoneNumberId ?? "",
    displayPhoneNumber: displayPhoneNumber?.replace(/\D/g, "") ?? null,
  }));
}

function fromClient(client: Client): MessageInitShape<typeof ClientSchema> {
  return {
    clientRef: client.clientRef,
    phoneNumbers: client.phoneNumbers.map(({ phoneNumberId, displayPhoneNumber, sendsStoppedReason }) => ({
      phoneNumberId,
      sendsStoppedReason,
      displayPhoneNumber: displayPhoneNumber === null ? undefined : `+${displayPhoneNumber}`,
    })),
    wabaIds: client.wabaIds,
    hasAccessToken: client.hasAccessToken,
    hasAppSecret: client.hasAppSecret,
    createdAt: client.createdAt.getTime(),
  };
}
