import { defineEntity, type InferEntity, p } from "@mikro-orm/core";

export const ClientWabaSchema = defineEntity({
  name: "ClientWaba",
  tableName: "client_waba",
  properties: {
    clientId: p.integer().primary(),
    wabaId: p.text().primary(),
    version: p.bigint("bigint"),
    removedAt: p.datetime().nullable(),
  },
});

export type ClientWabaRow = InferEntity<typeof ClientWabaSchema>;
