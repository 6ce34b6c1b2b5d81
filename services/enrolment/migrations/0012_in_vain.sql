-- Who waits when enrolment closes for good is told so, once.

-- When its learner was last told that no seat came; told again only where enrolment was opened anew and has closed since.
ALTER TABLE enrolments ADD COLUMN no_seat_told_at timestamptz;

-- Runs that are here have no timer for that hour. One that has passed is due at once.
INSERT INTO timers (offering_id, due_at)
SELECT id, coalesce((rules ->> 'late_enrolment_until')::timestamptz, starts_at) FROM offerings
WHERE NOT cancelled AND ends_at > app_now();
