import { Migration } from "@mikro-orm/migrations";

/** Contacts that turn out to be one, messages imported from a phone's history, and contacts that are erased. */
export class ContactsMigration extends Migration {
  override up(): void {
    for (const statement of statements) this.addSql(statement);
  }
}

const statements = [
  /* When two contacts become one, both conversations stay as they are for the payloads of their events, and a third
     one goes on with the messages of both. Theirs is then the id of that one. */
  `ALTER TABLE conversation ADD COLUMN merged_into bigint`,
  `ALTER TABLE conversation DROP CONSTRAINT conversation_contact_id_number_id_key`,
  `CREATE UNIQUE INDEX conversation_pair_key ON conversation (contact_id, number_id) WHERE merged_into IS NULL`,
  `CREATE INDEX conversation_merged_idx ON conversation (contact_id) WHERE merged_into IS NOT NULL`,

  /* UUIDs of contacts that became part of another: who kept one still finds the contact by it. */
  `CREATE TABLE contact_former_id (
    id uuid PRIMARY KEY,
    contact_id uuid NOT NULL REFERENCES contact (id) ON DELETE CASCADE
  )`,
  `CREATE INDEX contact_former_id_contact_idx ON contact_former_id (contact_id)`,

  `CREATE INDEX contact_client_idx ON contact (client_id, id)`,
  `CREATE INDEX contact_labels_idx ON contact USING gin (labels) WHERE labels <> '{}'`,

  /* True once messages were imported: only then a new message may be one that was imported before. */
  `ALTER TABLE conversation ADD COLUMN has_imports boolean NOT NULL DEFAULT false`,
  /* An imported message that came as a message of its own as well shows in events before that one only. */
  `ALTER TABLE message ADD COLUMN visible_until bigint CHECK (visible_until IS NULL OR sequence < 1)`,

  /* What the log had of an erased contact is gone: such a delivery can never be sent again. */
  `ALTER TABLE delivery ADD COLUMN erased_at timestamptz`,
  `ALTER TABLE delivery DROP CONSTRAINT delivery_reason_check`,
  `ALTER TABLE delivery ADD CONSTRAINT delivery_reason_check
    CHECK (reason IN ('attempts_exhausted', 'transformer_error', 'lost_repeatedly', 'expired',
                      'webhook_disabled', 'webhook_deleted', 'client_deleted', 'contact_deleted'))`,
];
