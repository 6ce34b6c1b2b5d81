-- Who has a seat, who stands in line, and every step on the way. Addresses of people are nowhere here.

-- What the catalogue says of each run, as far as seats need it. Its row is also the lock of everything below it.
CREATE TABLE offerings (
    id uuid PRIMARY KEY,
    course_id uuid NOT NULL,
    partner text NOT NULL,
    version bigint NOT NULL,  -- the catalogue's: what is not newer is not taken in again
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    cancelled boolean NOT NULL DEFAULT false
);

CREATE TABLE places (
    offering_id uuid NOT NULL REFERENCES offerings (id),
    arena text NOT NULL,
    number integer NOT NULL,           -- the partner's order, for showing
    wanted_capacity integer NOT NULL,  -- what the catalogue says
    capacity integer NOT NULL,         -- the same, or what is taken when that is more: nobody is thrown out
    taken integer NOT NULL DEFAULT 0,
    open boolean NOT NULL DEFAULT true,  -- false: the catalogue names it no more; whoever sits there stays
    PRIMARY KEY (offering_id, arena),
    CONSTRAINT offering_not_oversold CHECK (taken <= capacity),  -- a seat is sold once, whatever the code believes
    CONSTRAINT places_taken_not_negative CHECK (taken >= 0)      -- a seat is given back once
);

-- People, as far as this service knows them: a random id for a login.
CREATE TABLE learners (
    id uuid PRIMARY KEY DEFAULT uuidv7(),
    issuer text NOT NULL,
    subject text NOT NULL,
    CONSTRAINT learners_one_for_each_login UNIQUE (issuer, subject)  -- one person does not become two in a race
);

CREATE TABLE enrolments (
    id uuid PRIMARY KEY DEFAULT uuidv7(),
    offering_id uuid NOT NULL REFERENCES offerings (id),
    learner_id uuid NOT NULL REFERENCES learners (id),
    state text NOT NULL,
    choices text[] NOT NULL,  -- arenas, best first
    place text,               -- where the seat is
    name text NOT NULL,       -- for the list of those who attend
    asked_at timestamptz NOT NULL DEFAULT app_now(),
    -- The order of the line. Drawn while the offering's row is locked, so within an offering it is the order of commits.
    queue_number bigint GENERATED ALWAYS AS IDENTITY,
    -- OOAPI's words, with offered and reserved of our own.
    CONSTRAINT enrolments_state CHECK (state IN
        ('pending', 'queued', 'offered', 'reserved', 'associated', 'denied', 'cancelled', 'finished')),
    -- A seat without a place could never be given back; who stands in line holds none.
    CONSTRAINT enrolments_seat_has_place CHECK (
        (state IN ('associated', 'offered', 'reserved') AND place IS NOT NULL)
        OR (state IN ('pending', 'queued', 'denied', 'cancelled') AND place IS NULL)
        OR state = 'finished'),
    CONSTRAINT enrolments_choices CHECK (cardinality(choices) BETWEEN 1 AND 3),
    CONSTRAINT enrolments_place_exists FOREIGN KEY (offering_id, place) REFERENCES places (offering_id, arena)
);
-- Nobody takes two seats, or stands twice in one line.
CREATE UNIQUE INDEX enrolments_one_live ON enrolments (offering_id, learner_id)
    WHERE state IN ('pending', 'queued', 'offered', 'reserved', 'associated');
-- The line of an offering, first in front: asked each time a seat is freed.
CREATE INDEX enrolments_line ON enrolments (offering_id, queue_number) WHERE state = 'queued';
-- A learner's own list.
CREATE INDEX enrolments_of_learner ON enrolments (learner_id, id);

-- Each step of each enrolment: what happened, and the proof that nobody was passed over.
CREATE TABLE enrolment_changes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    enrolment_id uuid NOT NULL REFERENCES enrolments (id),
    changed_at timestamptz NOT NULL DEFAULT app_now(),
    from_state text,  -- none for the first
    to_state text NOT NULL,
    place text,       -- the seat got, or the seat given up
    by_whom text NOT NULL,
    why text NOT NULL,
    -- The role, never a name or a login: the list outlives the person's data.
    CONSTRAINT enrolment_changes_by_whom CHECK (by_whom IN ('learner', 'line', 'catalogue'))
);
CREATE INDEX enrolment_changes_of_enrolment ON enrolment_changes (enrolment_id, id);
