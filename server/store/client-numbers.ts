/**
 * Which client has which numbers and accounts. Every function here runs in a transaction of `changeConfiguration`,
 * which lets one change in at a time. A row of a number stays when it leaves its client, since conversations point to
 * it; the next client takes the row over, with contacts and conversations of its own.
 */

import type { EntityManager } from "@mikro-orm/postgresql";
import type { ClientNumber } from "../domain/client.ts";
import { GatewayError } from "../domain/errors.ts";
import { type ClientWabaRow, ClientWabaSchema } from "./entities/client-waba.ts";
import { type PhoneNumberRow, PhoneNumberSchema } from "./entities/phone-number.ts";
import { forgetStop } from "./outgoing-list.ts";

export interface Stamp {
  version: bigint;
  now: Date;
}

/**
 * Makes `wanted` the client's numbers: adds what is new, frees what is missing.
 *
 * @param mayAdd  called with the numbers that are new, before anything changes; throws to refuse them
 * @throws GatewayError `already_exists`, naming the first number that another client has, whosever that is
 */
export async function setNumbers(
  em: EntityManager,
  clientId: number,
  wanted: readonly ClientNumber[],
  { version, now }: Stamp,
  mayAdd: (added: readonly string[]) => void = () => undefined,
): Promise<void> {
  const own = await em.find(PhoneNumberSchema, { clientId });
  const ids = wanted.map((number) => number.phoneNumberId);
  const known = new Map<string, PhoneNumberRow>();
  for (const row of await em.find(PhoneNumberSchema, { phoneNumberId: { $in: ids } })) {
    known.set(row.phoneNumberId, row);
  }
  mayAdd(ids.filter((id) => known.get(id)?.clientId !== clientId));
  for (const [index, { phoneNumberId, displayPhoneNumber }] of wanted.entries()) {
    const row = known.get(phoneNumberId);
    if (row?.clientId != null && row.clientId !== clientId) throw refuseTaken(index);
    if (row) {
      if (row.clientId !== clientId) await forgetStop(em, row.id);
      em.assign(row, { clientId, version });
      if (displayPhoneNumber !== null) row.displayPhoneNumber = displayPhoneNumber;
    } else {
      em.create(PhoneNumberSchema, { phoneNumberId, clientId, displayPhoneNumber, version, createdAt: now });
    }
    // One by one, so that their ids keep the order of the list.
    await em.flush();
    await noteRouting(em, "phone_number_id", phoneNumberId, now);
  }
  for (const row of own) {
    if (!ids.includes(row.phoneNumberId)) em.assign(row, { clientId: null, version });
  }
  await em.flush();
}

/** Makes `wanted` the client's accounts. Who else has one of them does not matter. */
export async function setWabas(
  em: EntityManager,
  clientId: number,
  wanted: readonly string[],
  { version, now }: Stamp,
): Promise<void> {
  const known = new Map<string, ClientWabaRow>();
  for (const row of await em.find(ClientWabaSchema, { clientId })) known.set(row.wabaId, row);
  for (const wabaId of wanted) {
    const row = known.get(wabaId);
    if (row) em.assign(row, { removedAt: null, version });
    else em.create(ClientWabaSchema, { clientId, wabaId, version, removedAt: null });
  }
  const removed = [...known.values()].filter((row) => !row.removedAt && !wanted.includes(row.wabaId));
  for (const row of removed) em.assign(row, { removedAt: now, version });
  await em.flush();
  // An account that leaves one of several owners may have become the others' alone.
  for (const wabaId of [...wanted, ...removed.map((row) => row.wabaId)]) {
    await noteRouting(em, "waba_id", wabaId, now);
  }
}

/** Notes that events of nobody may have an owner now, if there are any: `delivery/late-routing.ts` does the rest. */
export async function noteRouting(
  em: EntityManager,
  by: "phone_number_id" | "waba_id",
  id: string,
  now: Date,
): Promise<void> {
  const accountOnly = by === "waba_id" ? "AND phone_number_id IS NULL" : "";
  await em.execute(
    `INSERT INTO routing_task (${by}, created_at)
     SELECT ?, ? WHERE EXISTS (SELECT FROM event WHERE tenant_id = 0 AND ${by} = ? ${accountOnly})
     ON CONFLICT DO NOTHING`,
    [id, now, id],
  );
}

function refuseTaken(index: number): GatewayError {
  const field = `phone_numbers[${index}].phone_number_id`;
  return new GatewayError("already_exists", `${field}: belongs to a client already`, { field });
}
