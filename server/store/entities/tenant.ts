import { defineEntity, type InferEntity, p } from "@mikro-orm/core";

export const TenantSchema = defineEntity({
  name: "Tenant",
  tableName: "tenant",
  properties: {
    id: p.integer().primary(),
    name: p.text(),
    version: p.bigint("bigint"),
    createdAt: p.datetime(),
    deletedAt: p.datetime().nullable(),
  },
});

export type TenantRow = InferEntity<typeof TenantSchema>;
