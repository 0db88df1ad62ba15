import { defineEntity, type InferEntity, p } from "@mikro-orm/core";

export const ClientSchema = defineEntity({
  name: "Client",
  tableName: "client",
  properties: {
    id: p.integer().primary(),
    tenantId: p.integer(),
    clientRef: p.text(),
    accessTokenSealed: p.blob().nullable().lazy(),
    appSecretSealed: p.blob().nullable().lazy(),
    version: p.bigint("bigint"),
    createdAt: p.datetime(),
    deletedAt: p.datetime().nullable(),
  },
});

export type ClientRow = InferEntity<typeof ClientSchema>;
