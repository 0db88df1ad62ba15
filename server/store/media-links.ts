/** Links to media: written with their messages, looked up by the digest of their token. */

import type pg from "pg";
import { bigintArray, bytesArray, instantArray, textArray } from "./binary-arrays.ts";
import { sealedFor } from "./configuration.ts";
import type { Database } from "./orm.ts";
import type { Sealer } from "./sealer.ts";

export interface NewMediaLink {
  conversationId: string;
  /** Of the message that has the media. */
  sequence: number;
  /** SHA-256 of the token: 32 bytes. */
  tokenDigest: Uint8Array;
  /** As the sender named the file; null if they did not. */
  fileName: string | null;
  expiresAt: Date;
}

/** What a link leads to. */
export interface LinkedMedia {
  /** The client that the message belongs to. */
  clientId: number;
  clientRef: string;
  /** Null if the client has none. */
  accessToken: string | null;
  /** WhatsApp's id of the number that got or sent the message. */
  phoneNumberId: string;
  mediaId: string;
  fileName: string | null;
  expiresAt: Date;
}

/** Links that ran out longer ago are forgotten: they are then as unknown as any other. */
export const mediaLinkKeptMs = 30 * 24 * 3_600_000;

/** To be sent after the messages that the links are of, in the same transaction. */
export function insertMediaLinks(client: pg.ClientBase, rows: readonly NewMediaLink[]): Promise<unknown> {
  return client.query({
    name: "insert-media-links",
    text: `INSERT INTO media_link (token_digest, conversation_id, sequence, file_name, expires_at)
      SELECT u.token_digest, u.conversation_id, u.sequence, u.file_name, to_timestamp(u.expires_ms / 1000)
      FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::text[], $5::float8[])
        AS u(token_digest, conversation_id, sequence, file_name, expires_ms)`,
    values: [
      bytesArray(rows.map((row) => row.tokenDigest)),
      bigintArray(rows.map((row) => row.conversationId)),
      bigintArray(rows.map((row) => row.sequence)),
      textArray(rows.map((row) => row.fileName)),
      instantArray(rows.map((row) => row.expiresAt)),
    ],
  });
}

/**
 * @returns null if there is no such link, or the message or the client that it belongs to is gone
 * @throws Error if the access token cannot be opened with the master keys at hand
 */
export async function findLinkedMedia(
  database: Database,
  sealer: Sealer,
  tokenDigest: Uint8Array,
): Promise<LinkedMedia | null> {
  const found = await database.pool.query({
    name: "find-linked-media",
    text: `SELECT l.file_name, l.expires_at, m.media_id, n.phone_number_id, p.id AS client_id, p.client_ref,
        p.access_token_sealed
      FROM media_link l
      JOIN message m ON m.conversation_id = l.conversation_id AND m.sequence = l.sequence
      JOIN conversation v ON v.id = m.conversation_id
      JOIN contact c ON c.id = v.contact_id
      JOIN client p ON p.id = c.client_id AND p.deleted_at IS NULL
      JOIN phone_number n ON n.id = m.number_id
      WHERE l.token_digest = $1 AND m.media_id IS NOT NULL`,
    values: [tokenDigest],
  });
  const [row] = found.rows;
  if (row === undefined) return null;
  return {
    clientId: row.client_id,
    clientRef: row.client_ref,
    accessToken: row.access_token_sealed ? sealer.open(row.access_token_sealed, sealedFor.accessToken) : null,
    phoneNumberId: row.phone_number_id,
    mediaId: row.media_id,
    fileName: row.file_name,
    expiresAt: row.expires_at,
  };
}
