-- The run of which something was taken, none for a course: what was kept back must not undo a newer word of the same.
ALTER TABLE intake ADD COLUMN key text;
