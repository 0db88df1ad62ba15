import type { EntityManager } from "@mikro-orm/postgresql";
import { noteAudit } from "./audit.ts";
import { noteRouting } from "./client-numbers.ts";
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
    for (const number of numbers) await addClientOf(em, tenant.id, number, version, now);
  });
}

async function addClientOf(
  em: EntityManager,
  tenantId: number,
  { phoneNumberId, businessPhone, wabaId }: UnknownNumber,
  version: bigint,
  now: Date,
): Promise<void> {
  const known = await em.findOne(PhoneNumberSchema, { phoneNumberId });
  if (known?.clientId != null) return;
  const clientRef = phoneNumberId.slice(0, clientRefCharactersMax);
  const found = await em.findOne(ClientSchema, { tenantId, clientRef, deletedAt: null });
  const clientId =
    found?.id ?? (await em.insert(ClientSchema, { tenantId, clientRef, version, createdAt: now }));
  await em.upsert(
    PhoneNumberSchema,
    { phoneNumberId, clientId, displayPhoneNumber: businessPhone, version, createdAt: now },
    { onConflictFields: ["phoneNumberId"], onConflictMergeFields: ["clientId", "version"] },
  );
  await noteRouting(em, "phone_number_id", phoneNumberId, now);
  if (wabaId) {
    await em.upsert(
      ClientWabaSchema,
      { clientId, wabaId, version, removedAt: null },
      { onConflictFields: ["clientId", "wabaId"], onConflictAction: "merge" },
    );
    await noteRouting(em, "waba_id", wabaId, now);
  }
  if (found) return;
  const changes = { phone_numbers: [phoneNumberId], waba_ids: wabaId ? [wabaId] : [] };
  await noteAudit(
    em,
    { tenantId, actor: "gateway", action: "client.created", subjectId: clientRef, changes },
    now,
  );
}

/** As long as a name may be; ids of numbers may be longer. */
const clientRefCharactersMax = 200;
