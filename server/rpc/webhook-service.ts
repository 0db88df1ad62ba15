import { randomBytes } from "node:crypto";
import type { ServiceImpl } from "@connectrpc/connect";
import type { Logger } from "pino";
import type { WebhookService } from "../../gen/posthorn/v1/webhook_service_pb.ts";
import type { Clock } from "../clock.ts";
import { GatewayError } from "../domain/errors.ts";
import {
  applyChange,
  checkHeaders,
  checkNewWebhook,
  checkOwnSecret,
  findHold,
  type RuleContext,
} from "../domain/webhook-rules.ts";
import type { Database } from "../store/orm.ts";
import type { Sealer } from "../store/sealer.ts";
import { createWebhook, deleteWebhook, getWebhook, listWebhooks, updateWebhook } from "../store/webhooks.ts";
import { callerOf } from "./auth.ts";
import { fromWebhook, toWebhookChange, toWebhookSettings } from "./convert.ts";
import { cutPage, pageSizeOf, readPageToken } from "./paging.ts";

export interface WebhookServiceParts {
  database: Database;
  sealer: Sealer;
  clock: Clock;
  log: Logger;
  rules: RuleContext;
  /** Refreshes what this process knows of the configuration and tells the other processes. */
  configurationChanged(): Promise<void>;
  /** Says that something may be due now. */
  wakeDispatcher(): void;
}

export function createWebhookService(parts: WebhookServiceParts): ServiceImpl<typeof WebhookService> {
  const { database, sealer, clock, rules } = parts;

  /** What a refusal leaves behind is nothing; any other failure may come after the commit. */
  async function changing<T>(change: Promise<T>): Promise<T> {
    try {
      const result = await change;
      await announce();
      return result;
    } catch (error) {
      if (!(error instanceof GatewayError)) await announce();
      throw error;
    }
  }

  /**
   * A change that is committed has happened: an answer that says otherwise would lose the only look at a secret. Those
   * who publish and claim compare versions, so a word that is lost costs the others a moment and no promise.
   */
  async function announce(): Promise<void> {
    try {
      await parts.configurationChanged();
    } catch (error) {
      parts.log.warn({ err: error }, "a change of configuration could not be announced");
    }
    parts.wakeDispatcher();
  }

  return {
    async createWebhook(request, context) {
      const settings = toWebhookSettings(request);
      checkNewWebhook(settings, rules);
      checkHeaders(request.headers);
      if (request.signatureSecret !== undefined) checkOwnSecret(request.signatureSecret);
      const secret = settings.isSigned ? (request.signatureSecret ?? makeSecret()) : null;
      const webhook = { settings, secret, headers: { ...request.headers } };
      const created = await changing(
        createWebhook(database, sealer, callerOf(context).tenantId, webhook, clock.now()),
      );
      return { ...fromWebhook(created, null), signatureSecret: secret ?? undefined };
    },

    async getWebhook(request, context) {
      const webhook = await getWebhook(database, callerOf(context).tenantId, request.id ?? 0);
      return { webhook: fromWebhook(webhook, findHold(webhook, rules)) };
    },

    async listWebhooks(request, context) {
      const { tenantId } = callerOf(context);
      const list = ["webhooks", tenantId];
      const beforeId = readPageToken(request.pageToken, list, isWebhookId);
      const size = pageSizeOf(request.pageSize);
      const found = await listWebhooks(database, tenantId, {
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
      const { settings, headers } = toWebhookChange(request);
      if (headers !== undefined) checkHeaders(headers);
      const change = {
        apply: (before: Parameters<typeof applyChange>[0]) => applyChange(before, settings, rules),
        headers,
      };
      const { tenantId } = callerOf(context);
      const webhook = await changing(
        updateWebhook(database, sealer, tenantId, request.id ?? 0, change, clock.now()),
      );
      return { webhook: fromWebhook(webhook, findHold(webhook, rules)) };
    },

    async deleteWebhook(request, context) {
      await changing(deleteWebhook(database, callerOf(context).tenantId, request.id ?? 0, clock.now()));
      return {};
    },
  };
}

function makeSecret(): string {
  return `whsec_${randomBytes(32).toString("base64")}`;
}

function isWebhookId(text: string): boolean {
  return /^[1-9][0-9]{0,9}$/.test(text) && Number(text) <= 2_147_483_647;
}
