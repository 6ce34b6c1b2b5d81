-- What courses are called, for the pages. Seats and lines do without: a run whose course is not here is shown by its date.
-- The consumer `titles` fills it. On a stack that ran before, it reads what the topic still holds (14 days), by itself;
-- a course that was last told of before that gets its name when its partner changes it next.

CREATE TABLE courses (
    id uuid PRIMARY KEY,
    code text NOT NULL,
    title jsonb NOT NULL,     -- language -> text
    version bigint NOT NULL   -- the catalogue's: what is older is not taken in again
);
