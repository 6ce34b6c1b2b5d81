-- What each person has chosen to be told, how often and when; and notices that wait for their hour or are not sent.
-- The notifier stands still while its tables get their columns, so locks need not be avoided.
-- squawk-ignore-file require-concurrent-index-creation, require-concurrent-index-deletion
-- squawk-ignore-file constraint-missing-not-valid, ban-drop-constraint

-- Who may choose for a learner: a digest of the log-in by which they enrolled. It comes sealed with the contact; none
-- for those who were heard of before this column was there, until they enrol again.
ALTER TABLE contacts ADD COLUMN IF NOT EXISTS login text;
CREATE INDEX IF NOT EXISTS contacts_login ON contacts (login) WHERE login IS NOT NULL;

-- One choice that is not the usual one, of a person: `contacts.login`, or the learner's id while no log-in is known. Not
-- a column of contacts: a new contact must not undo it, and it may be made before the first contact has arrived.
CREATE TABLE preferences (
    person text NOT NULL,
    category text NOT NULL,
    channel text NOT NULL,
    cadence text NOT NULL,
    cadence_before text,      -- of a mail that was stopped by its link: what "undo" brings back
    updated_at timestamptz NOT NULL DEFAULT app_now(),
    PRIMARY KEY (person, category, channel),
    CONSTRAINT preferences_cadence CHECK (cadence IN ('at_once', 'daily', 'weekly', 'off')),
    -- Nobody can miss what became of the own seat.
    CONSTRAINT preferences_leave_seats_alone CHECK (category NOT IN ('seat', 'offer'))
);

-- When a person is not to be disturbed, in Oslo's time; both none: never quiet. No row: as the settings say.
CREATE TABLE quiet_hours (
    person text PRIMARY KEY,
    quiet_from time,
    quiet_until time,
    CONSTRAINT quiet_hours_both_or_none CHECK ((quiet_from IS NULL) = (quiet_until IS NULL)),
    CONSTRAINT quiet_hours_end CHECK (quiet_from <> quiet_until)  -- never, or always? Neither is meant
);

-- `held` waits for its hour (`due_at`), `suppressed` is not sent by the person's own choice; both say why.
ALTER TABLE notices DROP CONSTRAINT notices_state;
ALTER TABLE notices ADD CONSTRAINT notices_state
    CHECK (state IN ('due', 'held', 'sending', 'sent', 'deferred', 'failed', 'suppressed'));
ALTER TABLE notices ADD CONSTRAINT notices_held_with_reason
    CHECK (state NOT IN ('held', 'suppressed') OR reason IS NOT NULL);  -- an operator must see why not
DROP INDEX notices_open;
DROP INDEX notices_open_about;
-- As before, and the held ones in their place: they become due like any other.
CREATE INDEX notices_open ON notices (due_at, id) WHERE state IN ('due', 'deferred', 'held', 'sending');
CREATE INDEX notices_open_about ON notices (about, id) WHERE state IN ('due', 'deferred', 'held', 'sending');
