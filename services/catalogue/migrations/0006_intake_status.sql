-- squawk-ignore-file require-concurrent-index-creation
-- Notes wait while the index is made: a second for a million of them.
-- A partner is judged by what came since it was last let go on: by time, and by the number of what lies in `parked`,
-- since what was kept back and then refused has the time of its second try.
ALTER TABLE partners
    ADD COLUMN state_since timestamptz NOT NULL DEFAULT '-infinity',
    ADD COLUMN counted_after bigint NOT NULL DEFAULT 0;

-- The sender's own id of an event, so that its program can find what became of it. None over HTTP and in files.
ALTER TABLE intake ADD COLUMN event_id text;
-- A partner reads what became of its own by time, newest first, together with what lies in `parked`.
CREATE INDEX intake_newest ON intake (partner, at DESC, id DESC);

-- How many seats of a run are taken and how many wait, as enrolment last said, and when it said so.
CREATE TABLE seat_counts (
    offering_id uuid PRIMARY KEY REFERENCES offerings (id),
    places jsonb NOT NULL,
    as_of timestamptz NOT NULL
);
