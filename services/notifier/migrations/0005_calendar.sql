-- Mails carry appointments, and tell what has changed about an offering: for both its meetings must be known.
-- The notifier stands still while its tables get their columns, so locks need not be avoided.
-- squawk-ignore-file require-concurrent-index-creation, require-concurrent-index-deletion

ALTER TABLE offerings
    ADD COLUMN sessions jsonb,  -- [{starts_at, ends_at, room}]; none: last heard before this column was there
    ADD COLUMN arenas text[];   -- where one can attend; none likewise

-- Which version of its appointment the mail of this notice carries: from 0, counted for each enrolment.
ALTER TABLE notices ADD COLUMN sequence integer;
-- Of two versions with one number a calendar would keep either.
CREATE UNIQUE INDEX notices_sequence ON notices (about, sequence) WHERE sequence IS NOT NULL;

-- Whom to tell of an offering: all who sit there, are offered a seat or stand in line.
CREATE INDEX enrolments_live ON enrolments (offering_id) WHERE state IN ('associated', 'offered', 'queued');
DROP INDEX enrolments_seated;
