import { changeConfiguration } from "./configuration.ts";
import { ClientSchema, ClientWabaSchema, PhoneNumberSchema, TenantSchema } from "./entities/index.ts";
import type { Database } from "./orm.ts";

/** A business number that turned up without a client. */
export interface UnknownNumber {
  phoneNumberId: string;
  businessPhone: string | null;
  wabaId: string | null;
}

/**
 * Makes a client in tenant `default` for each number that has none, named by the number's id (development only).
 * Numbers that another process added meanwhile are left as they are.
 */
export async function addClientsOf(
  database: Database,
  numbers: readonly UnknownNumber[],
  now: Date,
): Promise<void> {
  await changeConfiguration(database, async (em, version) => {
    const tenant = await em.findOneOrFail(TenantSchema, { name: "default", deletedAt: null });
    for (const number of numbers) {
      const known = await em.findOne(PhoneNumberSchema, { phoneNumberId: number.phoneNumberId });
      if (known?.clientId != null) continue;
      const clientId =
        (await em.findOne(ClientSchema, { tenantId: tenant.id, clientRef: number.phoneNumberId, deletedAt: null }))
          ?.id ??
        (await em.insert(ClientSchema, {
          tenantId: tenant.id,
          clientRef: number.phoneNumberId,
          version,
          createdAt: now,
        }));
      await em.upsert(
        PhoneNumberSchema,
        {
          phoneNumberId: number.phoneNumberId,
          clientId,
          displayPhoneNumber: number.businessPhone,
          version,
          createdAt: now,
        },
        { onConflictFields: ["phoneNumberId"], onConflictMergeFields: ["clientId", "version"] },
      );
      if (number.wabaId) {
        await em.upsert(
          ClientWabaSchema,
          { clientId, wabaId: number.wabaId, version },
          { onConflictFields: ["clientId", "wabaId"], onConflictAction: "merge" },
        );
      }
    }
  });
}
