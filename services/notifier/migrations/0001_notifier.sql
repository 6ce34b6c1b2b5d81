-- What the notifier knows of courses and people, and every notice it owes or has sent.

-- How to reach a learner. Kept here only: it travels sealed, and no other service can read it.
CREATE TABLE contacts (
    learner_id uuid PRIMARY KEY,
    email text NOT NULL,
    name text,                -- none when the learner gave none
    language text NOT NULL,
    epoch integer NOT NULL,   -- with seq: which of two contacts is the newer, however late one of them comes
    seq bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT app_now()
);

CREATE TABLE courses (
    course_id uuid PRIMARY KEY,
    partner text NOT NULL,
    title jsonb NOT NULL,     -- {language: title}
    version bigint NOT NULL
);

CREATE TABLE offerings (
    offering_id uuid PRIMARY KEY,
    course_id uuid NOT NULL,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    version bigint NOT NULL,
    cancelled boolean NOT NULL DEFAULT false
);

-- One message to one learner. It is due at once, and waits while its contact, offering or course has not arrived:
-- topics are separate, so any of them may come last.
CREATE TABLE notices (
    id uuid PRIMARY KEY DEFAULT uuidv7(),
    event_id text NOT NULL,       -- what happened
    learner_id uuid NOT NULL,
    offering_id uuid NOT NULL,
    about uuid NOT NULL,          -- the enrolment it speaks of
    template text NOT NULL,
    channel text NOT NULL,
    place text,
    place_in_line integer,
    state text NOT NULL DEFAULT 'due',
    due_at timestamptz NOT NULL DEFAULT app_now(),
    attempts integer NOT NULL DEFAULT 0,
    message_id text,              -- given at the first attempt and never changed: a repeat is known by it
    reason text,                  -- a code: why it was deferred or failed the last time
    correlation_id text,
    traceparent text,
    created_at timestamptz NOT NULL DEFAULT app_now(),
    sending_since timestamptz,
    sent_at timestamptz,
    failed_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT app_now(),
    CONSTRAINT notices_once UNIQUE (event_id, learner_id, template),  -- an event heard twice, or replayed, tells once
    CONSTRAINT notices_state CHECK (state IN ('due', 'sending', 'sent', 'deferred', 'failed')),
    CONSTRAINT notices_failed_with_reason CHECK (state <> 'failed' OR reason IS NOT NULL),  -- nothing fails in silence
    CONSTRAINT notices_sent_with_id CHECK (state <> 'sent' OR message_id IS NOT NULL)  -- what was sent can be found
);
-- The sender asks for what is open several times a second; without it the table of all that was sent would be read.
CREATE INDEX notices_open ON notices (due_at, id) WHERE state IN ('due', 'deferred', 'sending');
-- Finds an older open notice about the same enrolment: "you have a seat" must not overtake "you stand in line".
CREATE INDEX notices_open_about ON notices (about, id) WHERE state IN ('due', 'deferred', 'sending');
