/** Payloads that are stored before their first request is made. */

import type pg from "pg";
import type { MadePayload } from "../domain/attempt-report.ts";
import type { ClaimedDelivery } from "../domain/delivery-claim.ts";
import { bytesArray, plainArray, textArray } from "./array-literals.ts";
import { isLeased } from "./delivery-leases.ts";

export interface NewPayload {
  claimed: Pick<ClaimedDelivery, "id" | "webhookId" | "attemptNumber">;
  transformer: string;
  payload: MadePayload;
}

/**
 * Stores payloads of claimed deliveries, all in one statement: every attempt from then on has these very bytes. Where the
 * lease was taken over, a payload is there already, or what it is made of was erased meanwhile, nothing is stored.
 *
 * @returns ids of the deliveries whose payload was stored
 */
export async function storePayloads(pool: pg.Pool, made: readonly NewPayload[]): Promise<Set<string>> {
  const result = await pool.query<{ id: string }>({
    name: "store-payloads",
    text: `UPDATE delivery d SET transformer = u.transformer, transformer_version = u.version,
        content_type = u.content_type, payload_headers = u.headers, body = u.body
      FROM unnest($1::int[], $2::uuid[], $3::int[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bytea[])
        AS u(webhook_id, id, attempt_number, transformer, version, content_type, headers, body)
      WHERE d.webhook_id = u.webhook_id AND d.id = u.id AND d.attempt_number = u.attempt_number AND ${isLeased}
        AND d.body IS NULL AND d.erased_at IS NULL
      RETURNING d.id`,
    values: [
      plainArray(made.map(({ claimed }) => claimed.webhookId)),
      plainArray(made.map(({ claimed }) => claimed.id)),
      plainArray(made.map(({ claimed }) => claimed.attemptNumber)),
      textArray(made.map(({ transformer }) => transformer)),
      textArray(made.map(({ payload }) => payload.transformerVersion)),
      textArray(made.map(({ payload }) => payload.contentType)),
      textArray(made.map(({ payload }) => headersText(payload))),
      bytesArray(made.map(({ payload }) => payload.body)),
    ],
  });
  return new Set(result.rows.map((row) => row.id));
}

function headersText({ headers }: MadePayload): string | null {
  return Object.keys(headers).length > 0 ? JSON.stringify(headers) : null;
}
