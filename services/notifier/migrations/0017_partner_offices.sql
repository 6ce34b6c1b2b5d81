-- Partners' offices, which are told once a day by mail what has happened to their runs.
-- The notifier stands still while its tables get their index, so locks need not be avoided.
-- squawk-ignore-file require-concurrent-index-creation

-- An office is a recipient as a learner is: its address stands in `contacts`, and its mails in `notices`, by its id.
-- Another address is another id: who has an old mail of the one before can stop nothing.
CREATE TABLE partner_offices (
    partner text PRIMARY KEY,
    office_id uuid NOT NULL UNIQUE DEFAULT uuidv7(),
    told_until timestamptz NOT NULL DEFAULT app_now()  -- the hour of the last mail: the next is for an hour after it
);

-- What has happened and is not told: so many of a kind in one run, said in that minute.
CREATE TABLE partner_news (
    partner text NOT NULL,
    minute timestamptz NOT NULL,
    offering_id uuid NOT NULL,
    kind text NOT NULL,
    count integer NOT NULL,
    heard_at timestamptz NOT NULL,
    PRIMARY KEY (partner, minute, offering_id, kind),
    CONSTRAINT partner_news_kind CHECK (
        kind IN ('seated', 'queued', 'asked', 'withdrew', 'at_risk', 'on_hold', 'confirmed', 'cancelled')
    ),
    CONSTRAINT partner_news_count CHECK (count > 0)
);

-- Who waits for a partner's answer is counted for its mail, and is few of all.
CREATE INDEX enrolments_pending ON enrolments (offering_id) WHERE state = 'pending';
