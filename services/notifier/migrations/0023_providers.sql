-- Who holds a course, and whom its learners may ask: what each mail about an enrolment ends with.
CREATE TABLE providers (
    partner text PRIMARY KEY,
    name text NOT NULL,
    contact text,             -- an office's address, phone or page; none when the partner has given none
    version integer NOT NULL
);
