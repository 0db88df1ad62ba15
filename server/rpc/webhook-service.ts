import { randomBytes } from "node:crypto";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import { WebhookService } from "../../gen/posthorn/v1/webhook_service_pb.ts";
import type { Probe } from "../delivery/probe.ts";
import { GatewayError } from "../domain/errors.ts";
import {
  applyChange,
  checkHeaders,
  checkNewWebhook,
  checkOwnSecret,
  findHold,
  type RuleContext,
} from "../domain/webhook-rules.ts";
import type { Sealer } from "../store/sealer.ts";
import {
  createWebhook,
  deleteWebhook,
  getWebhook,
  listWebhooks,
  type NewWebhook,
  rotateWebhookSecret,
  updateWebhook,
} from "../store/webhooks.ts";
import { type Caller, callerOf } from "./auth.ts";
import { type ChangeParts, changing } from "./change.ts";
import { fromAttempt, fromWebhook, toWebhookChange, toWebhookSettings } from "./convert.ts";
import { type IdempotencyParts, runOnce } from "./idempotency.ts";
import { cutPage, isRowId, pageSizeOf, readPageToken } from "./paging.ts";

const overlapSecondsDefault = 86_400;

export interface WebhookServiceParts extends IdempotencyParts, ChangeParts {
  sealer: Sealer;
  rules: RuleContext;
  probe: Pick<Probe, "run">;
}

export function createWebhookService(parts: WebhookServiceParts): ServiceImpl<typeof WebhookService> {
  const { database, sealer, clock, rules } = parts;

  return {
    async createWebhook(request, context) {
      const caller = callerOf(context);
      return await runOnce(parts, caller, WebhookService.method.createWebhook, request, async (keep) => {
        const settings = toWebhookSettings(request);
        settings.clientRef = clientRefFor(caller, request.clientRef);
        checkNewWebhook(settings, rules);
        checkHeaders(request.headers);
        if (request.signatureSecret !== undefined) checkOwnSecret(request.signatureSecret);
        const secret = settings.isSigned ? (request.signatureSecret ?? makeSecret()) : null;
        const webhook: NewWebhook = {
          settings,
          secret,
          headers: { ...request.headers },
          // Without the secret, which is shown once.
          inTransaction: (transaction, made) => keep(transaction, fromWebhook(made, null)),
        };
        const created = await changing(parts, createWebhook(database, sealer, caller, webhook, clock.now()));
        return { ...fromWebhook(created, null), signatureSecret: secret ?? undefined };
      });
    },

    async getWebhook(request, context) {
      const webhook = await getWebhook(database, callerOf(context), request.id ?? 0);
      return { webhook: fromWebhook(webhook, findHold(webhook, rules)) };
    },

    async listWebhooks(request, context) {
      const caller = callerOf(context);
      const list = ["webhooks", caller.tenantId, caller.clientId];
      const beforeId = readPageToken(request.pageToken, list, isRowId);
      const size = pageSizeOf(request.pageSize);
      const found = await listWebhooks(database, caller, {
        limit: size + 1,
        beforeId: beforeId === null ? null : Number(beforeId),
      });
      const { page, nextPageToken } = cutPage(found, size, list);
      return {
        webhooks: page.map((webhook) => fromWebhook(webhook, findHold(webhook, rules))),
        nextPageToken,
      };
    },

    async updateWebhook(request, context) {
      const caller = callerOf(context);
      const { settings, headers } = toWebhookChange(request);
      if (headers !== undefined) checkHeaders(headers);
      if (settings.clientRef === null && caller.clientRef !== null) throw outsideClient(caller.clientRef);
      if (settings.clientRef !== undefined) settings.clientRef = clientRefFor(caller, settings.clientRef);
      const change = {
        apply: (before: Parameters<typeof applyChange>[0]) => applyChange(before, settings, rules),
        headers,
      };
      const webhook = await changing(
        parts,
        updateWebhook(database, sealer, caller, request.id ?? 0, change, clock.now()),
      );
      return { webhook: fromWebhook(webhook, findHold(webhook, rules)) };
    },

    async deleteWebhook(request, context) {
      await changing(parts, deleteWebhook(database, callerOf(context), request.id ?? 0, clock.now()));
      return {};
    },

    async rotateWebhookSecret(request, context) {
      if (request.signatureSecret !== undefined) checkOwnSecret(request.signatureSecret);
      const secret = request.signatureSecret ?? makeSecret();
      const rotation = { secret, overlapSeconds: request.overlapSeconds ?? overlapSecondsDefault };
      const { webhook, formerExpiresAt } = await changing(
        parts,
        rotateWebhookSecret(database, sealer, callerOf(context), request.id ?? 0, rotation, clock.now()),
      );
      return {
        signatureSecret: secret,
        formerSecretExpiresAt: formerExpiresAt ? timestampFromDate(formerExpiresAt) : undefined,
        webhook: fromWebhook(webhook, findHold(webhook, rules)),
      };
    },

    async testWebhook(request, context) {
      const { id } = await getWebhook(database, callerOf(context), request.id ?? 0);
      const result = await parts.probe.run(id, request.eventType ?? null);
      return {
        eventType: result.eventType,
        webhookIdHeader: result.deliveryId,
        attempt: result.attempt ? fromAttempt(result.attempt) : undefined,
        reason: result.reason ?? undefined,
        reasonDetail: result.reasonDetail ?? undefined,
        contentType: result.payload?.contentType,
        body: result.payload ? new Uint8Array(result.payload.body) : undefined,
      };
    },
  };
}

/** A key that is narrowed to a client makes webhooks of this client only, and need not say so. */
function clientRefFor(caller: Caller, asked: string | null | undefined): string | null {
  if (caller.clientRef === null) return asked ?? null;
  if (asked !== undefined && asked !== null && asked !== caller.clientRef)
    throw outsideClient(caller.clientRef);
  return caller.clientRef;
}

function outsideClient(clientRef: string): GatewayError {
  return new GatewayError("forbidden", `the key is for webhooks of client ${clientRef} only`, {
    field: "client_ref",
  });
}

function makeSecret(): string {
  return `whsec_${randomBytes(32).toString("base64")}`;
}
