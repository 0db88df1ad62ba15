import { defineEntity, type InferEntity, p } from "@mikro-orm/core";

export const PhoneNumberSchema = defineEntity({
  name: "PhoneNumber",
  tableName: "phone_number",
  properties: {
    id: p.integer().primary(),
    phoneNumberId: p.text(),
    clientId: p.integer().nullable(),
    displayPhoneNumber: p.text().nullable(),
    version: p.bigint("bigint"),
    createdAt: p.datetime(),
  },
});

export type PhoneNumberRow = InferEntity<typeof PhoneNumberSchema>;
