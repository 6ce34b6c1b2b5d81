-- Those in line are told how far up they have come, at most once a day.

ALTER TABLE enrolments
    ADD COLUMN place_told integer,          -- the place in line that its learner was last told; none: none was
    ADD COLUMN place_told_at timestamptz;   -- when that was last said because it had become better
-- When the line is to be told: set by the first step that moves it, none while nobody has moved since it was told.
ALTER TABLE offerings ADD COLUMN tell_line_at timestamptz;
