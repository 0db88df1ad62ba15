import { Migration } from "@mikro-orm/migrations";

/** Deliveries asked for again in bulk, and what a live stream of attempts follows. */
export class RecoveriesMigration extends Migration {
  override up(): void {
    for (const statement of statements) this.addSql(statement);
  }
}

const statements = [
  /* cursor_*: the last row that was looked at, webhook by webhook; is_walked: nothing is left to look at. total_count:
     null until it is counted. done_count: rows that had their turn; those of them that have ended are in one of the
     three counts below it, the others in recovery_delivery. is_settled: nothing is left to do, which a canceled one
     may reach late. next_at keeps the pace, whoever takes the recovery over. */
  `CREATE TABLE recovery (
    id uuid PRIMARY KEY,
    tenant_id integer NOT NULL REFERENCES tenant (id),
    client_id integer REFERENCES client (id),
    webhook_id integer REFERENCES webhook (id),
    is_missed boolean NOT NULL,
    states text[] NOT NULL,
    event_types text[] NOT NULL,
    since_at timestamptz,
    until_at timestamptz NOT NULL,
    rate_per_second integer NOT NULL CHECK (rate_per_second BETWEEN 1 AND 1000),
    state text NOT NULL CHECK (state IN ('running', 'done', 'canceled')),
    total_count integer CHECK (total_count >= 0),
    done_count integer NOT NULL DEFAULT 0,
    delivered_count integer NOT NULL DEFAULT 0 CHECK (delivered_count >= 0),
    failed_count integer NOT NULL DEFAULT 0 CHECK (failed_count >= 0),
    other_count integer NOT NULL DEFAULT 0 CHECK (other_count >= 0),
    cursor_webhook_id integer NOT NULL DEFAULT 0,
    cursor_id uuid,
    is_walked boolean NOT NULL DEFAULT false,
    is_settled boolean NOT NULL DEFAULT false,
    next_at timestamptz NOT NULL,
    holder_id uuid,
    leased_until timestamptz,
    started_at timestamptz NOT NULL,
    finished_at timestamptz,
    CHECK (is_missed = (cardinality(states) = 0)),
    CHECK ((finished_at IS NULL) = (state = 'running')),
    CHECK (state <> 'running' OR NOT is_settled),
    CHECK (state <> 'done' OR (is_settled AND is_walked)),
    CHECK (done_count >= delivered_count + failed_count + other_count),
    CHECK ((holder_id IS NULL) = (leased_until IS NULL))
  ) WITH (fillfactor = 50)`,
  `CREATE INDEX recovery_tenant_idx ON recovery (tenant_id, id)`,
  `CREATE INDEX recovery_open_idx ON recovery (id) WHERE NOT is_settled`,
  `CREATE INDEX recovery_finished_idx ON recovery (finished_at) WHERE is_settled`,

  /* What a recovery has taken up and what has not ended. attempt_number: the last one before. */
  `CREATE TABLE recovery_delivery (
    recovery_id uuid NOT NULL REFERENCES recovery (id) ON DELETE CASCADE,
    webhook_id integer NOT NULL,
    delivery_id uuid NOT NULL,
    attempt_number integer NOT NULL CHECK (attempt_number >= 0),
    PRIMARY KEY (recovery_id, webhook_id, delivery_id)
  )`,

  /* Deliveries that were not made with their event, which is where one looks for them otherwise: each pair once. */
  `CREATE TABLE late_delivery (
    event_id uuid NOT NULL,
    webhook_id integer NOT NULL,
    PRIMARY KEY (event_id, webhook_id)
  )`,

  /* What can be asked for again and is the exception. Every change of state changes due_at or leased_until as
     well, which are indexed already: the index makes no update dearer that it does not hold. */
  `CREATE INDEX delivery_given_up_idx ON delivery (webhook_id, id) WHERE state IN ('failed', 'canceled')`,

  /* Which attempts were logged together, in the order of transactions: one row for each statement that logs attempts,
     however many they are. Streams of attempts follow it, and it is kept for a day. Ids compress badly, and most rows fit
     a page: they are written as they are. */
  `CREATE TABLE attempt_batch (
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    recorded_at timestamptz NOT NULL DEFAULT now(),
    webhook_ids integer[] NOT NULL,
    delivery_ids uuid[] NOT NULL,
    numbers integer[] NOT NULL,
    CHECK (cardinality(webhook_ids) > 0)
  ) WITH (toast_tuple_target = 8160)`,
  `ALTER TABLE attempt_batch ALTER webhook_ids SET STORAGE EXTERNAL, ALTER delivery_ids SET STORAGE EXTERNAL,
    ALTER numbers SET STORAGE EXTERNAL`,
  `CREATE INDEX attempt_batch_xid_idx ON attempt_batch (xid)`,
];
