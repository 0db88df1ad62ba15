/** All services behind one handler for Connect, gRPC and gRPC-Web, over HTTP/1.1 and HTTP/2. */

import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import type { ConnectRouter, HandlerContext } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { createValidateInterceptor } from "@connectrpc/validate";
import type { Logger } from "pino";
import { ApiKeyService } from "../../gen/posthorn/v1/api_key_service_pb.ts";
import { AuditService } from "../../gen/posthorn/v1/audit_service_pb.ts";
import { ClientService } from "../../gen/posthorn/v1/client_service_pb.ts";
import { ContactService } from "../../gen/posthorn/v1/contact_service_pb.ts";
import { DeliveryService } from "../../gen/posthorn/v1/delivery_service_pb.ts";
import { EventService } from "../../gen/posthorn/v1/event_service_pb.ts";
import { MessageService } from "../../gen/posthorn/v1/message_service_pb.ts";
import { TenantService } from "../../gen/posthorn/v1/tenant_service_pb.ts";
import { TransformerService } from "../../gen/posthorn/v1/transformer_service_pb.ts";
import { WebhookService } from "../../gen/posthorn/v1/webhook_service_pb.ts";
import { optionFormats } from "../../plugins/transformer.ts";
import { createOptionsCheck } from "../domain/transformer-options.ts";
import type { RuleContext } from "../domain/webhook-rules.ts";
import { type ApiKeyServiceParts, createApiKeyService } from "./api-key-service.ts";
import { type AuditServiceParts, createAuditService } from "./audit-service.ts";
import { type AuthParts, createGate } from "./auth.ts";
import { type ClientServiceParts, createClientService } from "./client-service.ts";
import { type ContactServiceParts, createContactService } from "./contact-service.ts";
import { withCutOff } from "./cut-off.ts";
import { createDeliveryService, type DeliveryServiceParts } from "./delivery-service.ts";
import { createErrorInterceptor, toConnectError } from "./errors.ts";
import { createEventService, type EventServiceParts } from "./event-service.ts";
import { JsonTextDecoder } from "./json-text.ts";
import { createMessageService, type MessageServiceParts } from "./message-service.ts";
import { createTenantService, type TenantServiceParts } from "./tenant-service.ts";
import { createTransformerService, type TransformerServiceParts } from "./transformer-service.ts";
import { createWordedValidator } from "./validation.ts";
import { createWebhookService, type WebhookServiceParts } from "./webhook-service.ts";

export interface RpcParts
  extends ApiKeyServiceParts,
    AuditServiceParts,
    AuthParts,
    ClientServiceParts,
    ContactServiceParts,
    DeliveryServiceParts,
    EventServiceParts,
    MessageServiceParts,
    TenantServiceParts,
    Omit<TransformerServiceParts, "rules">,
    Omit<WebhookServiceParts, "rules">,
    Pick<RuleContext, "mode" | "transformers"> {
  log: Logger;
  /** Answers paths that are no rpc's. */
  fallback?: RpcHandler;
  /** Aborts the signals of all calls in progress. */
  shutdownSignal?: AbortSignal;
}

export type RpcHandler = ReturnType<typeof connectNodeAdapter>;

const requestBytesMax = 4 * 1024 * 1024;
const timeoutMaxMs = 30_000;

/** `textDecoder` is an option of Connect's own serialization, which its types do not show here. */
const jsonOptions = {
  useProtoFieldName: true,
  alwaysEmitImplicit: true,
  ignoreUnknownFields: false,
  textDecoder: new JsonTextDecoder(),
};

export function createRpcHandler(parts: RpcParts): RpcHandler {
  return connectNodeAdapter({
    ...handlerOptions(parts),
    contextValues: withCutOff,
    routes: addServices(parts),
    ...(parts.fallback && { fallback: parts.fallback }),
  });
}

/** How every call is treated, whichever way it comes in. */
export function handlerOptions(parts: RpcParts) {
  return {
    requestGate: guard(parts),
    // The first one is the outermost: it sees what the rules and the handlers throw.
    interceptors: [
      createErrorInterceptor(parts.log),
      createValidateInterceptor({ validator: createWordedValidator() }),
    ],
    readMaxBytes: requestBytesMax,
    maxTimeoutMs: timeoutMaxMs,
    jsonOptions,
    ...(parts.shutdownSignal && { shutdownSignal: parts.shutdownSignal }),
  };
}

/** What webhooks have to keep to, with the formats that options of transformers may have. */
export function createRules({ mode, transformers }: Pick<RuleContext, "mode" | "transformers">): RuleContext {
  return { mode, transformers, findOptionsFault: createOptionsCheck(optionFormats) };
}

/** The services that this gateway has, with what each needs. */
export function addServices(parts: RpcParts): (router: ConnectRouter) => void {
  const rules = createRules(parts);
  return (router) => {
    router.service(WebhookService, createWebhookService({ ...parts, rules }));
    router.service(DeliveryService, createDeliveryService(parts));
    router.service(EventService, createEventService(parts));
    router.service(MessageService, createMessageService(parts));
    router.service(ClientService, createClientService(parts));
    router.service(ContactService, createContactService(parts));
    router.service(ApiKeyService, createApiKeyService(parts));
    router.service(TenantService, createTenantService(parts));
    router.service(AuditService, createAuditService(parts));
    router.service(TransformerService, createTransformerService({ ...parts, rules }));
  };
}

function guard(parts: RpcParts): (context: HandlerContext) => Promise<void> {
  const admit = createGate(parts);
  return async (context) => {
    // Set before anything can fail: a cache may keep some errors too.
    if (context.method.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS) {
      context.responseHeader.set("Cache-Control", "private, no-store");
      context.responseHeader.set("Vary", "Authorization");
    }
    try {
      await admit(context);
    } catch (error) {
      throw toConnectError(error, context.method.input, parts.log);
    }
  };
}
