-- Who has asked to be forgotten. A row has no more of them than a random id that nothing else knows any more, and stays:
-- by it a database that is put back from an older backup forgets them again.

CREATE TABLE erasures (
    request_id uuid PRIMARY KEY DEFAULT uuidv7(),
    learner_id uuid NOT NULL,
    asked_at timestamptz NOT NULL DEFAULT app_now(),
    by_whom text NOT NULL,
    waits_for text[] NOT NULL,           -- the services that have not answered yet
    counts jsonb NOT NULL DEFAULT '{}',  -- service -> what -> how many rows it deleted
    done_at timestamptz,
    CONSTRAINT erasures_by_whom CHECK (by_whom IN ('learner', 'operator', 'restore')),
    CONSTRAINT erasures_done_when_all_have_answered CHECK ((done_at IS NOT NULL) = (waits_for = '{}'))
);
CREATE INDEX erasures_of_learner ON erasures (learner_id);  -- a second asking, and a restore, look for the first

-- Whose enrolments are that were somebody's who was forgotten: nobody's, and all of them the same nobody's. No log-in has
-- an issuer without a name.
INSERT INTO learners (id, issuer, subject) VALUES ('00000000-0000-0000-0000-000000000000', '', '');
