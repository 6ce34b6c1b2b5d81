-- What every service's database needs so that an event happens once. Knows nothing of what the events say.

-- The clock of every statement: the database's own, moved only by a test (the setting is empty otherwise).
CREATE FUNCTION app_now() RETURNS timestamptz
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN now() + coalesce(nullif(current_setting('kursnett.clock_offset', true), ''), '0')::interval;

-- Raised by one when the database is restored from a backup: numbers given out after the backup are given out again,
-- and listeners must be able to tell the second 41 from the first.
CREATE TABLE epoch (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),  -- one row only
    number integer NOT NULL
);
INSERT INTO epoch (number) VALUES (1);

-- The last number given to each aggregate. Its row lock makes number order and commit order the same.
CREATE TABLE outbox_sequence (
    aggregate text PRIMARY KEY,
    epoch integer NOT NULL,
    seq bigint NOT NULL
) WITH (fillfactor = 70);  -- updated in place for every event of an aggregate that lives long

-- What this service says. A row is written with its cause, published after commit, marked after the broker's ack
-- and kept two weeks, so that a topic can be filled again.
CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id uuid NOT NULL,
    aggregate text NOT NULL,
    epoch integer NOT NULL,
    seq bigint NOT NULL,
    topic text NOT NULL,
    key bytea,
    headers json,            -- none for our own events; a parked copy carries where it came from and why
    payload bytea NOT NULL,  -- published as it is: encoded once, in the transaction that caused it
    subject text,
    correlation_id text,
    created_at timestamptz NOT NULL DEFAULT app_now(),
    published_at timestamptz,
    CONSTRAINT outbox_numbers_are_unique UNIQUE (aggregate, epoch, seq)  -- two writers cannot both be number 7
);
-- The relay asks for what is unpublished, by this index: never "id above the last seen", which misses late commits.
CREATE INDEX outbox_unpublished ON outbox (id) WHERE published_at IS NULL;
-- Finds what is old enough to go; rows come in time order, so a block range is enough.
CREATE INDEX outbox_age ON outbox USING brin (created_at);

-- What this service has heard. The effect and this row are one transaction: an event has one effect.
CREATE TABLE inbox (
    consumer text NOT NULL,
    event_id text NOT NULL,
    digest bytea,  -- of what a stranger sent under this id: the same id with other words is refused, not dropped
    received_at timestamptz NOT NULL DEFAULT app_now(),
    CONSTRAINT inbox_has_each_event_once PRIMARY KEY (consumer, event_id)
);
CREATE INDEX inbox_age ON inbox USING brin (received_at);

-- The newest number heard of each aggregate: what comes later and is older has no effect.
CREATE TABLE inbox_position (
    consumer text NOT NULL,
    aggregate text NOT NULL,
    epoch integer NOT NULL,
    seq bigint NOT NULL,
    PRIMARY KEY (consumer, aggregate)
) WITH (fillfactor = 70);

-- What could not be handled, whole, until an operator lets it run again or discards it with a reason.
CREATE TABLE parked (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    consumer text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    key bytea,
    headers json NOT NULL,  -- [[name, base64 or null], ...]; json, because jsonb refuses a NUL in a name
    value bytea,
    event_id text,
    type text,
    reason text NOT NULL,  -- a code, for counting
    detail text NOT NULL,  -- the field and the rule, never the value
    state text NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT app_now(),
    closed_at timestamptz,
    closed_by text,
    closed_reason text,
    -- parked: failed, and holds its key back. held: came after it with the same key. refused: can never be right and
    -- holds nobody. redrive: an operator said "again". redriven, discarded: over.
    CONSTRAINT parked_state CHECK (state IN ('parked', 'held', 'refused', 'redrive', 'redriven', 'discarded')),
    CONSTRAINT parked_discarded_with_reason CHECK (state <> 'discarded' OR closed_reason IS NOT NULL),
    CONSTRAINT parked_each_record_once UNIQUE (consumer, topic, partition, "offset")  -- a record read twice parks once
);
-- Asked for every batch: is this key held back?
CREATE INDEX parked_holding ON parked (consumer, topic, key, id) WHERE state IN ('parked', 'held', 'redrive');

-- One relay at a time. Not an advisory lock: a stopped process would keep that for ever.
CREATE TABLE lease (
    name text PRIMARY KEY,
    holder text NOT NULL,
    term bigint NOT NULL,
    expires_at timestamptz NOT NULL
);

-- The operators' switch of each consumer, and the instant it was last asked to read again from.
CREATE TABLE consumer_switch (
    consumer text PRIMARY KEY,
    paused boolean NOT NULL DEFAULT false,
    reason text NOT NULL DEFAULT '',
    replay_from timestamptz,
    replay_asked_at timestamptz,
    changed_at timestamptz NOT NULL DEFAULT app_now()
);

-- The answer given under each Idempotency-Key, kept in the transaction of its effect.
CREATE TABLE idempotency (
    caller text NOT NULL,
    route text NOT NULL,
    key text NOT NULL,
    body_hash bytea NOT NULL,
    status smallint,  -- none while the first request is under way
    headers jsonb,
    body bytea,
    created_at timestamptz NOT NULL DEFAULT app_now(),
    CONSTRAINT idempotency_one_effect PRIMARY KEY (caller, route, key)
);
CREATE INDEX idempotency_age ON idempotency USING brin (created_at);
