import { defineEntity, type InferEntity, p } from "@mikro-orm/core";

export const WebhookSecretSchema = defineEntity({
  name: "WebhookSecret",
  tableName: "webhook_secret",
  properties: {
    id: p.integer().primary(),
    webhookId: p.integer(),
    secretSealed: p.blob(),
    createdAt: p.datetime(),
    /** Null for the current secret; the former one's end of overlap otherwise. */
    expiresAt: p.datetime().nullable(),
  },
});

export type WebhookSecretRow = InferEntity<typeof WebhookSecretSchema>;
