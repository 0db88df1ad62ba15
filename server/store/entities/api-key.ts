import { defineEntity, type InferEntity, p } from "@mikro-orm/core";

export const ApiKeySchema = defineEntity({
  name: "ApiKey",
  tableName: "api_key",
  properties: {
    id: p.integer().primary(),
    tenantId: p.integer(),
    /** Null = every client of the tenant. */
    clientId: p.integer().nullable(),
    name: p.text(),
    /** SHA-256 of the key. */
    digest: p.blob().lazy(),
    /** The last four characters of the key. */
    hint: p.text(),
    scopes: p.array<string>(),
    /** 0 = no limit. */
    rateLimitPerMinute: p.integer(),
    version: p.bigint("bigint"),
    createdAt: p.datetime(),
    expiresAt: p.datetime().nullable(),
    revokedAt: p.datetime().nullable(),
    lastUsedAt: p.datetime().nullable(),
  },
});

export type ApiKeyRow = InferEntity<typeof ApiKeySchema>;
