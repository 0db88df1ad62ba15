import { Migration } from "@mikro-orm/migrations";

/**
 * Links to media by the SHA-256 of their tokens. A link lives and dies with its message: what erases a message, or
 * gives it another place, does the same to its link.
 */
export class MediaMigration extends Migration {
  override up(): void {
    this.addSql(`CREATE TABLE media_link (
      token_digest bytea PRIMARY KEY CHECK (octet_length(token_digest) = 32),
      conversation_id bigint NOT NULL,
      sequence bigint NOT NULL,
      file_name text,
      expires_at timestamptz NOT NULL,
      FOREIGN KEY (conversation_id, sequence) REFERENCES message (conversation_id, sequence)
        ON DELETE CASCADE ON UPDATE CASCADE
    )`);
    this.addSql("CREATE INDEX media_link_message_idx ON media_link (conversation_id, sequence)");
    this.addSql("CREATE INDEX media_link_expires_idx ON media_link (expires_at)");
  }
}
