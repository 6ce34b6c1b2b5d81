-- Which enrolments are not over, by their ids alone: each is somebody who has a seat, waits for approval or stands in line.
CREATE TABLE live_enrolments (
    enrolment_id uuid PRIMARY KEY,
    offering_id uuid NOT NULL REFERENCES offerings (id)
);
-- A retraction asks how many there are in a run.
CREATE INDEX live_enrolments_of_run ON live_enrolments (offering_id);

-- What a partner has retracted while people were enrolled, and has not decided yet. No row: nothing waits.
CREATE TABLE retractions (
    course_id uuid NOT NULL REFERENCES courses (id),
    offering_id uuid REFERENCES offerings (id),  -- none: the whole course
    reason text NOT NULL,
    event_id text NOT NULL,  -- the sender's own, by which it finds its retraction again
    asked_at timestamptz NOT NULL DEFAULT app_now(),
    -- Retracted again, it still waits for one decision.
    CONSTRAINT retraction_waits_once UNIQUE NULLS NOT DISTINCT (course_id, offering_id)
);
