-- Where partners want to be told what happens to their courses, and each telling that is owed or was made.

CREATE TABLE webhooks (
    id uuid PRIMARY KEY DEFAULT uuidv7(),
    partner text NOT NULL,
    url text NOT NULL,
    events text[] NOT NULL,           -- types of events or their names; '*' for all
    state text NOT NULL DEFAULT 'on',
    reason text,                      -- a code: why it is off
    secret text NOT NULL,             -- sealed for this service: who has only the database cannot sign
    old_secret text,                  -- … and signs too until then, so that the partner can change over in its own time
    old_secret_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT app_now(),
    -- Since when nobody was reached there, and how often in a row: one that stays away is asked more and more seldom.
    failing_since timestamptz,
    failures integer NOT NULL DEFAULT 0,
    rests_until timestamptz NOT NULL DEFAULT '-infinity',
    CONSTRAINT webhooks_state CHECK (state IN ('on', 'off', 'deleted')),
    CONSTRAINT webhooks_off_with_reason CHECK (state <> 'off' OR reason IS NOT NULL)  -- a partner must see why
);
-- Each batch of events asks which of its partners want to be told.
CREATE INDEX webhooks_of_partner ON webhooks (partner) WHERE state <> 'deleted';

-- One event for one webhook. The order of ids is the order of what happened, within each key.
CREATE TABLE webhook_deliveries (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    webhook_id uuid NOT NULL REFERENCES webhooks,
    event_id text NOT NULL,
    type text NOT NULL,
    key text NOT NULL,                -- what has the same key goes one after the other
    body bytea NOT NULL,              -- as it is sent, the same bytes at every attempt
    state text NOT NULL DEFAULT 'pending',
    owed_at timestamptz NOT NULL DEFAULT app_now(),   -- tried for three days from here; a replay sets it anew
    due_at timestamptz NOT NULL DEFAULT app_now(),
    attempts integer NOT NULL DEFAULT 0,              -- ever
    failures integer NOT NULL DEFAULT 0,              -- since it was owed: how long the next pause is
    status_code integer,              -- of the last answer
    reason text,                      -- a code: what was wrong the last time
    sending_since timestamptz,
    delivered_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT app_now(),
    updated_at timestamptz NOT NULL DEFAULT app_now(),
    correlation_id text,
    traceparent text,
    CONSTRAINT webhook_deliveries_once UNIQUE (webhook_id, event_id),  -- an event heard twice, or replayed, is owed once
    CONSTRAINT webhook_deliveries_state CHECK (state IN ('pending', 'sending', 'delivered', 'deferred', 'failed')),
    CONSTRAINT webhook_deliveries_failed_with_reason CHECK (state <> 'failed' OR reason IS NOT NULL)
);
-- The worker asks several times a second what is due for each webhook; the log of what was delivered is long.
CREATE INDEX webhook_deliveries_open ON webhook_deliveries (webhook_id, due_at, id)
    WHERE state IN ('pending', 'deferred', 'sending');
-- Finds an older open one with the same key, which goes first.
CREATE INDEX webhook_deliveries_open_key ON webhook_deliveries (webhook_id, key, id)
    WHERE state IN ('pending', 'deferred', 'sending');
-- The partner's log, newest first.
CREATE INDEX webhook_deliveries_log ON webhook_deliveries (webhook_id, id);
-- What became of one event, for an operator's timeline.
CREATE INDEX webhook_deliveries_of_event ON webhook_deliveries (event_id);
-- What is old is deleted, some rows at a time.
CREATE INDEX webhook_deliveries_age ON webhook_deliveries (created_at);
