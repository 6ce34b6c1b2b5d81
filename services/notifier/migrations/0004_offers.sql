-- What single templates need besides place and number, by name: each template says which it wants, and fails without.
ALTER TABLE notices ADD COLUMN facts jsonb NOT NULL DEFAULT '{}';
-- Of an offer: when its seat goes to somebody else, after which nobody is to be told of it; and the tokens of its links,
-- which act for the learner and lie here only as they came, sealed. Emptied when there is no letter left to write.
ALTER TABLE notices ADD COLUMN expires_at timestamptz;
ALTER TABLE notices ADD COLUMN sealed text;

-- Other runs that the catalogue named when it cancelled this one.
ALTER TABLE offerings ADD COLUMN alternatives jsonb NOT NULL DEFAULT '[]';
-- The event by which the run was confirmed, and its time: who had a seat then is told.
ALTER TABLE offerings ADD COLUMN confirmed_by text;
ALTER TABLE offerings ADD COLUMN confirmed_at timestamptz;

-- Where each enrolment has come to, in enrolment's own words, so that what happens to an offering can be told to those
-- who have a seat in it.
CREATE TABLE enrolments (
    enrolment_id uuid PRIMARY KEY,
    learner_id uuid NOT NULL,
    offering_id uuid NOT NULL,
    state text NOT NULL,
    place text,
    since timestamptz,        -- since when it is in this state, by enrolment's clock
    epoch integer NOT NULL,   -- with seq: which of two states is the newer
    seq bigint NOT NULL
);
-- Whom to tell of an offering; those who have left it need no place here.
CREATE INDEX enrolments_seated ON enrolments (offering_id) WHERE state = 'associated';

-- Who had a seat before this table was there: the last notice about an enrolment tells.
INSERT INTO enrolments (enrolment_id, learner_id, offering_id, state, place, since, epoch, seq)
SELECT DISTINCT ON (about) about, learner_id, offering_id,
       CASE WHEN template IN ('enrolled', 'seat_from_line') THEN 'associated'
            WHEN template = 'queued' THEN 'queued' ELSE 'cancelled' END,
       CASE WHEN template IN ('enrolled', 'seat_from_line') THEN place END, created_at, 0, 0
FROM notices ORDER BY about, id DESC;
