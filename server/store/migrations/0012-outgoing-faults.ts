import { Migration } from "@mikro-orm/migrations";

/** How often WhatsApp failed at a message by a fault of its own, which is not repeated for ever; waits do not count. */
export class OutgoingFaultsMigration extends Migration {
  override up(): void {
    this.addSql(
      `ALTER TABLE outgoing_message
        ADD COLUMN fault_count smallint NOT NULL DEFAULT 0 CHECK (fault_count BETWEEN 0 AND attempt_count)`,
    );
  }
}
