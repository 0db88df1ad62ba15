import { hash, randomBytes } from "node:crypto";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import type { ApiKeySchema, ApiKeyService } from "../../gen/posthorn/v1/api_key_service_pb.ts";
import type { Clock } from "../clock.ts";
import { GatewayError } from "../domain/errors.ts";
import { type ApiKey, createApiKey, listApiKeys, revokeApiKey } from "../store/api-keys.ts";
import type { Database } from "../store/orm.ts";
import { callerOf } from "./auth.ts";
import { type ChangeParts, changing } from "./change.ts";
import { cutPage, isRowId, pageSizeOf, readPageToken } from "./paging.ts";

export interface ApiKeyServiceParts extends ChangeParts {
  database: Database;
  clock: Clock;
}

const rateLimitPerMinuteDefault = 300;

export function createApiKeyService(parts: ApiKeyServiceParts): ServiceImpl<typeof ApiKeyService> {
  const { database, clock } = parts;
  return {
    async createApiKey(request, context) {
      const now = clock.now();
      const expiresAt = request.expiresAt ? timestampDate(request.expiresAt) : null;
      if (expiresAt !== null && expiresAt <= now) {
        throw new GatewayError("invalid_input", "expires_at: must lie in the future", {
          field: "expires_at",
        });
      }
      const key = `phk_${randomBytes(32).toString("base64url")}`;
      const created = await changing(
        parts,
        createApiKey(
          database,
          callerOf(context),
          {
            name: request.name ?? "",
            scopes: request.scopes,
            clientRef: request.clientRef ?? null,
            hint: key.slice(-4),
            digest: hash("sha256", key, "buffer"),
            rateLimitPerMinute: request.rateLimitPerMinute ?? rateLimitPerMinuteDefault,
            expiresAt,
          },
          now,
        ),
      );
      return { key, apiKey: fromApiKey(created) };
    },

    async listApiKeys(request, context) {
      const { tenantId } = callerOf(context);
      const list = ["api_keys", tenantId];
      const beforeId = readPageToken(request.pageToken, list, isRowId);
      const size = pageSizeOf(request.pageSize);
      const found = await listApiKeys(database, tenantId, {
        limit: size + 1,
        beforeId: beforeId === null ? null : Number(beforeId),
      });
      const { page, nextPageToken } = cutPage(found, size, list);
      return { apiKeys: page.map(fromApiKey), nextPageToken };
    },

    async revokeApiKey(request, context) {
      const revoked = await changing(
        parts,
        revokeApiKey(database, callerOf(context), request.id ?? 0, clock.now()),
      );
      return { apiKey: fromApiKey(revoked) };
    },
  };
}

function fromApiKey(key: ApiKey): MessageInitShape<typeof ApiKeySchema> {
  return {
    id: key.id,
    name: key.name,
    scopes: key.scopes,
    clientRef: key.clientRef ?? undefined,
    hint: key.hint,
    rateLimitPerMinute: key.rateLimitPerMinute,
    createdAt: key.createdAt.getTime(),
    expiresAt: key.expiresAt ? timestampFromDate(key.expiresAt) : undefined,
    revokedAt: key.revokedAt ? timestampFromDate(key.revokedAt) : undefined,
    lastUsedAt: key.lastUsedAt ? timestampFromDate(key.lastUsedAt) : undefined,
  };
}
