-- What came in a file is noted beside what came over HTTP and Kafka.
-- squawk-ignore-file ban-drop-constraint, constraint-missing-not-valid
ALTER TABLE intake DROP CONSTRAINT intake_way;
ALTER TABLE intake ADD CONSTRAINT intake_way CHECK (way IN ('kafka', 'http', 'csv'));
