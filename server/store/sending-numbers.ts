/** The number that a call sends from. */

import type pg from "pg";
import { GatewayError } from "../domain/errors.ts";
import type { Owner } from "./access.ts";

export interface SendingNumber {
  tenantId: number;
  clientId: number;
  numberId: number;
  phoneNumberId: string;
  accessTokenSealed: Buffer;
}

/**
 * @param clientRef      null = the client that has the number, or the one that the owner is narrowed to
 * @param phoneNumberId  null = the client's only number
 * @throws GatewayError `not_found` if there is no such client or it has no such number, `invalid_input` if it is not
 *         clear which number is meant, `wrong_state` if the client has no access token
 */
export async function findSendingNumber(
  pool: pg.Pool,
  owner: Owner,
  clientRef: string | null,
  phoneNumberId: string | null,
): Promise<SendingNumber> {
  if (clientRef === null && phoneNumberId === null && owner.clientId === null) {
    throw new GatewayError("invalid_input", "client_ref: say which client sends", { field: "client_ref" });
  }
  const found = await pool.query(
    `SELECT c.id AS client_id, c.tenant_id, c.access_token_sealed, n.id AS number_id, n.phone_number_id
     FROM client c LEFT JOIN phone_number n
       ON n.client_id = c.id AND ($4::text IS NULL OR n.phone_number_id = $4)
     WHERE c.tenant_id = $1 AND c.deleted_at IS NULL AND ($2::int IS NULL OR c.id = $2)
       AND ($3::text IS NULL OR c.client_ref = $3)
       AND ($3::text IS NOT NULL OR $2::int IS NOT NULL OR n.id IS NOT NULL)
     ORDER BY n.id LIMIT 2`,
    [owner.tenantId, owner.clientId, clientRef, phoneNumberId],
  );
  const [row, another] = found.rows;
  if (row === undefined) {
    const field = clientRef === null ? "phone_number_id" : "client_ref";
    const what = clientRef === null ? "no client has this number" : "there is no client of this name";
    throw new GatewayError("not_found", `${field}: ${what}`, { field });
  }
  if (row.number_id === null) {
    const what = phoneNumberId === null ? "the client has no number" : "is not one of the client's numbers";
    throw new GatewayError("not_found", `phone_number_id: ${what}`, { field: "phone_number_id" });
  }
  if (another !== undefined) {
    throw new GatewayError(
      "invalid_input",
      "phone_number_id: the client has several numbers: say which one sends",
      { field: "phone_number_id" },
    );
  }
  if (row.access_token_sealed === null) {
    throw new GatewayError("wrong_state", "the client has no access token: give it one by UpdateClient", {
      field: "client_ref",
    });
  }
  return {
    tenantId: row.tenant_id,
    clientId: row.client_id,
    numberId: row.number_id,
    phoneNumberId: row.phone_number_id,
    accessTokenSealed: row.access_token_sealed,
  };
}
