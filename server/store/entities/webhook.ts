import { defineEntity, type InferEntity, p } from "@mikro-orm/core";

export const WebhookSchema = defineEntity({
  name: "Webhook",
  tableName: "webhook",
  properties: {
    id: p.integer().primary(),
    tenantId: p.integer(),
    clientId: p.integer().nullable(),
    url: p.text(),
    /** SHA-256 of `new URL(url).href`: an index on the text itself would be too wide. */
    urlDigest: p.blob(),
    isEnabled: p.boolean(),
    isPaused: p.boolean(),
    incoming: p.boolean(),
    outgoing: p.boolean(),
    scheduleActivity: p.boolean(),
    waitingDurationSeconds: p.integer(),
    isSigned: p.boolean(),
    transformer: p.text(),
    transformerOptions: p.json<Record<string, unknown>>().nullable(),
    eventTypes: p.array<string>(),
    headersSealed: p.blob().nullable(),
    maxInFlight: p.integer(),
    description: p.text(),
    disabledReason: p.text().nullable(),
    disabledAt: p.datetime().nullable(),
    version: p.bigint("bigint"),
    createdAt: p.datetime(),
    updatedAt: p.datetime(),
    deletedAt: p.datetime().nullable(),
  },
});

export type WebhookRow = InferEntity<typeof WebhookSchema>;
