import type { Database } from "./orm.ts";

/** Keeps a body that was validly signed and made no sense, exactly as it came. */
export async function keepMalformed(
  database: Database,
  body: Uint8Array,
  reason: string,
  now: Date,
): Promise<void> {
  await database.pool.query({
    name: "keep-malformed",
    text: "INSERT INTO malformed_body (received_at, reason, body) VALUES ($1, $2, $3)",
    values: [now, reason, body],
  });
}
