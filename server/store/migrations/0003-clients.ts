import { Migration } from "@mikro-orm/migrations";

/** Clients that change: accounts that leave, events that find their client late, deliveries of clients that are gone. */
export class ClientsMigration extends Migration {
  override up(): void {
    for (const statement of statements) this.addSql(statement);
  }
}

const statements = [
  /* A removed account keeps its row, with a new version: each process reads only rows that changed. */
  `ALTER TABLE client_waba ADD COLUMN removed_at timestamptz`,

  /* Events of nobody that may have an owner now: those of one number, or those of one account that name no number.
     Made in the transaction that changed the owner, deleted in the one that routed the last of them. */
  `CREATE TABLE routing_task (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    phone_number_id text UNIQUE,
    waba_id text UNIQUE,
    created_at timestamptz NOT NULL,
    CHECK ((phone_number_id IS NULL) <> (waba_id IS NULL))
  )`,

  /* Hold events of nobody only, so they cost the others nothing. */
  `CREATE INDEX event_unrouted_number_idx ON event (phone_number_id, id) WHERE tenant_id = 0`,
  `CREATE INDEX event_unrouted_waba_idx ON event (waba_id, id) WHERE tenant_id = 0 AND phone_number_id IS NULL`,

  `ALTER TABLE delivery DROP CONSTRAINT delivery_reason_check`,
  `ALTER TABLE delivery ADD CONSTRAINT delivery_reason_check
    CHECK (reason IN ('attempts_exhausted', 'transformer_error', 'lost_repeatedly', 'expired',
                      'webhook_disabled', 'webhook_deleted', 'client_deleted'))`,
];
