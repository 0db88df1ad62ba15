import { Migration } from "@mikro-orm/migrations";

/** Gateway processes and how much of the configuration each has seen; lost in a crash of the database, then made anew. */
export class ProcessesMigration extends Migration {
  override up(): void {
    this.addSql(`CREATE UNLOGGED TABLE gateway_process (
      id uuid PRIMARY KEY,
      seen_version bigint NOT NULL,
      alive_until timestamptz NOT NULL
    ) WITH (fillfactor = 50)`);
  }
}
