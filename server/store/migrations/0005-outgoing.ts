import { Migration } from "@mikro-orm/migrations";

/** Messages that we send, how fast they may go, and what an endpoint's answer scheduled. */
export class OutgoingMigration extends Migration {
  override up(): void {
    for (const statement of statements) this.addSql(statement);
  }
}

const statements = [
  /* Outlives the log, so it is not partitioned. `delivery_id` and `position` (from 0) say which answer scheduled it; a
     message without them was sent by a call. content: JSON text of the Graph request's members that make the message;
     the recipient and our id are added when it is sent. ready_at: when it may be claimed; null = it waits for the one
     before it in its delivery. status: the furthest that WhatsApp reported. */
  `CREATE TABLE outgoing_message (
    id uuid PRIMARY KEY,
    tenant_id integer NOT NULL,
    client_id integer NOT NULL,
    number_id integer NOT NULL REFERENCES phone_number (id),
    phone text CHECK (phone ~ '^[0-9]{1,32}$'),
    bsuid text CHECK (length(bsuid) BETWEEN 1 AND 256),
    type text NOT NULL
      CHECK (type IN ('text', 'image', 'audio', 'video', 'document', 'location', 'template', 'reaction')),
    content text NOT NULL,
    callback_data text CHECK (length(callback_data) BETWEEN 1 AND 512),
    idempotency_key text CHECK (length(idempotency_key) BETWEEN 1 AND 200),
    webhook_id integer REFERENCES webhook (id),
    delivery_id uuid,
    position smallint CHECK (position BETWEEN 0 AND 19),
    state text NOT NULL CHECK (state IN ('scheduled', 'sending', 'sent', 'unknown', 'failed', 'canceled')),
    due_at timestamptz NOT NULL,
    ready_at timestamptz,
    leased_until timestamptz,
    attempt_count smallint NOT NULL DEFAULT 0 CHECK (attempt_count >= 0),
    wamid text CHECK (length(wamid) BETWEEN 1 AND 256),
    accepted_at timestamptz,
    is_published boolean NOT NULL DEFAULT false,
    status text CHECK (status IN ('sent', 'delivered', 'read', 'played', 'failed')),
    delivered_at timestamptz,
    read_at timestamptz,
    played_at timestamptz,
    reason text CHECK (reason ~ '^[a-z_]{1,64}$'),
    error_code integer,
    error_message text CHECK (length(error_message) <= 1000),
    created_at timestamptz NOT NULL,
    settled_at timestamptz,
    FOREIGN KEY (tenant_id, client_id) REFERENCES client (tenant_id, id),
    UNIQUE (delivery_id, position),
    CHECK (phone IS NOT NULL OR bsuid IS NOT NULL),
    CHECK ((webhook_id IS NULL) = (delivery_id IS NULL) AND (webhook_id IS NULL) = (position IS NULL)),
    CHECK ((wamid IS NULL) = (accepted_at IS NULL)),
    CHECK (status IS NULL OR wamid IS NOT NULL),
    CHECK (ready_at IS NULL OR state = 'scheduled'),
    CHECK ((leased_until IS NOT NULL) = (state = 'sending')),
    CHECK ((reason IS NOT NULL) = (state IN ('failed', 'canceled'))),
    CHECK ((settled_at IS NULL) = (state IN ('scheduled', 'sending'))),
    CHECK (NOT is_published OR state IN ('sent', 'failed')),
    CHECK (CASE state
      WHEN 'scheduled' THEN delivery_id IS NOT NULL AND wamid IS NULL
      WHEN 'sending' THEN attempt_count > 0
      WHEN 'sent' THEN wamid IS NOT NULL
      WHEN 'unknown' THEN wamid IS NULL AND attempt_count > 0
      WHEN 'canceled' THEN wamid IS NULL
      ELSE true END)
  )`,
  `CREATE INDEX outgoing_message_ready_idx ON outgoing_message (ready_at) WHERE state = 'scheduled'`,
  `CREATE INDEX outgoing_message_lease_idx ON outgoing_message (leased_until) WHERE state = 'sending'`,
  `CREATE INDEX outgoing_message_unpublished_idx ON outgoing_message (accepted_at)
    WHERE wamid IS NOT NULL AND NOT is_published`,
  `CREATE INDEX outgoing_message_webhook_idx ON outgoing_message (webhook_id) WHERE state = 'scheduled'`,
  `CREATE INDEX outgoing_message_number_idx ON outgoing_message (number_id) WHERE state = 'scheduled'`,
  `CREATE INDEX outgoing_message_wamid_idx ON outgoing_message (wamid) WHERE wamid IS NOT NULL`,
  `CREATE INDEX outgoing_message_phone_idx ON outgoing_message (client_id, phone) WHERE phone IS NOT NULL`,
  `CREATE INDEX outgoing_message_bsuid_idx ON outgoing_message (client_id, bsuid) WHERE bsuid IS NOT NULL`,
  `CREATE INDEX outgoing_message_tenant_idx ON outgoing_message (tenant_id, id) WHERE delivery_id IS NOT NULL`,
  `CREATE UNIQUE INDEX outgoing_message_idempotency_key ON outgoing_message (tenant_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL`,

  /* How fast a number and a pair of number and recipient may send, counted by all processes together: next_at is the
     time from which on the next message is free (a leaky bucket in one column). held_until: WhatsApp asked us to wait.
     stopped_*: why WhatsApp lets the number send nothing; it is tried again after held_until. */
  `CREATE TABLE sending_number (
    number_id integer PRIMARY KEY REFERENCES phone_number (id),
    next_at timestamptz NOT NULL DEFAULT '-infinity',
    held_until timestamptz NOT NULL DEFAULT '-infinity',
    stopped_reason text,
    stopped_at timestamptz,
    CHECK ((stopped_reason IS NULL) = (stopped_at IS NULL))
  ) WITH (fillfactor = 50)`,
  `CREATE TABLE sending_pair (
    number_id integer NOT NULL REFERENCES phone_number (id),
    recipient text NOT NULL CHECK (length(recipient) BETWEEN 1 AND 256),
    next_at timestamptz NOT NULL DEFAULT '-infinity',
    held_until timestamptz NOT NULL DEFAULT '-infinity',
    held_in_a_row smallint NOT NULL DEFAULT 0 CHECK (held_in_a_row >= 0),
    PRIMARY KEY (number_id, recipient)
  ) WITH (fillfactor = 50)`,

  /* Which rule an answer broke that wanted to schedule replies. */
  `ALTER TABLE attempt ADD COLUMN reply_fault text CHECK (reply_fault IS NULL OR outcome = 'succeeded')`,

  /* When an event that was nobody's got its client: its deliveries schedule no replies. */
  `ALTER TABLE event ADD COLUMN routed_at timestamptz`,
];
