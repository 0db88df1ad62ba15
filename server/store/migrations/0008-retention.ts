import { Migration } from "@mikro-orm/migrations";

/** What ends by itself: the log by its age, webhooks that only fail; and what the gateway tells of it. */
export class RetentionMigration extends Migration {
  override up(): void {
    for (const statement of statements) this.addSql(statement);
  }
}

const statements = [
  `ALTER TABLE webhook ADD COLUMN disabled_at timestamptz
    CHECK (disabled_at IS NULL OR disabled_reason IS NOT NULL)`,

  /* Webhooks that have had nothing but failed attempts since first_failed_at. A row ends with the first success. */
  `CREATE TABLE failure_streak (
    webhook_id integer PRIMARY KEY REFERENCES webhook (id) ON DELETE CASCADE,
    failed_count integer NOT NULL CHECK (failed_count > 0),
    first_failed_at timestamptz NOT NULL,
    last_failed_at timestamptz NOT NULL CHECK (last_failed_at >= first_failed_at)
  ) WITH (fillfactor = 50)`,

  /* What becomes an event about the gateway itself, written in the transaction in which it happens and deleted once the
     event is committed. The webhook is the one that it is about. */
  `CREATE TABLE gateway_notice (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    type text NOT NULL CHECK (type IN ('posthorn.webhook.disabled', 'posthorn.delivery.failed')),
    tenant_id integer NOT NULL CHECK (tenant_id > 0),
    webhook_id integer NOT NULL,
    occurred_at timestamptz NOT NULL,
    details jsonb NOT NULL,
    leased_until timestamptz NOT NULL DEFAULT '-infinity'
  )`,

  /* How many deliveries became `failed` with reason `expired` on each day (UTC). */
  `CREATE TABLE expired_delivery_count (
    on_day date PRIMARY KEY,
    count bigint NOT NULL CHECK (count > 0)
  )`,
];
