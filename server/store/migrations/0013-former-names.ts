import { Migration } from "@mikro-orm/migrations";

/** Names that contacts had before, and when an edit or revoke was made. */
export class FormerNamesMigration extends Migration {
  override up(): void {
    for (const statement of statements) this.addSql(statement);
  }
}

const statements = [
  /* Who erases a contact erases what names it by these, too. until_id: a UUIDv7; events from it on may be about
     another, if a phone has one. */
  `CREATE TABLE contact_former_name (
    contact_id uuid NOT NULL REFERENCES contact (id) ON DELETE CASCADE,
    kind text NOT NULL CHECK (kind IN ('phone', 'bsuid')),
    name text NOT NULL,
    client_id integer NOT NULL,
    until_id uuid NOT NULL,
    PRIMARY KEY (contact_id, kind, name)
  )`,
  `CREATE INDEX contact_former_name_phone_idx ON contact_former_name (client_id, name) WHERE kind = 'phone'`,

  /* By WhatsApp's clock: edits of one message come in any order, and the last one made counts. */
  `ALTER TABLE message_revision ADD COLUMN revised_at timestamptz NOT NULL DEFAULT '-infinity'`,
  `ALTER TABLE message_revision ALTER COLUMN revised_at DROP DEFAULT`,
];
